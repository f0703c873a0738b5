"""Intervals of any score: patients drawn with replacement."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from medvision.stats.ranking import Floats

Interval: TypeAlias = dict[str, float | None]
Keys: TypeAlias = Sequence[Hashable]  # of each row: its patient, or its stratum
CELLS, LARGE = 2_000_000, 50_000  # weights held at once; numbers scored 1000 times only


class Rows(Protocol):
    """Predictions that can be scored."""

    @property
    def contents(self) -> Sequence[bytes]:
        """Return what each row says, whoever it is of and wherever it stands, `[N]`."""


Scored = TypeVar("Scored", bound=Rows)
Given = TypeVar("Given", contravariant=True)


class Score(Protocol[Given]):
    """A score of predictions under weights of their rows: `[R,N]` → `[R]`, nan undefined."""

    @property
    def compute(self) -> Callable[[Given, Floats], Floats]: ...


def draw(
    scores: Mapping[str, Score[Scored]],
    arms: Sequence[Sequence[Scored]],
    patients: Keys,
    *,
    strata: Keys | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> list[dict[str, Floats]]:
    """Score predictions as they are, then on resamples of the patients, the same for all arms.

    Args:
        scores: name → score.
        arms: each a list of repeats (trainings), all of them predictions of the same rows.
        patients: `[N]`; rows of one patient are drawn together. Neither their order nor their
            names matter.
        strata: as in `resample_patients`.
        resamples: their number R.
        seed: alone decides the resamples.

    Returns:
        of each arm: name → `[1+R]`, the mean over its repeats; nan where one has no score.
    """
    drawn: list[dict[str, list[Floats]]] = [{name: [] for name in scores} for _ in arms]
    said = (one.contents for repeats in arms for one in repeats)
    contents = [*zip(*sorted(said, key=sorted), strict=True)]  # arms may change their places
    for weights in resample_patients(patients, resamples, seed, strata, contents):
        for values, repeats in zip(drawn, arms, strict=True):
            # All scores of one repeat before the next: they share what they compute.
            each = [[s.compute(one, weights) for s in scores.values()] for one in repeats]
            for name, found in zip(scores, zip(*each, strict=True), strict=True):
                values[name].append(np.mean(found, axis=0))
    return [{name: np.concatenate(parts) for name, parts in v.items()} for v in drawn]


def number(keys: Keys) -> tuple[list[Any], NDArray[np.intp]]:
    """Return the distinct keys in order of appearance, and for each row its key's number."""
    numbers: dict[Any, int] = {}
    place = [numbers.setdefault(key, len(numbers)) for key in keys]
    return list(numbers), np.array(place, dtype=np.intp)


def _chunks(R: int, N: int) -> Iterator[slice]:
    step = max(1, CELLS // max(1, N))
    return (slice(start, min(R, start + step)) for start in range(0, R, step))


def resample_patients(
    patients: Keys,
    resamples: int,
    seed: int,
    strata: Keys | None = None,
    contents: Sequence[Any] | None = None,
) -> Iterator[Floats]:
    """Draw patients with replacement; yield row weights `[r,N]`, some resamples at a time.

    First come `[1,N]` ones, the data as they are. Random: the patients, from `seed` alone. Each of
    the `strata` (`[N]`, such as folds; the first by name of a patient's) keeps its number of
    patients. With `contents` (`[N]`, sortable) the resamples do not depend on the order of rows or
    the names of patients: they are numbered by what their rows say. None: as they appear.
    """
    distinct, place = number(patients)
    members = _find_members(place, len(distinct), strata, contents)
    P, rng = len(distinct), np.random.default_rng(seed)
    yield np.ones((1, len(place)))
    for some in _chunks(resamples if P else 0, len(place)):
        r = some.stop - some.start
        counts = np.zeros((r, P))
        for stratum in members:
            n = len(stratum)
            drawn = rng.integers(n, size=(r, n)) + n * np.arange(r)[:, None]
            counts[:, stratum] = np.bincount(drawn.ravel(), minlength=r * n).reshape(r, n)
        yield counts[:, place]


def _find_members(
    place: NDArray[np.intp], P: int, strata: Keys | None, contents: Sequence[Any] | None
) -> list[list[int]]:
    """Return the numbers of the patients of each stratum, both in the order they are drawn in."""
    rows = np.split(np.argsort(place, kind="stable"), np.bincount(place, minlength=P).cumsum()[:-1])
    order: Sequence[int] = range(P)
    if contents is not None:
        said = [sorted(contents[row] for row in own) for own in rows]
        order = sorted(order, key=said.__getitem__)
    of = [min((str(strata[row]) for row in own), default="") if strata else "" for own in rows]
    return [[p for p in order if of[p] == name] for name in sorted(set(of))]


def interval(
    values: Floats, level: float = 0.95, bounds: Sequence[tuple[float, float]] = ()
) -> Interval:
    """Sum up `[1+R]` values, first that of the data; None where undefined.

    Resamples hold fewer distinct patients than the data, which makes some scores worse on most of
    them (the ECE of a well calibrated net): the interval is widened to the value where it lies
    outside. It holds `bounds` that are known otherwise, too, the mean of several.
    """
    value, drawn = values[0], values[1:][~np.isnan(values[1:])]
    low = high = None
    if not np.isnan(value) and len(drawn) and 2 * len(drawn) >= len(values) - 1:
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
        ends = [low, high, float(value), *(np.mean(bounds, axis=0).tolist() if bounds else ())]
        low, high = min(ends), max(ends)
    return {"value": None if np.isnan(value) else float(value), "low": low, "high": high}


def widen_level(patients: int, level: float = 0.95) -> float:
    """Return the level whose percentiles cover `level` on few patients.

    Student's quantiles take the place of the normal ones, and the spread of n is divided by n - 1.

    Reference:
        T. C. Hesterberg, What teachers should know about the bootstrap, 2015,
        doi:10.1080/00031305.2015.1089789 (the expanded percentile interval).
    """
    from scipy.special import ndtr, stdtrit

    n = max(2, patients)
    z = stdtrit(n - 1, (1 + level) / 2) * math.sqrt(n / (n - 1))
    return float(2 * ndtr(z) - 1)


def drop_point(found: Interval) -> Interval:
    """Take the ends from an interval without width: that nothing varied says nothing of chance."""
    low, high = found["low"], found["high"]
    point = low is not None and high is not None and high - low < 1e-9
    return found | {"low": None, "high": None} if point else found


def bound_difference(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float]:
    """Return the 95 % bounds of a difference, from those of two scores of different patients.

    Args:
        first: value, low, high.
        second: likewise; it is taken away.

    Reference:
        G. Y. Zou, A. Donner, Construction of confidence limits about effect measures, 2008,
        doi:10.1002/sim.3095.
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    return (
        a - b - math.hypot(a - a_low, b_high - b),
        a - b + math.hypot(a_high - a, b - b_low),
    )
