"""Bounds of shares and areas that hold on few patients, and where every answer is right or wrong.

A percentile bootstrap is too narrow on few patients, and has no width at all at 0 and 1. These
bounds look at the number of patients; where patients have several rows, as many more are counted as
the bootstrap's variance allows (the effective size of a survey), never more than there are rows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medvision.stats.ranking import Floats

_TAIL, _Z = 0.025, 1.959963984540054  # of the normal distribution, two-sided
_TINY = 1e-12
Bounds = tuple[float, float]


class Part(Protocol):
    """One share or area of a score that is the mean of several, or is one alone."""

    @property
    def value(self) -> float:
        """In 0..1."""

    @property
    def patients(self) -> int:
        """The fewest of what it is made of."""

    @property
    def most(self) -> float:
        """How many rows each has, on average, at least 1."""

    @property
    def variance(self) -> float:
        """Of the value, if each patient counts once."""

    def bound(self, factor: float) -> Bounds:
        """Return the 95 % bounds for `factor` times as many patients."""


@dataclass(frozen=True)
class Share:
    """A share of rows, and what follows from it alone.

    Attributes:
        plain: the share itself.
        patients, rows: that are counted.
        transform: of the share, increasing, with its slope: an F1 of a share of hits.

    Reference:
        E. L. Korn, B. I. Graubard, Confidence intervals for proportions with small expected number
        of positive counts estimated from survey data, 1998; C. J. Clopper, E. S. Pearson, 1934.
    """

    plain: float
    patients: int
    rows: int
    transform: Callable[[float], float] = float
    slope: Callable[[float], float] = lambda _: 1.0

    @property
    def value(self) -> float:
        return self.transform(self.plain)

    @property
    def most(self) -> float:
        return self.rows / self.patients

    @property
    def variance(self) -> float:
        return self.plain * (1 - self.plain) / self.patients * self.slope(self.plain) ** 2

    def bound(self, factor: float) -> Bounds:
        from scipy.special import betaincinv  # no command waits for it that scores nothing

        n = self.patients * factor
        hits = self.plain * n
        low = betaincinv(hits, n - hits + 1, _TAIL) if hits > 0 else 0.0
        high = betaincinv(hits + 1, n - hits, 1 - _TAIL) if hits < n else 1.0
        return self.transform(float(low)), self.transform(float(high))


@dataclass(frozen=True)
class Area:
    """An area under the ROC curve.

    Attributes:
        value: in 0..1.
        positives, negatives: patients with rows of either kind.
        pairs: rows of the one kind times rows of the other.

    Reference:
        R. G. Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney
        statistic. Part 2, 2006, doi:10.1002/sim.2324 (method 5).
    """

    value: float
    positives: int
    negatives: int
    pairs: int

    @property
    def patients(self) -> int:
        return min(self.positives, self.negatives)

    @property
    def most(self) -> float:
        return math.sqrt(self.pairs / (self.positives * self.negatives))

    @property
    def variance(self) -> float:
        return self._variance(self.value, 1)

    def _variance(self, area: float, factor: float) -> float:
        m, n = self.positives * factor, self.negatives * factor
        more = (m + n) / 2 - 1
        spread = 1 + more * ((1 - area) / (2 - area) + area / (1 + area))
        return area * (1 - area) * spread / (m * n)

    def bound(self, factor: float) -> Bounds:
        from scipy.optimize import brentq

        def apart(area: float) -> float:
            return (area - self.value) ** 2 - _Z**2 * self._variance(area, factor)

        # The value itself is no bound, though at 0 and 1 it has no variance.
        below, above, end = self.value - _TINY, self.value + _TINY, 1 - _TINY
        low = brentq(apart, _TINY, below) if below > _TINY and apart(_TINY) > 0 else 0.0
        high = brentq(apart, above, end) if above < end and apart(end) > 0 else 1.0
        return float(low), float(high)


def bound_mean(parts: Sequence[Part], drawn: Floats) -> Bounds:
    """Return 95 % bounds of the mean of parts.

    Parts are taken for independent (the square root of squared distances, as G. Y. Zou and
    A. Donner, 2008, doi:10.1002/sim.3095); how they hang together, the bootstrap knows.

    Args:
        parts: at least one.
        drawn: the mean on resamples of the patients, nan undefined.
    """
    factor = _find_factor(parts, drawn)
    value = float(np.mean([part.value for part in parts]))
    lows, highs = np.array([part.bound(factor) for part in parts]).T
    values = np.array([part.value for part in parts])
    below = math.sqrt(((values - lows) ** 2).sum()) / len(parts)
    above = math.sqrt(((highs - values) ** 2).sum()) / len(parts)
    return max(0.0, value - below), min(1.0, value + above)


def _find_factor(parts: Sequence[Part], drawn: Floats) -> float:
    """Return how many patients each counts for, as its rows allow."""
    from scipy.special import stdtrit

    spread = float(np.nanvar(drawn)) if (~np.isnan(drawn)).any() else 0.0
    if spread < 1e-12:
        return 1.0
    whole = sum(part.variance for part in parts) / len(parts) ** 2
    fewest = min(part.patients for part in parts)
    t = -float(stdtrit(max(fewest - 1, 1), _TAIL))
    return float(np.clip(whole / spread * (_Z / t) ** 2, 1, min(part.most for part in parts)))
