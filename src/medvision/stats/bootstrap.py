"""Intervals of any score: patients drawn with replacement."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medvision.stats.ranking import Floats, curve_areas
from medvision.tasks.classification.metrics import (
    RANKED,
    defined,
)

LARGE = 50_000  # probabilities that are scored 1000 times only


def _rank(hits: Floats, alarms: Floats) -> list[Floats]:
    """Return both areas where `metrics.defined` lets them be, nan elsewhere."""
    areas = zip(RANKED, curve_areas(hits, alarms), strict=True)
    ends = hits[:, -1], alarms[:, -1]
    return [np.where(defined(name, *ends), area, np.nan) for name, area in areas]


Interval: TypeAlias = dict[str, float | None]
Keys: TypeAlias = Sequence[Hashable]  # of each row: its patient, or its stratum
CELLS = 2_000_000  # weights held at once


def number(keys: Keys) -> tuple[list[Any], NDArray[np.intp]]:
    """Return the distinct keys in order of appearance, and for each row its key's number."""
    numbers: dict[Any, int] = {}
    place = [numbers.setdefault(key, len(numbers)) for key in keys]
    return list(numbers), np.array(place, dtype=np.intp)


def _chunks(R: int, N: int) -> Iterator[slice]:
    step = max(1, CELLS // max(1, N))
    return (slice(start, min(R, start + step)) for start in range(0, R, step))


def resample_patients(
    patients: Keys, resamples: int, seed: int, strata: Keys | None = None
) -> Iterator[Floats]:
    """Draw patients with replacement; yield row weights `[r,N]`, some resamples at a time.

    First come `[1,N]` ones, the data as they are. Random: the patients, from `seed` alone. Each of
    the `strata` (`[N]`, such as folds; a patient's first row counts) keeps its number of patients.
    """
    distinct, place = number(patients)
    members: dict[Hashable, list[int]] = {}
    for patient, row in enumerate(np.unique(place, return_index=True)[1]):
        members.setdefault(strata[row] if strata is not None else "", []).append(patient)
    P, rng = len(distinct), np.random.default_rng(seed)
    yield np.ones((1, len(place)))
    for some in _chunks(resamples if P else 0, len(place)):
        r = some.stop - some.start
        counts = np.zeros((r, P))
        for stratum in members.values():
            n = len(stratum)
            drawn = rng.integers(n, size=(r, n)) + n * np.arange(r)[:, None]
            counts[:, stratum] = np.bincount(drawn.ravel(), minlength=r * n).reshape(r, n)
        yield counts[:, place]


def interval(values: Floats, level: float = 0.95) -> Interval:
    """Sum up `[1+R]` values, first that of the data; None where undefined."""
    value, drawn = values[0], values[1:][~np.isnan(values[1:])]
    low = high = None
    if not np.isnan(value) and len(drawn) and 2 * len(drawn) >= len(values) - 1:
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return {"value": None if np.isnan(value) else float(value), "low": low, "high": high}
