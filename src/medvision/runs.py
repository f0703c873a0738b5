"""Identity and content of a run folder: content in the path, no time in it.

    runs/<name>/<key>/    key = the job's overrides, readable, + 8 hex of what decides the result

The same command is the same folder, so resuming, skipping and repeating follow from the path.
A sweep is the folder `runs/<name>/`; what concerns several runs lies under `runs/_joint/`.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import medvision.files as files
import medvision.trust.integrity as integrity
from medvision.errors import MedvisionError, printable
from medvision.moved import rename_targets

# Places, comforts, and what only opens the test part: none of them changes the trained model
# (`threads` its last digits on a CPU).
PLACES = (
    "name", "tags", "logger", "rerun", "test", "trust", "threads", "allocator", "model.weights",
    "data.manifest", "data.source", "data.carry", "data.extra", "data.workers", "data.residency",
    "trainer.enable_progress_bar", "trainer.log_every_n_steps", "log_graph", "report",
    "judge.run", "judge.inception", "different_patients", "data.different_patients",
)  # fmt: skip

REPEATED = ("seed", "data.seed", "data.fold", "data.split_seed")
"""What makes another repeat of one setting."""

_Status = Literal["running", "done", "failed", "interrupted"]


@dataclass(frozen=True)
class Run:
    """One run folder; every path in it has one name here."""

    folder: Path

    @property
    def title(self) -> str:
        """The run as people name it: `<name>/<key>`."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def model(self) -> Path:
        return self.folder / "model.pt"

    @property
    def frozen(self) -> bool:
        """Whether training has ended and its model is there, of a run that need not be done."""
        digest = self.record.get("model")
        return self.model.exists() and digest == files.digest_file(self.model)

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

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
        return integrity.read_record(self.folder)

    def note(self, **facts: Any) -> None:
        """Add or replace facts in `record.json`, under the user's key if it is the user's own."""
        before = self.record
        files.write_json(self.folder / integrity.RECORD, integrity.sign(before | facts, before))

    @property
    def signature(self) -> integrity.Signature:
        """Whose the run is, see `integrity`."""
        return integrity.find_signature(self.record)

    @property
    def stamp(self) -> str:
        """What every table says of a run that is not this user's own; "" of their own."""
        return integrity.STAMPS.get(self.signature, "")

    @contextmanager
    def rewriting(self, *parts: str) -> Iterator[None]:
        """Write the predictions of some parts of a finished run anew, and its scores.

        Their digests are dropped before and taken after, so that a stop between is noticed.
        """
        digests = self.record.get("digests")
        if digests is None:  # of a run of before: what was never written down stays so
            yield
            return
        kept = integrity.without_scores(digests, parts)
        self.note(digests=kept)
        yield
        self.note(digests=integrity.digest_files(self.folder, model=False) | kept)

    @property
    def status(self) -> _Status | None:
        status: _Status | None = self.record.get("status")
        return status

    @property
    def settings(self) -> list[str]:
        """What was chosen for it, as one name; none where its record is of before."""
        return [self.record["setting"]] if "setting" in self.record else []

    @property
    def lock(self) -> Path:
        return self.folder.parent / f".{self.folder.name}.lock"

    @property
    def alive(self) -> bool:
        """Whether a process is at work in the folder now."""
        return files.is_locked(self.lock)


def run_key(overrides: Sequence[str], config: Mapping[str, Any], digests: Sequence[str]) -> str:
    """Name a job: its overrides for people, a digest of what decides its result for certainty.

    Args:
        overrides: the job's `key=value` words; places and comforts are left out of the name.
        config: the resolved config as plain containers.
        digests: of the manifests and weight files the job reads, in place of their paths.
    """
    # What is off decides nothing; `auto` is settled before a run is named.
    compiled = config.get("compile", False) not in (False, "auto")
    places = PLACES if compiled else (*PLACES, "compile")
    # Short words first: what a sweep varies then survives the cut, and long lists do not.
    said = sorted((word.lstrip("+") for word in overrides), key=lambda word: (len(word), word))
    telling = [word for word in said if not is_place(word.lstrip("~").split("=", 1)[0], places)]
    essence = rename_targets(_without(config, places))  # wherever a class of ours lives
    code = files.digest(json.dumps(essence, sort_keys=True, default=str), *digests)[:8]
    words = files.file_safe(",".join(telling))
    return f"{words}-{code}" if words else code


