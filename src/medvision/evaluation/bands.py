"""Bands around curves: the ROC and the precision-recall curve under resampled patients."""

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from medvision.evaluation.intervals import Keys, WeightedScores, resample_patients
from medvision.evaluation.metrics import Floats


class Band(NamedTuple):
    """A pointwise 95 % band around a curve on a grid, each `[G]`; nan where undefined."""

    x: Floats
    low: Floats
    high: Floats


def roc_band(probs_positive: ArrayLike, label: ArrayLike, patients: Keys, **options: int) -> Band:
    """Sensitivity over 1 - specificity.

    Args:
        probs_positive: `[N]` in 0..1.
        label: `[N]` of 0 and 1; -1 or nan = unlabelled.
        patients: `[N]`; rows of one patient are drawn together.
        options: `resamples`, `seed` and `points` of the grid.
    """
    return _band(_sensitivity_at, probs_positive, label, patients, **options)


def pr_band(probs_positive: ArrayLike, label: ArrayLike, patients: Keys, **options: int) -> Band:
    """Precision over recall, where the recall is first reached; arguments as in `roc_band`."""
    return _band(_precision_at, probs_positive, label, patients, **options)


def _sensitivity_at(x: Floats, hits: Floats, alarms: Floats) -> Floats:
    return np.asarray(np.interp(x, alarms / alarms[-1], hits / hits[-1]))


def _precision_at(x: Floats, hits: Floats, alarms: Floats) -> Floats:
    place = np.searchsorted(hits, np.maximum(x * hits[-1] - 1e-9, 1e-9))
    return np.asarray(hits[place] / (hits[place] + alarms[place]))


def _band(
    at: Callable[[Floats, Floats, Floats], Floats],
    probs_positive: ArrayLike,
    label: ArrayLike,
    patients: Keys,
    resamples: int = 1000,
    seed: int = 0,
    points: int = 101,
) -> Band:
    probs = np.asarray(probs_positive, dtype=np.float64)
    scores = WeightedScores(np.stack([1 - probs, probs], axis=1), label, "binary")
    x, heights = np.linspace(0, 1, points), []
    for weights in islice(resample_patients(patients, resamples, seed), 1, None):
        pairs = zip(*scores.cumulate(1, weights), strict=True)
        heights += [at(x, *pair) for pair in pairs if pair[0][-1] and pair[1][-1]]
    if not heights or 2 * len(heights) < resamples:
        return Band(x, np.full(points, np.nan), np.full(points, np.nan))
    return Band(x, *np.quantile(heights, [0.025, 0.975], axis=0))
