"""Bands of curves, over patients."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from medvision.stats.bootstrap import Keys, resample_patients
from medvision.stats.ranking import Floats, Ranking
from medvision.tasks.classification.net_benefit import THRESHOLDS, add_up, count_reaching

_SHARES = np.linspace(0, 1, 101)


class Band(NamedTuple):
    """A pointwise 95 % band around a curve on a grid, each `[G]`; nan where undefined."""

    x: Floats
    low: Floats
    high: Floats


def fill_band(axes: Any, band: Band | None, color: str) -> None:
    """Fill what is known of a band; one that is not has no name in the legend either."""
    if band is not None and np.isfinite(band.low).any():
        look = {"color": color, "alpha": 0.18, "linewidth": 0, "label": "95 % band"}
        axes.fill_between(band.x, band.low, band.high, **look)


def draw_bands(
    probs_positive: ArrayLike,
    label: ArrayLike,
    patients: Keys,
    contents: Sequence[bytes] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Band]:
    """Draw the bands of three curves on the same resamples of the patients.

    Args:
        probs_positive: `[N]` in 0..1.
        label: `[N]` of 0 and 1; -1 or nan = unlabelled.
        patients: `[N]`; rows of one patient are drawn together.
        contents: `[N]`, what rows say, see `resample_patients`.
        resamples: their number.
        seed: alone decides them.

    Returns:
        `roc`: sensitivity over 1 - specificity; `pr`: precision over recall, where the recall is
        first reached; `decision`: net benefit over the threshold.
    """
    truth = np.nan_to_num(np.asarray(label, dtype=np.float64), nan=-1)
    ranking = Ranking(probs_positive, truth == 1, truth >= 0)
    places = count_reaching(ranking, THRESHOLDS)
    heights: dict[str, list[Floats]] = {"roc": [], "pr": [], "decision": []}
    for weights in islice(resample_patients(patients, resamples, seed, contents=contents), 1, None):
        for hits, alarms in zip(*ranking.cumulate(weights), strict=True):
            if hits[-1] and alarms[-1]:
                heights["roc"].append(_sensitivity_at(hits, alarms))
                heights["pr"].append(_precision_at(hits, alarms))
                heights["decision"].append(add_up(places, hits, alarms, THRESHOLDS))
    grids = {"roc": _SHARES, "pr": _SHARES, "decision": THRESHOLDS}
    return {name: _bound(grids[name], drawn, resamples) for name, drawn in heights.items()}


def _bound(x: Floats, heights: Sequence[Floats], resamples: int) -> Band:
    if not heights or 2 * len(heights) < resamples:
        return Band(x, np.full(len(x), np.nan), np.full(len(x), np.nan))
    return Band(x, *np.quantile(heights, [0.025, 0.975], axis=0))


def _sensitivity_at(hits: Floats, alarms: Floats) -> Floats:
    return np.asarray(np.interp(_SHARES, alarms / alarms[-1], hits / hits[-1]))


def _precision_at(hits: Floats, alarms: Floats) -> Floats:
    place = np.searchsorted(hits, np.maximum(_SHARES * hits[-1] - 1e-9, 1e-9))
    return np.asarray(hits[place] / (hits[place] + alarms[place]))