def name_folder(name: object) -> Path:
    """Return `runs/<name>`, where the runs of a command lie.

    Raises:
        MedvisionError: the name leads elsewhere, or is kept for what concerns several runs, or for
            runs that were moved aside.
    """
    text = str(name)
    if text != printable(text) or re.search(r"^$|^[._]|[/\\~*?\[\]\n]", text):
        raise MedvisionError(
            f"name={text} cannot name a folder under {files.runs_folder()}; take a word without "
            "/ \\ ~ * ? [ ], not beginning with a dot or _"
        )
    return files.runs_folder() / text


def is_place(key: str, places: Sequence[str] = PLACES) -> bool:
    """Tell a place or a comfort from what decides a result."""
    return key == "experiment" or any(key == p or key.startswith(p + ".") for p in places)


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

    with files.locked(run.lock, on_wait=refuse):
        files.remove_asides(run.folder)
        yield


def prepare_folder(run: Run, rerun: bool) -> Literal["new", "resume", "done"]:
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
    elif run.last_checkpoint.exists() or run.frozen:
        return "resume"
    elif run.folder.exists():
        shutil.rmtree(run.folder)  # stopped before its first epoch ended: nothing to keep
    if openings:
        run.note(test_openings=openings)
    return "new"


def find_run(name: str | Path) -> Run:
    """Find a run by path, by `last`, or by a unique prefix of `<name>/<key>`, `<name>` or `<key>`.

    Its `model.pt` stands for the folder.

    Raises:
        MedvisionError: no run, or several, answer to the name.
    """
    typed = Path(name).expanduser()
    typed = typed.parent if typed.name == "model.pt" else typed
    if (typed / integrity.RECORD).exists():
        return Run(typed.resolve())
    known = _known_runs()
    if str(name) == "last":
        finished = [run for run in known if run.status == "done"]
        return max(finished or known, key=lambda run: str(run.record.get("started", "")))
    exact = [run for run in known if str(name) in (run.folder.name, run.title)]
    near = exact or [run for run in known if run.title.startswith(str(name))
                     or run.folder.name.startswith(str(name))]  # fmt: skip
    if len(near) == 1:
        return near[0]
    names = ", ".join(run.title for run in (near or known)[:5])
    problem = "names several runs" if near else "names no run"
    raise MedvisionError(
        f"run={name} {problem} under {files.runs_folder()}; give a path or one of: {names}"
    )


def find_run_around(place: str | Path) -> Run | None:
    """Find the run folder that a file or a folder lies in; None where it lies in none."""
    path = Path(place).expanduser().absolute()
    around = (Run(folder) for folder in (path, *path.parents))
    return next((run for run in around if run.manifest.exists() and "status" in run.record), None)


def find_runs(name: str | Path) -> list[Run]:
    """Find the runs of a sweep, by its folder, its name, or a pattern such as `lr_sweep/*seed=1*`.

    What names one run is that run alone. Runs that were moved aside (`~`) are left out.

    Raises:
        MedvisionError: nothing answers to the name.
    """
    typed, root = Path(name).expanduser(), files.runs_folder()
    if (typed / integrity.RECORD).exists():
        return [Run(typed.resolve())]
    for folder in (typed.resolve(), root / name):
        if folder.is_dir() and (found := [*_runs_in(folder.parent, f"{folder.name}/*")]):
            return found
    if "*" in str(name) and (found := [*_runs_in(root, str(name).rstrip("/"))]):
        return found
    return [find_run(name)]


def list_runs() -> list[Run]:
    """List every run there is, by the alphabet."""
    return [*_runs_in(files.runs_folder(), "*/*")]


def _known_runs() -> list[Run]:
    """List every run there is.

    Raises:
        MedvisionError: there is none.
    """
    found = list_runs()
    if not found:
        root = files.runs_folder()
        raise MedvisionError(f"there is no run under {root}; train one first: medvision train")
    return found


def _runs_in(folder: Path, pattern: str) -> Iterator[Run]:
    for record in files.list_visible(folder, f"{pattern}/{integrity.RECORD}"):
        key, sweep = record.parent.name, record.parent.parent.name
        if "~" not in key and not sweep.startswith("_"):
            yield Run(record.parent)


def joint_folder(command: str, *parts: str) -> Path:
    """Name the folder of what concerns several runs, by what it is made of."""
    return files.runs_folder() / "_joint" / f"{command}-{files.digest(*parts)[:8]}"


def name_setting(config: Mapping[str, Any]) -> str:
    """Name what was chosen for a run, whatever its seed, its fold and its places."""
    chosen = _without(config, (*PLACES, "compile", *REPEATED))
    return files.digest(json.dumps(rename_targets(chosen), sort_keys=True, default=str))[:8]
