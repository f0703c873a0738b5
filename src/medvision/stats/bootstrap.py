"""Intervals of any score: patients drawn with replacement."""

from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from medvision.stats.ranking import Floats

Interval = dict[str, float | None]


Keys = Sequence[Hashable]  # of each row: its patient, or its stratum


CELLS, LARGE = 2_000_000, 50_000  # weights held at once; probabilities scored 1000 times only


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
    numbers: dict[Hashable, int] = {}
    place = np.array([numbers.setdefault(patient, len(numbers)) for patient in patients], np.intp)
    members: dict[Hashable, list[int]] = {}
    for number, row in enumerate(np.unique(place, return_index=True)[1]):
        members.setdefault(strata[row] if strata is not None else "", []).append(number)
    P, rng = len(numbers), np.random.default_rng(seed)
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
