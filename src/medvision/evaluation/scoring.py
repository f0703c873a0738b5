"""The content of `metrics.json`: it follows from stored predictions alone, of any task."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import Evaluator, Metric, Scored
from medvision.evaluation.predictions import Counted, read_tables
from medvision.evaluation.report.table import show_score
from medvision.evaluation.subgroups import score_subgroups
from medvision.runs import Run
from medvision.stats.bootstrap import LARGE, bound_difference, draw
from medvision.stats.ranking import Floats

PARTS = ("test", "val")  # that are scored, in the order of metrics.json


def read_parts(folder: Path, evaluator: Evaluator) -> dict[str, Scored]:
    """Read all predictions of a folder, part → what is scored.

    Raises:
        MedvisionError: a table is broken, or lies there in another form.
    """
    places = {part: Run(folder).predictions(part) for part in PARTS}
    return prepare_parts(
        {
            part: read_tables(path, evaluator.tables)
            for part, path in places.items()
            if path.exists()
        },
        evaluator,
    )


def prepare_parts(
    parts: Mapping[str, Mapping[str, pd.DataFrame]], evaluator: Evaluator
) -> dict[str, Scored]:
    """Make the predictions of parts ready to be scored, each row once."""
    for tables in parts.values():
        if repeats := int(tables[""]["index"].duplicated().sum()):
            raise MedvisionError(
                f"the predictions hold {repeats} rows twice (column index); run `medvision "
                "evaluate` again, on one device"
            )
    return {part: evaluator.read(parts[part]) for part in PARTS if part in parts}


def score_parts(
    parts: Mapping[str, Scored],
    evaluator: Evaluator,
    rows: pd.DataFrame,
    *,
    unit: Counted = "images",
    resamples: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Score parts with intervals over patients; nothing undefined but null.

    Args:
        parts: `test` and `val`, or either.
        evaluator: holds the frozen decision.
        rows: of the run's manifest, see `covariates.read_rows`; subgroups where they tell any.
        unit: what a row is; where patients have several series, `<part>_patients` holds the scores
            of patients beside those of their series.
        resamples: of patients; default 2000, or 1000 of large parts.
        seed: alone decides the resamples.
    """

    def draw_scores(metrics: Mapping[str, Metric], scored: Scored) -> dict[str, Floats]:
        most = (1000 if scored.size > LARGE else 2000) if resamples is None else resamples
        return draw(metrics, [[scored]], scored.patients, resamples=most, seed=seed)[0]

    def sum_up(scored: Scored, drawn: Mapping[str, Floats]) -> dict[str, Any]:
        return {name: evaluator.sum_up(name, scored, drawn[name]) for name in evaluator.metrics}

    result: dict[str, Any] = {"task": evaluator.task}
    n: dict[str, Any] = {}
    extras: dict[str, Any] = {}
    doubts: dict[str, list[str]] = {}
    first = next(iter(parts))
    for part, scored in parts.items():
        details = evaluator.details(scored) if part == first else {}
        drawn = draw_scores({**evaluator.metrics, **details}, scored)
        result[part] = sum_up(scored, drawn)
        result |= evaluator.beside(part, scored, result[part], draw_scores)
        if part == "val":
            result["val"]["fitted_on"] = "val"
        n[part] = evaluator.count(scored, unit)
        if unit == "series" and (whole := evaluator.by_patient(scored)) is not None:
            n[key := f"{part}_patients"] = evaluator.count(whole, "patients")
            if len(whole):  # else the series of every patient differ in what is true
                result[key] = sum_up(whole, draw_scores(evaluator.metrics, whole))
        if found := list(evaluator.doubts(scored)):
            doubts[part] = found
        for name, content in evaluator.extras(scored, drawn).items():
            extras.setdefault(name, {})[part] = content
    if gap := _find_gap(result, evaluator):
        doubts.setdefault("test", []).append(gap)
    result |= evaluator.decided() | {"n": n} | ({"doubts": doubts} if doubts else {}) | extras
    groups = score_subgroups(first, parts[first], evaluator, rows, unit=unit, seed=seed)
    return result | ({"subgroups": groups} if groups else {})


def _find_gap(result: Mapping[str, Any], evaluator: Evaluator) -> str | None:
    """Say where val and test lie further apart than chance has them."""
    name = evaluator.primary
    val, test = (result.get(part, {}).get(name) or {} for part in ("val", "test"))
    told = [one.get(end) for one in (val, test) for end in ("value", "low", "high")]
    ends = [float(end) for end in told if end is not None]
    if len(ends) < len(told):
        return None
    v, v_low, v_high, t, t_low, t_high = ends
    low, high = bound_difference((v, v_low, v_high), (t, t_low, t_high))
    if low <= 0 <= high:
        return None
    return (
        f"{evaluator.label(name)} is {show_score(v)} on val, further from this part than chance "
        "has it: val chose the epoch and what was fitted, or other patients, sites or devices are "
        "in it; judge by this part, and look at who is in which"
    )
