"""What all tests share: places in a temporary folder, a tiny phantom, one tiny run, the command."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is there: tests run side by side

import pytest

TINY = (
    "data.reader.size=[32,32]", "data.reader.window=[-100,200]", "data.batch_size=16",
    "data.workers=1", "model.net.widths=[8,16]", "trainer.max_epochs=3", "threads=1",
)  # fmt: skip


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


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give one test a cache and a runs folder of its own; return the runs folder."""
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDVISION_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"
