"""Scores of subgroups: each site, each level of a covariate, at the frozen operating point."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from medvision.evaluation.covariates import (
    MISSING,
    OTHER,
    Covariate,
    find_covariates,
    real_rows,
    series_of,
    title_of,
)
from medvision.evaluation.evaluator import Evaluator, Scored
from medvision.evaluation.predictions import Counted
from medvision.evaluation.report.table import (
    UNDEFINED,
    UNITS,
    Block,
    Row,
    Table,
    show_interval,
)
from medvision.stats.bootstrap import draw

FEWEST = 5  # patients of a group that is scored at all
MOST = 12  # covariates, in the order of the manifest
RESAMPLES, LARGE = 1000, 5000  # half as many for parts of more numbers
NOTHING = {"value": None, "low": None, "high": None}
TOO_FEW = f"fewer than {FEWEST} patients"
NOTE = (
    "Exploratory: groups are small, many are looked at, and no test was planned; a difference here "
    "is a question, not a finding."
)

Groups = dict[str, dict[str, dict[str, Any]]]


def score_subgroups(
    part: str,
    scored: Scored,
    evaluator: Evaluator,
    rows: pd.DataFrame,
    *,
    unit: Counted = "images",
    seed: int = 0,
) -> dict[str, Any]:
    """Score the groups of one part that the manifest tells apart; empty where it tells none.

    Numbers are cut at the median of the samples that train. Where the rows of a series differ, a
    number is their mean and a word counts as missing.

    Args:
        part: the part of the predictions.
        scored: its predictions, decided at the frozen operating point.
        evaluator: of their task.
        rows: of the run's manifest, see `read_rows`.
        unit: what a sample is.
        seed: of the patient bootstrap.

    Returns:
        `part`, and as `by` covariate → group → `n`, scores with intervals, and `why` of those that
        are undefined.
    """
    rows = real_rows(rows)
    known = scored.take(scored.table["index"].isin(rows.index).to_numpy())
    if not len(known):
        return {}
    index = known.table["index"].to_numpy()
    by: Groups = {}
    for covariate in _first(find_covariates(rows), MOST):
        groups = dict(_cut(covariate, rows, index, unit))
        if len(groups) > 1:
            by[covariate.name] = {
                name: _score(known.take(chosen), evaluator, unit, seed)
                for name, chosen in groups.items()
            }
    return {"part": part, "by": by} if by else {}


def _first(covariates: Iterator[Covariate], most: int) -> Iterator[Covariate]:
    return (covariate for _, covariate in zip(range(most), covariates, strict=False))


def _cut(
    covariate: Covariate, rows: pd.DataFrame, index: np.ndarray, unit: Counted
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and `[N]` bool of each group that has samples among `index`."""
    keys = series_of(rows) if unit == "series" else pd.Series(rows.index, rows.index)
    each = covariate.by(keys) if unit == "series" else covariate
    samples = keys[index]
    said = each.values[samples].to_numpy()
    masks: dict[str, np.ndarray] = {}
    if covariate.numeric:
        training = each.numbers[keys[rows["split"] == "train"].unique()]
        cut, numbers = training.median(), each.numbers[samples].to_numpy()
        masks |= (
            {f"≤ {cut:.4g}": numbers <= cut, f"> {cut:.4g}": numbers > cut}
            if cut < training.max()
            else {f"< {cut:.4g}": numbers < cut, f"≥ {cut:.4g}": numbers >= cut}
        )
    else:
        levels = each.levels()
        masks |= {level: said == level for level in levels}
        masks[OTHER] = (said != "") & ~np.isin(said, levels)
    masks[MISSING] = said == ""
    return ((name, mask) for name, mask in masks.items() if mask.any())


def _score(group: Scored, evaluator: Evaluator, unit: Counted, seed: int) -> dict[str, Any]:
    names = evaluator.headline
    counted = {"n": evaluator.count(group, unit)}
    if counted["n"]["patients"] < FEWEST:
        return counted | dict.fromkeys(names, NOTHING) | {"why": dict.fromkeys(names, TOO_FEW)}
    metrics = {name: evaluator.metrics[name] for name in names}
    reasons = {name: reason for name, one in metrics.items() if (reason := one.needs(group))}
    asked = {name: one for name, one in metrics.items() if name not in reasons}
    resamples = RESAMPLES if group.size <= LARGE else RESAMPLES // 2
    (drawn,) = draw(asked, [[group]], group.patients, resamples=resamples, seed=seed)
    known = {name: evaluator.sum_up(name, group, values) for name, values in drawn.items()}
    scores = {name: known.get(name, NOTHING) for name in names}
    why = {n: reasons.get(n, "undefined") for n in names if scores[n]["value"] is None}
    return counted | scores | ({"why": why} if why else {})


def subgroup_table(metrics: Mapping[str, Any], evaluator: Evaluator) -> Table | None:
    """Lay the subgroups out, a block a covariate; None where there are none."""
    by: Groups = (metrics.get("subgroups") or {}).get("by") or {}
    if not by:
        return None
    first = next(iter(next(iter(by.values())).values()))
    names = [name for name in first if name not in ("n", "why")]
    unit = next(unit for unit in UNITS if unit in first["n"])
    beside = list(evaluator.counted(first["n"], names))
    reasons = dict.fromkeys(
        why
        for groups in by.values()
        for one in groups.values()
        for why in one.get("why", {}).values()
    )
    letters = {why: chr(ord("a") + n) for n, why in enumerate(reasons)}
    blocks: list[Block] = []
    for name, groups in by.items():
        rows: list[Row] = []
        for group, scores in groups.items():
            n = scores["n"]
            counts = [n["patients"], n[unit], *evaluator.counted(n, names).values()]
            rows.append([group, *counts, *(_show(scores, score, letters) for score in names)])
        blocks.append((title_of(name), rows))
    head = ["", "patients", unit, *(f"n {name}" for name in beside), *map(evaluator.label, names)]
    notes = [NOTE, *(f"{letter}: {why}." for why, letter in letters.items())]
    return Table(head, blocks=blocks, notes=notes)


def _show(scores: Mapping[str, Any], name: str, letters: Mapping[str, str]) -> str:
    """Write a score with its interval, or a dash and the letter of its reason."""
    why = (scores.get("why") or {}).get(name)
    return f"{UNDEFINED} {letters[why]}" if why else show_interval(scores[name])
