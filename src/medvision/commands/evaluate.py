"""`medvision evaluate`: stored predictions and evidence, of a run's own parts or of other rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

import medvision.files as files
from medvision.data.batches.samples import Samples
from medvision.errors import MedvisionError
from medvision.evaluation.covariates import read_rows as read_manifest_rows
from medvision.evaluation.predictions import Unit, read_predictions, write_predictions
from medvision.evaluation.report.run_report import write_report
from medvision.evaluation.report.scores import print_scores
from medvision.evaluation.subgroups import score_subgroups
from medvision.inference.cases import draw_cases
from medvision.inference.checks import OnUnlike, check_overlap, check_unlike_training
from medvision.inference.ensemble import Ensemble, load_ensemble
from medvision.inference.predictor import Predictions, predict_samples, tabulate, tabulate_slices
from medvision.inference.rows import Rows, predict_rows, read_rows
from medvision.model import Model
from medvision.provenance import command_line
from medvision.runs import Run, joint_folder, record_opening
from medvision.tasks.classification.evaluator import build_metrics, draw_plates

FOREIGN = "scored on rows of another manifest with a frozen model: nothing was fitted on them"


def run(
    run: str | None = None,
    runs: list[str] | None = None,
    data: dict[str, Any] | None = None,
    split: str = "test",
    allow_overlap: bool = False,
    on_unreadable: Literal["stop", "exclude"] = "stop",
    on_foreign: OnUnlike = "stop",
    output: Path | None = None,
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
    on_unreadable=exclude      leave broken files out, counted
    data.on_gap=exclude        series with missing slices: error, exclude or keep what is there
    on_foreign=warn            go on although images are unlike those the model was trained on
                               (modality, colour, size, spacing, values); counted and stamped
    output=DIR                 default: the run's folder; RUN/evaluations/ for other rows, where
                               the run's own files stay; a folder under runs/_joint/ for runs=
    """
    ensemble = load_ensemble("evaluate", run, runs)
    rows = read_rows(ensemble, data or {}, split, on_unreadable)
    if run and rows.own:
        if output:
            raise MedvisionError("a run's own part is scored in its own folder; omit output=")
        folder, metrics = ensemble.runs[0].folder, evaluate_own(ensemble, rows)
    else:
        warnings = check_overlap(ensemble, rows, allow_overlap)
        warnings += check_unlike_training(ensemble, rows, on_foreign)
        folder = choose_folder(ensemble, rows, output, joint=not run)
        metrics = evaluate_apart(ensemble, rows, folder, warnings, joint=not run)
    print_scores(metrics)
    print(f"written: {folder}")


def evaluate_parts(
    run: Run, model: Model, samples: Samples, parts: Sequence[str]
) -> dict[str, Any]:
    """Predict parts of a run's own rows and derive the evidence from all stored predictions."""
    for part in parts:
        if part == "test":
            record_opening(run, files.digest_file(run.model))
        rows = samples.rows(part)
        said = predict_samples(model, samples, rows)
        table = tabulate(model, samples.facts_for(rows), said.logits)
        slices = tabulate_slices(model, samples, rows, said)
        store(run, part, Predictions(table, slices))
    metrics = derive_evidence(run.folder, model)
    draw_cases(run.folder, model, samples, rows, table)
    return metrics


def store(place: Run, part: str, predictions: Predictions) -> None:
    """Write the predictions of a part, and beside them those of its slices."""
    write_predictions(place.predictions(part), predictions.table)
    if predictions.slices is not None:
        write_predictions(place.predictions(f"{part}_slices"), predictions.slices)


def evaluate_own(ensemble: Ensemble, rows: Rows) -> dict[str, Any]:
    """Score a run on a part of its own once more, in its own folder."""
    (run,), (model,) = ensemble.runs, ensemble.models
    if rows.part == "test":
        record_opening(run, ensemble.digests[0])
    predictions = predict_rows(ensemble, rows)
    store(run, rows.part, predictions)
    metrics = derive_evidence(run.folder, model)
    if rows.part == "test" or not run.predictions("test").exists():  # as the other figures
        draw_cases(run.folder, model, rows.samples[0], rows.find(0), predictions.table)
    write_report(run.folder)
    return metrics


def choose_folder(ensemble: Ensemble, rows: Rows, output: Path | None, *, joint: bool) -> Path:
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


