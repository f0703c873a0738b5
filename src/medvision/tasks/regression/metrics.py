"""Scores of numbers: which there are, when they are defined, and their values under row weights.

Those of one target are in its own units. Of several they are means over the targets, and what has a
unit is divided by the standard deviation of the target's true values in the very rows that are
scored: nothing else is known wherever predictions are read, and no unit outweighs another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medvision.stats.ranking import Floats, mean_defined, ratio

if TYPE_CHECKING:
    from torch import Tensor

FOLLOWED = ("mae", "rmse", "r2")  # in training
AGREEMENT = ("bias", "limit_low", "limit_high")  # in the units of a target
SHARED = (*FOLLOWED, "coverage", "width")  # have a mean over targets
METRICS = (*FOLLOWED, *AGREEMENT, "coverage", "width")
_WITH_UNIT = ("mae", "rmse", "width")
LABELS = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "bias": "bias",
    "limit_low": "lower limit of agreement",
    "limit_high": "upper limit of agreement",
    "coverage": "coverage of the interval",
    "width": "width of the interval",
}
REASONS = {
    "rows": "needs rows whose number is known",
    "two rows": "needs two rows whose number is known",
    "two numbers": "needs rows of at least two different numbers",
    "interval": "needs intervals, for which the val part was too small",
}
_FLAT = 1e-12  # of the sum of squares: what is left of it by rounding


class Errors:
    """What was predicted of one target, beside the truth: scored under any weights of its rows.

    Args:
        value: `[N]`, nan = unknown: such a row counts for nothing.
        pred, low, high: `[N]`; a bound of nan is none.
    """

    def __init__(self, value: Floats, pred: Floats, low: Floats, high: Floats) -> None:
        self.known = ~np.isnan(value)
        self.miss = np.where(self.known, pred - value, 0.0)
        # Sums of squares of numbers far from 0 would lose their digits.
        self.middle = float(value[self.known].mean()) if self.known.any() else 0.0
        self.value = np.where(self.known, value - self.middle, 0.0)
        self.bounded = self.known & ~np.isnan(low) & ~np.isnan(high)
        self.inside = self.bounded & (low <= value) & (value <= high)
        self.width = np.where(self.bounded, high - low, 0.0)

    def score(self, name: str, weights: Floats) -> Floats:
        """Return `[R]`, nan undefined, under weights `[R,N]`."""
        n = weights @ self.known
        if name == "mae":
            return ratio(weights @ np.abs(self.miss), n)
        if name == "rmse":
            return np.sqrt(ratio(weights @ self.miss**2, n))
        if name == "r2":
            return 1 - ratio(weights @ self.miss**2, self.scatter(weights))
        if name in ("coverage", "width"):
            held = self.inside if name == "coverage" else self.width
            return ratio(weights @ held, weights @ self.bounded)
        bias = ratio(weights @ self.miss, n)
        side = {"bias": 0.0, "limit_low": -1.96, "limit_high": 1.96}[name]
        return bias + side * self.deviation(weights) if side else bias

    def scatter(self, weights: Floats) -> Floats:
        """Return the sum of squares of the true values around their mean `[R]`, 0 if all equal."""
        return _square(weights, self.value, weights @ self.known)

    def deviation(self, weights: Floats) -> Floats:
        """Return the standard deviation (of a sample) of the errors `[R]`."""
        n = weights @ self.known
        centre = self.miss[self.known].mean() if self.known.any() else 0.0
        square = _square(weights, np.where(self.known, self.miss - centre, 0.0), n)
        return np.sqrt(ratio(square, np.where(n > 1, n - 1, 0.0)))

    def score_standardised(self, name: str, weights: Floats) -> Floats:
        """Return `[R]`; what has a unit is divided by the deviation of the true values."""
        values = self.score(name, weights)
        if name not in _WITH_UNIT:
            return values
        return ratio(values, np.sqrt(ratio(self.scatter(weights), weights @ self.known)))


def _square(weights: Floats, centred: Floats, n: Floats) -> Floats:
    """Return the weighted sum of squares around the mean `[R]`."""
    whole = weights @ centred**2
    around = whole - np.nan_to_num(ratio((weights @ centred) ** 2, n))
    return np.where(around > _FLAT * whole, around, 0.0)


def score_all(each: Sequence[Errors], name: str, weights: Floats) -> Floats:
    """Score one target, or all of several: `[R]`, the mean over those where the data define it.

    Undefined on resamples that leave one of these undefined.
    """
    if len(each) == 1:
        return each[0].score(name, weights)
    once = np.ones((1, weights.shape[1]))
    whole, values = (
        np.stack([one.score_standardised(name, some) for one in each], axis=-1)
        for some in (once, weights)
    )
    return mean_defined(values, ~np.isnan(whole[0]))


def find_reasons(
    value: NDArray[np.floating], bounded: NDArray[np.bool_] | None = None
) -> dict[str, str]:
    """Name the scores that these rows leave undefined, each with the reason.

    Args:
        value: `[N,T]`, nan = unknown.
        bounded: `[N,T]`, where there are intervals; None: such scores are not asked for.
    """
    known = ~np.isnan(value)
    columns = [np.unique(own[there]) for own, there in zip(value.T, known.T, strict=True)]
    rows, varied = known.any(), any(len(different) > 1 for different in columns)
    lacking = {} if rows else dict.fromkeys(METRICS, REASONS["rows"])
    if not varied:
        asked = ("r2", *(_WITH_UNIT if value.shape[1] > 1 else ()))
        lacking = dict.fromkeys(asked, REASONS["two numbers"]) | lacking
    if not (known.sum(axis=0) > 1).any():
        lacking = dict.fromkeys(AGREEMENT[1:], REASONS["two rows"]) | lacking
    if bounded is not None and not (bounded & known).any():
        lacking = dict.fromkeys(("coverage", "width"), REASONS["interval"]) | lacking
    return lacking


def score(pred: Tensor, value: Tensor) -> dict[str, float | None]:
    """Score predictions `[N,T]` on their own device, undefined scores being None.

    Args:
        pred: in the units of `value`.
        value: nan = unknown.
    """
    import torch

    with torch.inference_mode():
        columns = zip(pred.float().T, value.float().T, strict=True)
        each = [_score_one(said, true, several=value.shape[1] > 1) for said, true in columns]
        means = [torch.stack([one[name] for one in each]).nanmean() for name in FOLLOWED]
        values = torch.stack(means).tolist()
    return {
        name: None if np.isnan(one) else one for name, one in zip(FOLLOWED, values, strict=True)
    }


def _score_one(pred: Tensor, value: Tensor, *, several: bool) -> dict[str, Tensor]:
    """Score one target `[N]`; what has a unit in standard deviations where there are several."""
    import torch
    from torchmetrics.functional import regression as of

    known = ~value.isnan()
    pred, value = pred[known], value[known]
    undefined = value.new_tensor(torch.nan)
    if not len(value):
        return dict.fromkeys(FOLLOWED, undefined)
    middle, varied = value.mean(), bool((value != value[0]).any())
    pred, value = pred - middle, value - middle  # far from 0 the squares would lose their digits
    spread = value.std(correction=0) if varied else undefined
    unit = spread if several else torch.ones_like(spread)
    return {
        "mae": of.mean_absolute_error(pred, value) / unit,
        "rmse": of.mean_squared_error(pred, value, squared=False) / unit,
        "r2": of.r2_score(pred, value) if varied else undefined,
    }
