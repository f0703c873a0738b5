"""What all tests share: places in a temporary folder, a tiny phantom, one tiny run, the command."""

import builtins
import io
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import medvision.files as files
import medvision.trust.integrity as integrity

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is there: tests run side by side

import pytest
import torch
from torch import Tensor, nn

from medvision.data.formats import decode as decoding
from medvision.model import Model, save_model
from medvision.runs import Run
from medvision.seen import Seen

TINY = (
    "data.reader.size=[32,32]", "data.reader.window=[-100,200]", "data.batch_size=16",
    "data.workers=1", "data.min_steps=1", "model.net.widths=[8,16]", "trainer.max_epochs=3",
    "keep=best", "threads=1",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs of a machine from all tests but `pytest -m gpu`: the same on every machine."""
    asked = config.option.markexpr
    if "gpu" not in asked or "not gpu" in asked:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


class Outcome(NamedTuple):
    """What a user sees of a command."""

    status: int
    out: str
    err: str


Medvision = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep key, cache and runs out of the user's own, in this process and its children."""
    top = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVISION_KEY", str(top / "key"))
        patch.setenv("MEDVISION_CACHE", str(top / "cache"))
        patch.setenv("MEDVISION_RUNS", str(top / "runs"))
        patch.delenv("MEDVISION_DATA", raising=False)
        yield top


def run_here(*words: str | Path) -> Outcome:
    """Run a command in this process; an error that would be a traceback is raised."""
    from hydra.core.global_hydra import GlobalHydra

    from medvision.__main__ import main

    out, err, status = StringIO(), StringIO(), 0
    argv, handlers = sys.argv, {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    GlobalHydra.instance().clear()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main([str(word) for word in words])
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.argv = argv
        GlobalHydra.instance().clear()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Outcome(status, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def medvision() -> Medvision:
    """`medvision("train", "seed=1")` → (exit status, stdout, stderr)."""
    return run_here


@pytest.fixture(scope="session")
def phantom(places: Path, medvision: Medvision) -> Path:
    """The manifest of 40 easy patients with 4 slices of 32 x 32 each, not split."""
    folder = places / "phantom"
    done = medvision(
        "prepare", "source=phantom", f"output={folder}",
        "patients=40", "slices=4", "size=32", "difficulty=0",
    )  # fmt: skip
    assert done.status == 0, done.err
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def tiny(phantom: Path) -> tuple[str, ...]:
    """The words of a training of seconds on the tiny phantom."""
    return ("train", "data=manifest", f"data.manifest={phantom}", *TINY)


@pytest.fixture(scope="session")
def trained(places: Path, medvision: Medvision, tiny: tuple[str, ...]) -> Path:
    """The folder of a finished tiny run, in the runs folder of the session."""
    done = medvision(*tiny, "name=tiny")
    assert done.status == 0, done.err
    (folder,) = (p for p in (places / "runs" / "tiny").iterdir() if p.is_dir())
    return folder


@pytest.fixture(scope="session")
def sign_again() -> Callable[[Path], Path]:
    """`sign_again(folder)`: this user made the run as it is now, whatever was edited in it."""
    return sign_as_own


def sign_as_own(folder: Path) -> Path:
    """Write digests of a run's files as they are, under the key of the tests."""
    record = integrity.read_record(folder) | {"digests": integrity.digest_files(folder)}
    files.write_json(folder / integrity.RECORD, integrity.sign(record, {}))
    return folder


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give one test a cache and a runs folder of its own; return the runs folder."""
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDVISION_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def dots() -> Iterator[None]:
    """Save each figure as a dot: half of the time of so small a training, where nobody looks."""
    from matplotlib.figure import Figure
    from PIL import Image

    def save(figure: Figure, path: Path, *arguments: Any, **named: Any) -> None:
        Image.new("RGB", (8, 8)).save(path, format="PNG")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        patch.setattr(Figure, "draw_without_rendering", lambda figure: None)
        yield


@pytest.fixture
def as_read(trained: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go into a folder as the documentation has it: `prepared`, `FOLDER`, and a run `mine`."""
    shutil.copytree(phantom.parent, tmp_path / "prepared")
    shutil.copytree(phantom.parent / "images", tmp_path / "FOLDER")
    shutil.copytree(trained, tmp_path / "runs" / "mine" / "seed=0")
    monkeypatch.chdir(tmp_path)
    for name in ("MEDVISION_RUNS", "MEDVISION_CACHE"):
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def full_disk() -> Callable[[str], AbstractContextManager[None]]:
    """`with full_disk(".last.ckpt"):` the disk is full for files whose names begin so."""

    @contextmanager
    def fill(name: str) -> Iterator[None]:
        plain = builtins.open

        def open_full(file: Any, mode: str = "r", *others: Any, **named: Any) -> Any:
            writes = isinstance(file, str | bytes | os.PathLike) and set("wax+") & set(mode)
            if writes and Path(os.fsdecode(file)).name.startswith(name):
                return plain("/dev/full", mode, *others, **named)
            return plain(file, mode, *others, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(builtins, "open", open_full)
            patch.setattr(io, "open", open_full)
            yield

    return fill


class TinyGenerator(nn.Module):
    """Stands for a generator: noise and class in, tanh of a linear map out."""

    def __init__(self, size: int, in_channels: int, num_classes: int, latent: int = 6) -> None:
        super().__init__()
        self.latent, self.shape = latent, (in_channels, size, size)
        self.embed = nn.Embedding(num_classes, latent)
        self.paint = nn.Linear(latent, in_channels * size * size)

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        image = torch.tanh(self.paint(noise + 2 * self.embed(label)))
        return image.reshape(-1, *self.shape)


PASSED = {"passed": True, "score": 0.81, "spaces": ["random"], "reasons": []}


def plant_generator(
    folder: Path, seen: Seen, contract: dict[str, Any], gate: dict[str, Any] | None = PASSED,
    classes: Sequence[str] = ("healthy", "lesion"),
) -> Path:  # fmt: skip
    """Write a run folder as a training of a generator leaves it."""
    torch.manual_seed(0)
    config = {
        "_target_": f"{__name__}.TinyGenerator", "size": contract["size"][0],
        "in_channels": contract["channels"], "num_classes": len(classes),
    }  # fmt: skip
    net = TinyGenerator(*list(config.values())[1:]).eval()
    target = {"classes": [*classes], "kind": "binary", "negative": None, "rename": {}}
    inputs = {"reader": contract, "unit": None, "tabular": None}
    model = Model(net, config, "generation", target, inputs, seen=seen, gate=gate)
    save_model(model, folder / "model.pt")
    Run(folder).note(
        status="done", task="generation", kind="generator", started=files.today(),
        digests=integrity.digest_files(folder),
    )  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def generator() -> Callable[..., Path]:
    """`generator(folder, seen, contract, gate)` writes the run folder of a tiny generator."""
    return plant_generator


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the images that are decoded, by their file's name."""
    counts: Counter[str] = Counter()
    tidy = decoding.tidy

    def tidy_and_count(path: Path, pixels: Any) -> Any:
        counts.update([path.name])
        return tidy(path, pixels)

    monkeypatch.setattr(decoding, "tidy", tidy_and_count)
    return counts