def evaluate_apart(
    ensemble: Ensemble, rows: Rows, folder: Path, warnings: Sequence[str], *, joint: bool
) -> dict[str, Any]:
    """Score in a folder of its own, beside the runs' evidence, never over it.

    Args:
        ensemble: if `rows` are its members' own test part, that is opened in each of them.
        rows: to score.
        folder: as `choose_folder` says.
        warnings: what was seen of the rows or is foreign in them, or could not be checked.
        joint: an ensemble was asked for, though it may have one member.
    """
    stamps = [ensemble.stamp] if joint else []
    stamps += [] if rows.own else [FOREIGN]
    lost = "unreadable images" if ensemble.joined.series is None else "series with missing slices"
    stamps += [*warnings, *([f"{rows.unread} {lost} left out"] if rows.unread else [])]
    place = Run(folder)
    place.note(
        **describe_members(ensemble, joint), command=command_line(), stamps=stamps,
        manifest=rows.manifest.digest, identity=files.digest(*identify(ensemble, rows))[:8],
        status="running",
    )  # fmt: skip
    if rows.part == "test":
        open_test(ensemble, place, own=rows.own)
    predictions = predict_rows(ensemble, rows)
    store(place, rows.part, predictions)
    facts: dict[str, Any] = {"stamps": stamps}
    if len(ensemble.models) > 1:
        facts["temperature"] = None  # each member has its own
    metrics = derive_evidence(folder, ensemble.joined, facts, fitted=rows.own)
    if len(ensemble.models) == 1:
        draw_cases(folder, ensemble.joined, rows.samples[0], rows.find(0), predictions.table)
    place.note(status="done", finished=files.today())
    write_report(folder, stamps)
    return metrics


def describe_members(ensemble: Ensemble, joint: bool) -> dict[str, Any]:
    """Return what the record says of the models."""
    if not joint:
        return {"model": ensemble.digests[0]}
    pairs = zip(ensemble.runs, ensemble.digests, strict=True)
    return {"members": [{"run": run.title, "model": digest} for run, digest in pairs]}


def open_test(ensemble: Ensemble, place: Run, own: bool) -> None:
    """Record the opening of a test part where its results lie, and in the runs it belongs to."""
    digests = ensemble.digests
    if own:
        for run, digest in zip(ensemble.runs, digests, strict=True):
            record_opening(run, digest)
    record_opening(place, digests[0] if len(digests) == 1 else files.digest(*digests))


def derive_evidence(
    folder: Path, model: Model, facts: Mapping[str, Any] | None = None, *, fitted: bool = True
) -> dict[str, Any]:
    """Write `metrics.json` and the figures of a folder from its stored predictions alone.

    Args:
        folder: holds `predictions/`.
        model: made them.
        facts: said in place of, or beside, what follows from the predictions.
        fitted: temperature and threshold were fitted on these very val rows.
    """
    stored = read_stored(folder)
    rows = read_manifest_rows(folder / "manifest.csv")
    metrics = compute_metrics(stored, model, rows) | dict(facts or {})
    if not fitted:
        metrics.get("val", {}).pop("fitted_on", None)
    files.write_json(folder / "metrics.json", metrics)
    shown = "test" if "test" in stored else "val"
    draw_plates(folder, stored[shown], metrics["confusion"][shown], model)
    return metrics


def read_stored(folder: Path) -> dict[str, pd.DataFrame]:
    """Read all predictions of a folder, part → table."""
    paths = [Run(folder).predictions(part) for part in ("test", "val")]
    return {path.stem: read_predictions(path) for path in paths if path.exists()}


def compute_metrics(
    stored: Mapping[str, pd.DataFrame], model: Model, rows: pd.DataFrame
) -> dict[str, Any]:
    """Compute the content of `metrics.json`; of subgroups where `rows`, the manifest, tell any."""
    unit: Unit = "images" if model.series is None else "series"
    metrics = build_metrics(
        stored, model.classes, model.question, model.temperature, model.rule, model.threshold,
        unit=unit,
    )  # fmt: skip
    part = "test" if "test" in stored else "val"
    groups = score_subgroups(
        part, stored[part], rows, model.classes, model.question, model.threshold, unit=unit
    )
    return metrics | ({"subgroups": groups} if groups else {})
