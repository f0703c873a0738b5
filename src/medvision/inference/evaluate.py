"""Predict, store, score: what training and `medvision evaluate` share."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import medvision.files as files
from medvision.data.batches.samples import Samples
from medvision.evaluation.covariates import read_rows
from medvision.evaluation.evaluator import Evaluator, Scored, open_recorded
from medvision.evaluation.figures.style import save_figure
from medvision.evaluation.predictions import write_predictions
from medvision.evaluation.scoring import read_parts, score_parts
from medvision.inference.cases import draw_cases
from medvision.inference.predictor import (
    open_model_evaluator,
    open_model_unit,
    predict_samples,
)
from medvision.model import Model, load_model
from medvision.openings import digest_rows, record_opening
from medvision.runs import Run


def evaluate_parts(
    run: Run, model: Model, samples: Samples, parts: Sequence[str]
) -> dict[str, Any]:
    """Predict parts of a run's own rows and derive the evidence from all stored predictions.

    Who asks for the test part closes it (`close_opening`) when all that follows is written.
    """
    evaluator = open_model_evaluator(model)
    for part in parts:
        if part == "test":
            images = digest_rows(samples.shown(part).images)
            record_opening([run], [files.digest_file(run.model)], images, run.settings)
        rows = samples.rows(part)
        outputs = predict_samples(model, samples, rows)
        tables = evaluator.tabulate(outputs, samples.tables_for(rows))
        store(run, part, tables)
    metrics = derive_evidence(run.folder, model)
    draw_cases(run.folder, model, samples, rows, tables)
    return metrics


def store(place: Run, part: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Write the predictions of a part, and beside them those of what its samples hold."""
    for name, table in tables.items():
        write_predictions(place.predictions(f"{part}_{name}" if name else part), table)


def derive_evidence(
    folder: Path, model: Model, facts: Mapping[str, Any] | None = None, *, fitted: bool = True
) -> dict[str, Any]:
    """Write `metrics.json` and the figures of a folder from its stored predictions alone.

    Args:
        folder: holds `predictions/`.
        model: made them.
        facts: said in place of, or beside, what follows from the predictions.
        fitted: the decision was fitted on these very val rows.
    """
    evaluator = open_model_evaluator(model)
    parts = read_parts(folder, evaluator)
    metrics = _score(folder, model, evaluator, parts) | dict(facts or {})
    if not fitted:
        metrics.get("val", {}).pop("fitted_on", None)
    files.write_json(folder / "metrics.json", metrics)
    for name, figure in evaluator.figures(next(iter(parts.values()))):
        save_figure(figure, folder / "figures" / f"{name}.png")
    return metrics


def compute_metrics(folder: Path, model: Model) -> dict[str, Any]:
    """Compute the content of `metrics.json` from the stored predictions and the manifest."""
    evaluator = open_model_evaluator(model)
    return _score(folder, model, evaluator, read_parts(folder, evaluator))


def _score(
    folder: Path, model: Model, evaluator: Evaluator, parts: Mapping[str, Scored]
) -> dict[str, Any]:
    unit = open_model_unit(model).counted
    metrics = score_parts(parts, evaluator, read_rows(folder / "manifest.csv"), unit=unit)
    return stamp_metrics(metrics, model.seen.unknown)


def stamp_metrics(metrics: Mapping[str, Any], stamps: Sequence[str]) -> dict[str, Any]:
    """Add what every table of the numbers must say; nothing where there is nothing."""
    return {**metrics, "stamps": list(stamps)} if stamps else dict(metrics)


def check_metrics(run: Run, recorded: Mapping[str, Any], model: Path) -> list[str]:
    """Compute the scores of a run again; return the dotted places where they differ from these.

    Where no predictions are stored, nothing can. Keys that runs of before did not have are left
    out, and stamps, which say how the rows came about.
    """
    if not open_recorded(run.record, recorded, run.folder).tables:
        return []
    fresh = compute_metrics(run.folder, load_model(model))
    left_out = {"stamps"} | ({"subgroups", "task", "predictive_values"} - recorded.keys())
    said = {key: value for key, value in recorded.items() if key not in left_out}
    if "fitted_on" not in said.get("val", {}):  # of rows that nothing was fitted on
        fresh.get("val", {}).pop("fitted_on", None)
    again = {key: value for key, value in fresh.items() if key not in left_out}
    return list(_find_differences(said, again))


def _find_differences(recorded: Any, fresh: Any, place: str = "") -> Iterator[str]:
    """Yield the dotted places where two results differ beyond rounding."""
    if isinstance(recorded, Mapping) and isinstance(fresh, Mapping):
        for key in recorded.keys() | fresh.keys():
            yield from _find_differences(
                recorded.get(key), fresh.get(key), f"{place}.{key}".strip(".")
            )
    elif isinstance(recorded, float) and isinstance(fresh, float):
        if abs(recorded - fresh) > 1e-9:
            yield place
    elif recorded != fresh:
        yield place
