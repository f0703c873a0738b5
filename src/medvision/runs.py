"""Identity and content of a run folder: content in the path, no time in it.

    runs/<name>/<key>/    key = the job's overrides, readable, + 8 hex of what decides the result

The same command is the same folder, so resuming, skipping and repeating follow from the path.
"""

import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import medvision.files as files
from medvision.errors import MedvisionError

# Places, comforts, and what only opens the test part: none of them changes the trained model.
PLACES = (
    "name", "rerun", "test", "allocator", "model.weights", "data.manifest", "data.source",
    "data.extra", "data.workers", "data.residency", "trainer.enable_progress_bar",
)  # fmt: skip
PACKAGES = ("medvision", "torch", "torchvision", "pytorch-lightning", "torchmetrics",
            "hydra-core", "numpy", "opencv-python-headless")  # fmt: skip

Status = Literal["running", "done", "failed", "interrupted"]


@dataclass(frozen=True)
class Run:
    """One run folder; every path in it has one name here."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "model.pt"

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.csv"

    @property
    def last_checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def best_checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "best.ckpt"

    @property
    def checkpoints(self) -> tuple[Path, Path]:
        return self.best_checkpoint, self.last_checkpoint

    def predictions(self, part: str) -> Path:
        return self.folder / "predictions" / f"{part}.csv"

    @property
    def record(self) -> dict[str, Any]:
        """The content of `record.json`, empty where there is none yet."""
        path = self.folder / "record.json"
        return dict(files.read_json(path)) if path.exists() else {}

    def note(self, **facts: Any) -> None:
        """Add or replace facts in `record.json`."""
        files.write_json(self.folder / "record.json", self.record | facts)

    @property
    def status(self) -> Status | None:
        status: Status | None = self.record.get("status")
        return status


def run_key(overrides: Sequence[str], config: Mapping[str, Any], digests: Sequence[str]) -> str:
    """Name a job: its overrides for people, a digest of what decides its result for certainty.

    Args:
        overrides: the job's `key=value` words; places and comforts are left out of the name.
        config: the resolved config as plain containers.
        digests: of the manifests and weight files the job reads, in place of their paths.
    """
    said = sorted(word.lstrip("+") for word in overrides)
    telling = [word for word in said if not _is_place(word.lstrip("~").split("=", 1)[0])]
    essence = _without(config, PLACES)
    code = files.digest(json.dumps(essence, sort_keys=True, default=str), *digests)[:8]
    words = files.file_safe(",".join(telling))
    return f"{words}-{code}" if words else code


def _is_place(key: str) -> bool:
    return key == "experiment" or any(key == p or key.startswith(p + ".") for p in PLACES)


def _without(config: Mapping[str, Any], keys: Sequence[str], prefix: str = "") -> dict[str, Any]:
    kept = {}
    for key, value in config.items():
        if prefix + key in keys:
            continue
        nested = isinstance(value, Mapping)
        kept[key] = _without(value, keys, f"{prefix}{key}.") if nested else value
    return kept


@contextmanager
def claimed(run: Run) -> Iterator[None]:
    """Keep every other process out of the run folder.

    Raises:
        MedvisionError: another process is at work in it.
    """

    def refuse() -> None:
        raise MedvisionError(
            f"another process is working in {run.folder}; wait for it, or give this run a name="
        )

    with files.locked(run.folder.parent / f".{run.folder.name}.lock", on_wait=refuse):
        yield


def settle(run: Run, rerun: bool) -> Literal["new", "resume", "done"]:
    """Decide what the same command means now, moving a failed or repeated run aside.

    Unfinished and resumable → `resume`; finished → `done`; everything else → `new`. Openings of the
    test part are remembered by the new run: moving a folder does not make them unhappen.
    """
    status, openings = run.status, run.record.get("test_openings", [])
    if status == "done" and not rerun:
        return "done"
    if status == "failed" or (status is not None and rerun):
        places = (run.folder.with_name(f"{run.folder.name}~{n}") for n in range(1, 10_000))
        run.folder.rename(next(place for place in places if not place.exists()))
    elif run.last_checkpoint.exists():
        return "resume"
    elif run.folder.exists():
        shutil.rmtree(run.folder)  # stopped before its first epoch ended: nothing to keep
    if openings:
        run.note(test_openings=openings)
    return "new"


def find_run(name: str | Path) -> Run:
    """Find a run by path, by `last`, or by a unique prefix of `<name>/<key>`, `<name>` or `<key>`.

    Raises:
        MedvisionError: no run, or several, answer to the name.
    """
    typed = Path(name).expanduser()
    if (typed / "record.json").exists():
        return Run(typed.resolve())
    root = files.runs_folder()
    known = sorted(p.parent for p in root.glob("*/*/record.json") if "~" not in p.parent.name)
    known = [p for p in known if not p.parent.name.startswith("_")]
    if not known:
        raise MedvisionError(f"there is no run under {root}; train one first: medvision train")
    if str(name) == "last":
        finished = [p for p in known if Run(p).status == "done"]
        return Run(max(finished or known, key=lambda p: str(Run(p).record.get("started", ""))))
    exact = [p for p in known if str(name) in (p.name, f"{p.parent.name}/{p.name}")]
    near = exact or [
        p for p in known if f"{p.parent.name}/{p.name}".startswith(str(name))
        or p.name.startswith(str(name))
    ]  # fmt: skip
    if len(near) == 1:
        return Run(near[0])
    names = ", ".join(f"{p.parent.name}/{p.name}" for p in (near or known)[:5])
    problem = "names several runs" if near else "names no run"
    raise MedvisionError(f"run={name} {problem} under {root}; give a path or one of: {names}")


def describe_process(seed: int) -> dict[str, Any]:
    """Return what a repeat needs: command, versions, machine, threads, state of the code."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else name_processor()
    return {
        "command": command_line(),
        "started": files.today(),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "device": device,
        "system": platform.platform(),
        "code": describe_code(),
    }


def command_line() -> str:
    """Return the command as it was typed (in a sweep, as the sweep was)."""
    return os.environ.get("MEDVISION_COMMAND") or shlex.join(["medvision", *sys.argv[1:]])


def name_processor() -> str:
    """Name the processor as a person would."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return f"{names[0]} ({len(names)} cores)"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def describe_code() -> dict[str, Any]:
    """Return the digest of medvision's own sources, and the commit where they lie in a checkout."""
    package = Path(__file__).parent
    sources = sorted(p for p in package.rglob("*.py"))
    state: dict[str, Any] = {"digest": files.digest(*(p.read_bytes() for p in sources))[:16]}
    ask = ["git", "-C", str(package)]
    try:
        commit = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True)
        if commit.returncode == 0:
            changed = subprocess.run(
                [*ask, "status", "--porcelain", "--", "."], capture_output=True, text=True
            )
            state |= {"commit": commit.stdout.strip(), "changed": bool(changed.stdout.strip())}
    except OSError:  # no git on this machine
        pass
    return state


def cost(start: float) -> dict[str, float]:
    """Return wall time since `start` (`time.perf_counter()`) and the process's peak memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scale = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "peak_memory_mb": round(peak * scale / 2**20),
    }


def record_opening(run: Run, model_digest: str) -> None:
    """Write down that the test part was looked at: a second look is allowed, never hidden."""
    opening = {
        "date": files.today(),
        "model": model_digest[:16],
        "command": command_line(),
    }
    run.note(test_openings=[*run.record.get("test_openings", []), opening])


def is_interactive() -> bool:
    """Tell whether a person watches the terminal."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
