"""Show a run in both READMEs: the table it prints, and pictures of its report and of TensorBoard.

    python docs/pictures.py RUN

RUN is a run folder, such as that of `make demo`; its report is written anew and shown as it opens,
TensorBoard with four of its curves. Needs Chromium.
"""

import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from PIL import Image

HERE = Path(__file__).parent
PAGES = ("README.md", "README.zh-CN.md")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LARGEST = 250_000  # bytes
PATIENCE_S = 90
TRIES = 3
# The tab SCALARS, whose curves need no graphics card to be drawn, as they were logged.
CURVES = "?darkMode=false#scalars&_smoothingWeight=0&tagFilter="
SHOWN = "^(train|val)/(loss|auroc)$"


def main(run: str) -> None:
    """Write the table into both READMEs and take both pictures."""
    folder = Path(run).absolute()
    fill = runpy.run_path(str(HERE.parent / "experiments" / "ledger.py"))["fill"]
    for page in PAGES:
        fill(HERE.parent / page, "table", ["```", *print_table(folder), "```"])
    take(f"file://{folder / 'report.html'}", HERE / "report.png", (1000, 1450))
    with serve(folder.parent) as address:
        take(f"{address}/{CURVES}{quote(SHOWN)}", HERE / "tensorboard.png", (1100, 740))


def print_table(folder: Path) -> list[str]:
    """Return what `medvision report` prints before it tells where the report is."""
    told = subprocess.run(
        [sys.executable, "-m", "medvision", "report", f"run={folder}"],
        capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "100"},
    )  # fmt: skip
    return [line.rstrip() for line in told.stdout.partition("report:")[0].splitlines() if line]


def take(address: str, picture: Path, size: tuple[int, int]) -> None:
    """Take a picture of a page, in as many colours as the largest file allows."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"no browser was found; install one of {', '.join(BROWSERS)}")
    picture.unlink(missing_ok=True)
    for _ in range(TRIES):  # a page that loads as it goes keeps a browser waiting at times
        with tempfile.TemporaryDirectory() as profile, suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [browser, "--headless=new", "--disable-gpu", "--hide-scrollbars",
                 *(["--no-sandbox"] if os.geteuid() == 0 else []),
                 f"--user-data-dir={profile}", f"--screenshot={picture}",
                 f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=20000", address],
                check=True, capture_output=True, timeout=PATIENCE_S,
            )  # fmt: skip
        if picture.exists():
            break
    else:
        sys.exit(f"no picture of {address} in {TRIES} times {PATIENCE_S} s; try once more")
    image = Image.open(picture).convert("RGB")
    for colours in (256, 128, 64, 32):
        image.quantize(colours).save(picture, optimize=True)
        if picture.stat().st_size <= LARGEST:
            break
    print(f"{picture.name}: {picture.stat().st_size // 1000} kB, {colours} colours")


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve the runs of a folder by TensorBoard until the block ends; yield its address."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    board = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", folder.name, "--port", str(port)],
        cwd=folder.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        address, end = f"http://localhost:{port}", time.monotonic() + PATIENCE_S
        while not answers(f"{address}/data/runs"):
            if board.poll() is not None or time.monotonic() > end:
                sys.exit("TensorBoard did not start; try: tensorboard --logdir RUN")
            time.sleep(0.5)
        yield address
    finally:
        board.terminate()
        board.wait()


def answers(address: str) -> bool:
    """Does TensorBoard know its runs already?"""
    try:
        with urlopen(address) as page:
            return len(page.read()) > len("[]")
    except OSError:
        return False


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
