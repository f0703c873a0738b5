"""Which differences between models on the same patients chance alone could have made.

Always the second minus the first. Rows of one patient are not independent: every test here either
counts patients or is used only where each patient has one row.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, chi2, norm, rankdata, t

from medvision.stats.bootstrap import Keys, number
from medvision.stats.ranking import Floats, measure_areas

ALPHA, POWER = 0.05, 0.8


class Finding(NamedTuple):
    """A test by its name, its two-sided p (nan where the data cannot say), and what it counted."""

    test: str
    p: float
    counts: Mapping[str, float] = MappingProxyType({})


def delong(label: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Return the AUROC of M models `[M]` and the covariance of these estimates `[M,M]`.

    Args:
        label: `[N]` of 0 and 1, one row a patient; nan covariance with fewer than two of either.
        scores: `[M,N]`, higher is more positive; ties count half.

    Reference:
        E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Comparing the areas under two or more
        correlated receiver operating characteristic curves: a nonparametric approach, 1988,
        doi:10.2307/2531595; by the midranks of X. Sun, W. Xu, Fast implementation of DeLong's
        algorithm, 2014, doi:10.1109/LSP.2014.2337313.
    """
    positive, values = np.asarray(label) == 1, np.atleast_2d(np.asarray(scores, np.float64))
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(values, axis=1)
    hits = (ranks[:, positive] - rankdata(values[:, positive], axis=1)) / n
    misses = 1 - (ranks[:, ~positive] - rankdata(values[:, ~positive], axis=1)) / m
    areas = np.array([measure_areas(one, positive)[0] for one in values])
    if min(m, n) < 2:
        return areas, np.full((len(values), len(values)), np.nan)
    return areas, np.atleast_2d(np.cov(hits)) / m + np.atleast_2d(np.cov(misses)) / n


def compare_areas(label: ArrayLike, first: ArrayLike, second: ArrayLike) -> Finding:
    """Test the difference of two AUROCs on the same patients; arguments as in `delong`."""
    areas, covariance = delong(label, np.stack([np.asarray(first), np.asarray(second)]))
    difference = areas[1] - areas[0]
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance > 1e-15:
        p = 2 * norm.sf(abs(difference) / math.sqrt(variance))
    else:  # no spread to measure the difference by, unless there is none
        p = 1.0 if difference == 0 else math.nan
    return Finding("DeLong", float(p))


def compare_decisions(gains: ArrayLike, patients: Keys) -> Finding:
    """Test whether one model decides rightly more often: McNemar's test, over patients.

    Args:
        gains: `[N]`, 1 where only the second model is right, -1 where only the first, 0 else; or
            the mean of that over repeats. Exact where each patient has one row of whole numbers.
        patients: `[N]`.

    Reference:
        Q. McNemar, Note on the sampling error of the difference between correlated proportions,
        1947, doi:10.1007/BF02295996. Several rows a patient: N. A. Obuchowski, On the comparison
        of correlated proportions for clustered data, Statistics in Medicine 17, 1998: the statistic
        is (sum of d)^2 / sum of d^2, d being a patient's summed gains. We leave out the factor
        (n - 1) / n of n patients, so that one row a patient gives McNemar's own.
    """
    values = np.asarray(gains, dtype=np.float64)
    _, place = number(patients)
    if len(values) == place.max(initial=-1) + 1 and (values == values.round()).all():
        won, lost = int((values > 0).sum()), int((values < 0).sum())
        p = binomtest(won, won + lost).pvalue if won + lost else 1.0
        return Finding("exact McNemar", float(p))
    sums = np.bincount(place, values)
    square = float((sums**2).sum())
    p = chi2.sf(float(sums.sum()) ** 2 / square, 1) if square > 0 else 1.0
    return Finding("clustered McNemar", float(p))


def compare_draws(values: Floats) -> Finding:
    """Test a difference by the share of its resamples on the other side of 0.

    Args:
        values: `[1+R]`, first that of the data; undefined resamples are left out. The smallest p
            is 2 / (R + 1).
    """
    drawn = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or 2 * len(drawn) < len(values) - 1 or not len(drawn):
        return Finding("paired patient bootstrap", math.nan)
    shares = [(1 + (side <= 0).sum()) / (len(drawn) + 1) for side in (drawn, -drawn)]
    return Finding("paired patient bootstrap", float(min(1.0, 2 * min(shares))))


def compare_folds(differences: ArrayLike, ratio: float) -> dict[str, Any]:
    """Test a difference over folds, whose training parts overlap: the corrected resampled t.

    Args:
        differences: `[J]`, one a fold (a mean over seeds, which share the split); nan left out.
        ratio: patients tested over patients trained on, of a fold.

    Reference:
        C. Nadeau, Y. Bengio, Inference for the generalization error, 2003,
        doi:10.1023/A:1024068626366.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[~np.isnan(values)]
    J = len(values)
    result: dict[str, Any] = {"test": "corrected resampled t", "folds": J, "ratio": ratio}
    spread = math.sqrt((1 / J + ratio) * values.var(ddof=1)) if J > 1 else math.nan
    if not spread > 0:  # one fold, or the same difference in all
        value = float(values.mean()) if J else None
        same = 1.0 if J > 1 and not values.any() else None
        return result | {"value": value, "low": None, "high": None, "p": same}
    value, reach = float(values.mean()), float(t.ppf(1 - ALPHA / 2, J - 1)) * spread
    p = float(2 * t.sf(abs(value) / spread, J - 1))
    return result | {"value": value, "low": value - reach, "high": value + reach, "p": p}


def adjust(ps: Sequence[float | None]) -> list[float | None]:
    """Raise p values so that the chance of any false alarm among them stays as said; None stays.

    Reference: S. Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = sorted((p, k) for k, p in enumerate(ps) if p is not None)
    answer, reached = list(ps), 0.0
    for rank, (p, k) in enumerate(order):
        answer[k] = reached = max(reached, min(1.0, (len(order) - rank) * p))
    return answer


def smallest_difference(values: Floats) -> float | None:
    """Return the true difference that data like these would show at 5 % in 80 of 100 studies.

    Args:
        values: `[1+R]` paired bootstrap differences; None where they do not vary.
    """
    drawn = values[1:][~np.isnan(values[1:])]
    error = float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0
    return (norm.ppf(1 - ALPHA / 2) + norm.ppf(POWER)) * error if error > 0 else None
