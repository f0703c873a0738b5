"""`medvision verify`: whether a run's files are what they were, and its scores what they say."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

import medvision.files as files
import medvision.trust.integrity as integrity
from medvision.errors import MedvisionError, collect
from medvision.evaluation.report.table import Table
from medvision.inference.evaluate import check_metrics
from medvision.runs import Run, find_runs

_OWN = "made with your key"


class _Check(NamedTuple):
    """One thing that was looked at; `fault` is empty where nothing is wrong."""

    what: str
    result: str
    fault: str = ""


def run(run: str) -> None:
    """Compare the files of a run with their digests, and compute its scores from its tables again.

    run=RUN      a run folder, `last`, or a unique beginning of its name; of a sweep every run

    Looked at: model.pt, the manifest, the configuration, checkpoints, predictions, metrics.json, of
    the run and of its evaluations on other rows; and whose key the record was signed with.
    Ends with status 2 where anything is not what it was.
    """
    runs = find_runs(run)
    checks = [(each, check) for each in runs for check in _check_run(each)]
    several = len(runs) > 1
    Table(
        head=[*(["run"] if several else []), "looked at", "found"],
        rows=[
            [*([each.title] if several else []), check.what, check.fault or check.result]
            for each, check in checks
        ],
    ).print(Console())
    if faults := [f"{each.title}: {c.what}: {c.fault}" for each, c in checks if c.fault]:
        raise collect(
            f"{len(faults)} of {len(checks)} things are not what they were", faults,
            "Restore the files from a copy, or train the run again with rerun=true",
        )  # fmt: skip


def _check_run(run: Run) -> Iterator[_Check]:
    """Look at a run, then at its evaluations on other rows."""
    yield from _check_folder(run, "")
    for place in files.list_visible(run.folder / "evaluations", f"*/{integrity.RECORD}"):
        yield from _check_folder(Run(place.parent), f"evaluations/{place.parent.name}/", run.model)


def _check_folder(run: Run, prefix: str, model: Path | None = None) -> Iterator[_Check]:
    record = run.record
    own = _OWN if run.signature == "own" else "not finished"
    yield _Check(f"{prefix}record.json", run.stamp or own)
    for name, before in _list_digests(record).items():
        yield _check_file(run.folder / name, f"{prefix}{name}", before)
    for name in integrity.list_evidence(run.folder):
        if "digests" in record and name not in record["digests"]:
            yield _Check(f"{prefix}{name}", "", "has no digest: it was not written by this run")
    if run.metrics.exists():
        yield _check_scores(run, prefix, model or run.model)


def _list_digests(record: Mapping[str, Any]) -> dict[str, str]:
    """Return file → digest, as the record says."""
    points = record.get("checkpoints") or {}
    kept = {f"checkpoints/{name}.ckpt": digest for name, digest in points.items()}
    return dict(record.get("digests") or {}) | kept


def _check_file(path: Path, what: str, before: str) -> _Check:
    if not path.exists():
        return _Check(what, "", "is gone")
    same = files.digest_file(path) == before
    return _Check(what, "as it was written", "" if same else "has changed since it was written")


def _check_scores(run: Run, prefix: str, model: Path) -> _Check:
    """Compute the scores again from the stored predictions."""
    what = f"{prefix}metrics.json, computed again"
    if not model.exists():  # of an ensemble, whose models lie in their runs
        return _Check(what, "not done: no model lies beside it")
    try:
        differing = check_metrics(run, files.read_json(run.metrics), model)
    except MedvisionError as error:
        return _Check(what, "", str(error))
    fault = f"{len(differing)} values differ, such as {differing[0]}" if differing else ""
    return _Check(what, "follows from the stored predictions", fault)
