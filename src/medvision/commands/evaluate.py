"""`medvision evaluate`: stored predictions and evidence, of a run's own parts or of other rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import medvision.files as files
import medvision.trust.integrity as integrity
from medvision.devices import limit_threads
from medvision.errors import MedvisionError
from medvision.evaluation.report.run_report import write_report
from medvision.evaluation.report.scores import print_scores
from medvision.inference.cases import draw_cases
from medvision.inference.checks import OnUnlike, check_overlap, check_unlike_training
from medvision.inference.ensemble import Ensemble, load_ensemble
from medvision.inference.evaluate import derive_evidence, stamp_metrics, store
from medvision.inference.predictor import open_model_unit
from medvision.inference.rows import Rows, hide_people, predict_rows, read_rows
from medvision.openings import close_opening, digest_rows, record_opening
from medvision.provenance import command_line
from medvision.runs import Run, joint_folder

FOREIGN = "scored on rows of another manifest with a frozen model: nothing was fitted on them"


def run(
    run: str | None = None,
    runs: list[str] | None = None,
    data: dict[str, Any] | None = None,
    split: str = "test",
    allow_overlap: bool = False,
    different_patients: bool = False,
    on_unreadable: Literal["stop", "exclude"] = "stop",
    on_foreign: OnUnlike = "stop",
    output: Path | None = None,
    threads: int | None = None,
) -> None:
    """Score a frozen model: net, temperature and threshold stay as they were trained.

    run=RUN                    a run folder, `last`, or a unique beginning of its name
    runs=[A,B]                 an ensemble: the mean of the calibrated probabilities, cut at the
                               mean of the frozen thresholds; an item is a run, a sweep folder or
                               a pattern such as 'NAME/*seed=1*'; put "…" around one with a comma
    data.manifest=FILE.csv     other rows (external validation): path, patient, label are enough
    data.columns.OURS=THEIRS   for a table with foreign column names
    data.rename.THEIRS=OURS    for foreign label names
    split=test                 which rows; without a split column all rows are taken
    allow_overlap=true         go on although rows were seen in training; counted and stamped
    different_patients=true    equal ids under another dataset name are other people; stamped
    on_unreadable=exclude      leave broken files out, counted
    data.on_gap=exclude        series with missing slices: error, exclude or keep what is there
    on_foreign=warn            go on although images are unlike those the model was trained on
                               (modality, colour, size, spacing, values); counted and stamped
    output=DIR                 default: the run's folder; RUN/evaluations/ for other rows, where
                               the run's own files stay; a folder under runs/_joint/ for runs=
    threads=1                  of torch on a CPU; default: as the machine has them
    """
    limit_threads(threads)
    metrics, folder = evaluate(
        run, runs, data=data, split=split, allow_overlap=allow_overlap,
        different_patients=different_patients, on_unreadable=on_unreadable,
        on_foreign=on_foreign, output=output,
    )  # fmt: skip
    print_scores(metrics)
    print(f"written: {folder}")


class Evaluation(NamedTuple):
    """What `metrics.json` holds, and the folder it lies in."""

    metrics: dict[str, Any]
    folder: Path


def evaluate(
    run: str | Path | None = None,
    runs: Sequence[str | Path] | None = None,
    *,
    data: Mapping[str, Any] | None = None,
    split: str = "test",
    allow_overlap: bool = False,
    different_patients: bool = False,
    on_unreadable: Literal["stop", "exclude"] = "stop",
    on_foreign: OnUnlike = "stop",
    output: str | Path | None = None,
) -> Evaluation:
    """Do what `medvision evaluate` does, which says what the words mean, and print no table.

    `data` holds what stands behind its dot: `{"manifest": FILE, "columns.label": "diagnosis"}`.

    Raises:
        MedvisionError: what the command would refuse.
    """
    ensemble = load_ensemble("evaluate", run, runs)
    rows = read_rows(ensemble, data or {}, split, on_unreadable)
    if run and rows.own:
        if output:
            raise MedvisionError("a run's own part is scored in its own folder; omit output=")
        overlaps = check_overlap(ensemble, rows, allow_overlap, different_patients)
        return Evaluation(_evaluate_own(ensemble, rows, overlaps), ensemble.runs[0].folder)
    warnings = check_overlap(ensemble, rows, allow_overlap, different_patients)
    warnings += check_unlike_training(ensemble, rows, on_foreign)
    folder = _choose_folder(ensemble, rows, output, joint=not run)
    rows = hide_people(ensemble, rows)
    metrics = _evaluate_apart(ensemble, rows, folder, warnings, joint=not run)
    return Evaluation(metrics, folder)


def _evaluate_own(ensemble: Ensemble, rows: Rows, overlaps: list[str]) -> dict[str, Any]:
    """Score a run on a part of its own once more, in its own folder.

    Args:
        ensemble: of the run alone.
        rows: of the part.
        overlaps: what the model has seen of them, where that was allowed.
    """
    (run,), (model,) = ensemble.runs, ensemble.models
    integrity.check_files(run.folder, but=("metrics.json", f"predictions/{rows.part}"))
    with opened_test(ensemble, run, rows):
        with run.rewriting(rows.part):
            predictions = predict_rows(ensemble, rows)
            store(run, rows.part, predictions)
            stamps = {"stamps": [*model.seen.unknown, *overlaps]} if overlaps else None
            metrics = derive_evidence(run.folder, model, stamps)
        if rows.part == "test" or not run.predictions("test").exists():  # as the other figures
            draw_cases(run.folder, model, rows.samples[0], rows.find(0), predictions)
        write_report(run.folder)
    return stamp_metrics(metrics, [*ensemble.stamps, *metrics.get("stamps", ())])


def _choose_folder(
    ensemble: Ensemble, rows: Rows, output: str | Path | None, *, joint: bool
) -> Path:
    """Name the folder of results beside the runs by what they are made of.

    Raises:
        MedvisionError: `output` holds something else.
    """
    parts = identify(ensemble, rows)
    code = files.digest(*parts)[:8]
    if output:
        folder = Path(output).expanduser()
        found = Run(folder).record
        if found and found.get("identity") != code:
            raise MedvisionError(f"output={output} holds another result; choose another folder")
        return folder
    if joint:
        return joint_folder("evaluate", *parts)
    name = files.file_safe(f"{rows.manifest.card.dataset}-{code}")
    return ensemble.runs[0].folder / "evaluations" / name


def identify(ensemble: Ensemble, rows: Rows) -> tuple[str, ...]:
    """Return what the results are made of; the order of members is no part of it."""
    return rows.manifest.digest, *sorted(ensemble.digests), rows.part


def _evaluate_apart(
    ensemble: Ensemble, rows: Rows, folder: Path, warnings: Sequence[str], *, joint: bool
) -> dict[str, Any]:
    """Score in a folder of its own, beside the runs' evidence, never over it.

    Args:
        ensemble: if `rows` are its members' own test part, that is opened in each of them.
        rows: to score.
        folder: as `_choose_folder` says.
        warnings: what was seen of the rows or is foreign in them, or could not be checked.
        joint: an ensemble was asked for, though it may have one member.
    """
    stamps = [*ensemble.stamps, *([ensemble.stamp] if joint else [])]
    stamps += [] if rows.own else [FOREIGN]
    lost = open_model_unit(ensemble.joined).lost
    stamps += [*warnings, *([f"{rows.unread} {lost} left out"] if rows.unread else [])]
    place = Run(folder)
    place.note(
        **_describe_members(ensemble, joint), command=command_line(), stamps=stamps,
        manifest=rows.manifest.digest, identity=files.digest(*identify(ensemble, rows))[:8],
        status="running", digests={},
    )  # fmt: skip
    with opened_test(ensemble, place, rows):
        predictions = predict_rows(ensemble, rows)
        store(place, rows.part, predictions)
        metrics = derive_evidence(folder, ensemble.joined, {"stamps": stamps}, fitted=rows.own)
        if len(ensemble.models) == 1:
            draw_cases(folder, ensemble.joined, rows.samples[0], rows.find(0), predictions)
        place.note(status="done", finished=files.today(), digests=integrity.digest_files(folder))
        write_report(folder, stamps)
    return metrics


def _describe_members(ensemble: Ensemble, joint: bool) -> dict[str, Any]:
    """Return what the record says of the models."""
    if not joint:
        return {"model": ensemble.digests[0], "run": ensemble.runs[0].title}
    pairs = zip(ensemble.runs, ensemble.digests, strict=True)
    return {"members": [{"run": run.title, "model": digest} for run, digest in pairs]}


@contextmanager
def opened_test(ensemble: Ensemble, place: Run, rows: Rows) -> Iterator[None]:
    """Record the opening of a test part where its results lie, and in the runs it belongs to."""
    if rows.part != "test":
        yield
        return
    digests, samples = ensemble.digests, rows.samples[0]
    joint = digests[0] if len(digests) == 1 else files.digest(*digests)
    looked = {place.folder: (place, joint)}
    if rows.own:
        own = zip(ensemble.runs, digests, strict=True)
        looked |= {run.folder: (run, digest) for run, digest in own}
    images = digest_rows(samples.shown_in(samples.unit.rows(rows.find(0))).images)
    settings = [name for run in ensemble.runs for name in run.settings]
    places, models = zip(*looked.values(), strict=True)
    record_opening(places, models, images, settings)
    yield
    close_opening(places)
