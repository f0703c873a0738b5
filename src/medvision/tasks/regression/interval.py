"""Intervals around predictions, as wide as the errors on val were: split conformal prediction."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from medvision.stats.ranking import Floats

LEVEL = 0.9
_POINTS = ("median", "mean")  # of what a net answers, the prediction; else what it answers first


class Answer(NamedTuple):
    """What a net says of N rows and T targets, in the units of the targets: `[N,T]` each.

    Attributes:
        pred: the prediction.
        below, above: how far its own interval reaches; 0 where it has none.
        scale: what the interval is widened by, in units of which errors are alike everywhere.
    """

    pred: Floats
    below: Floats
    above: Floats
    scale: Floats


def read_answer(
    answer: Floats, outputs: Sequence[str], center: Sequence[float], spread: Sequence[float]
) -> Answer:
    """Turn answers `[N,T·k]`, the k outputs of a target side by side, into the user's units.

    Args:
        answer: of a net that was trained on targets of mean 0 and deviation 1.
        outputs: what the k numbers are, as the parameters of its loss name them.
        center: mean of each target, in its units.
        spread: deviation of each target, in its units.
    """
    units = np.asarray(spread, dtype=np.float64)
    held = np.asarray(answer, dtype=np.float64).reshape(len(answer), -1, len(outputs))
    named = dict(zip(outputs, np.moveaxis(held, -1, 0), strict=True))
    point = named[find_point(outputs)]
    nothing, one = np.zeros_like(point), np.ones_like(point)
    below, above, scale = nothing, nothing, one
    if "log_variance" in named:
        scale = np.exp(np.clip(named["log_variance"], -50, 50) / 2)
    if {"low", "high"} <= named.keys():
        below, above = point - named["low"], named["high"] - point
    return Answer(point * units + np.asarray(center), *(x * units for x in (below, above, scale)))


def find_point(outputs: Sequence[str]) -> str:
    """Choose of the outputs of a net the one that is its prediction."""
    return next((name for name in _POINTS if name in outputs), outputs[0])


def fit_width(
    answer: Answer, value: Floats, patients: Sequence[str] | None, level: float = LEVEL
) -> list[float | None]:
    """Return by how many `scale` the interval of each target is widened to hold `level` of them.

    An error is how far a true value lies outside the net's own interval, negative inside. Each
    patient counts once, however many rows it has: what is promised is the share of intervals of a
    new patient, of the same population, that hold the truth.

    Args:
        answer: for rows that took no part in training.
        value: `[N,T]`, nan = unknown.
        patients: `[N]`; None: each row is a patient.
        level: of the interval.

    Returns:
        A number a target; None where there are too few patients: below 9 for 90 %.

    Reference:
        Lei, G'Sell, Rinaldo, Tibshirani, Wasserman: Distribution-Free Predictive Inference for
        Regression, JASA 2018, arXiv:1604.04173 (distance, and distance over a predicted deviation).
        Romano, Patterson, Candès: Conformalized Quantile Regression, 2019, arXiv:1905.03222.
        Lee, Barber, Willett: Distribution-free inference with hierarchical data, 2023,
        arXiv:2306.06342 (rows of one patient share its weight).
    """
    whose = np.arange(len(value)) if patients is None else np.asarray(patients, dtype=object)
    outside = np.maximum(answer.pred - answer.below - value, value - answer.pred - answer.above)
    with np.errstate(invalid="ignore"):
        scores = outside / answer.scale
    return [_find_quantile(own, whose, level) for own in scores.T]


def _find_quantile(scores: Floats, patients: np.ndarray, level: float) -> float | None:
    """Return the smallest score below which lies `level` of the weight, one new patient's added."""
    known = np.isfinite(scores)
    if not known.any():
        return None
    number = np.unique(patients[known].astype(str), return_inverse=True)[1]
    rows = np.bincount(number)
    weight = 1 / (rows[number] * (len(rows) + 1))
    order = np.argsort(scores[known], kind="stable")
    reached = np.cumsum(weight[order])
    place = int(np.searchsorted(reached, level - 1e-9))
    return None if place == len(order) else float(scores[known][order][place])


def bound(answer: Answer, width: Sequence[float | None]) -> tuple[Floats, Floats]:
    """Return the bounds `[N,T]`, nan where there are none; the prediction lies within."""
    more = np.array([np.nan if one is None else one for one in width]) * answer.scale
    low = answer.pred - np.maximum(answer.below + more, 0)
    high = answer.pred + np.maximum(answer.above + more, 0)
    return low, high
