"""Which differences between models on the same patients chance alone could have made.

Always the second minus the first. Rows of one patient are not independent: every test here either
counts patients or is used only where each patient has one row.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, chi2, norm, rankdata, t

from medvision.evaluation.arms import Aligned, Repeat, align
from medvision.evaluation.intervals import Interval, Keys, WeightedScores, draw_means, interval
from medvision.evaluation.metrics import Floats, Kind, truth_of

ALWAYS = ("accuracy", "balanced_accuracy", "recall", "specificity", "brier")
Place = tuple[int, int, int | None]  # of a training: seed, split_seed, fold
ALPHA, POWER = 0.05, 0.8


class Finding(NamedTuple):
    """A test by its name, and its two-sided p; nan where the data cannot say."""

    test: str
    p: float


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
    if min(m, n) < 2:
        return hits.mean(axis=1), np.full((len(values), len(values)), np.nan)
    covariance = np.atleast_2d(np.cov(hits)) / m + np.atleast_2d(np.cov(misses)) / n
    return hits.mean(axis=1), covariance


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


def number(keys: Keys) -> tuple[list[Any], NDArray[np.intp]]:
    """Return the distinct keys in order of appearance, and for each row its key's number."""
    numbers: dict[Any, int] = {}
    place = [numbers.setdefault(key, len(numbers)) for key in keys]
    return list(numbers), np.array(place, dtype=np.intp)


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


def score_cells(
    repeats: Sequence[Repeat], classes: Sequence[str], kind: Kind, metric: str
) -> dict[Place, float]:
    """Score every training on its own rows: (seed, split_seed, fold) → value, nan undefined."""
    scores = {}
    for repeat in repeats:
        for fold in repeat.folds:
            own = repeat.table["fold"].astype(str) == ("" if fold is None else str(fold))
            rows = align([replace(repeat, folds=[fold], table=repeat.table[own])], classes, kind)
            (weighted,) = weigh(rows)
            value = weighted.score(np.ones((1, len(rows.keys))), [metric])[metric][0]
            scores[repeat.seed, repeat.split_seed, fold] = float(value)
    return scores


def weigh(arm: Aligned) -> list[WeightedScores]:
    """Make each repeat of an arm ready for the bootstrap, with its own frozen decisions."""
    pairs = zip(arm.probs, arm.preds, strict=True)
    return [WeightedScores(probs, arm.label, arm.kind, preds=preds) for probs, preds in pairs]


def compare_arms(
    arms: Sequence[Aligned],
    cells: Sequence[Mapping[Place, float]],
    metric: str,
    ratio: float,
    resamples: int = 2000,
) -> tuple[list[dict[str, Interval]], list[dict[str, Any]]]:
    """Compare every pair of arms that hold the same rows, trained in the same cells.

    Args:
        arms: of equal keys, labels and patients.
        cells: of each arm, what `score_cells` gives for `metric`.
        metric: the score that is tested.
        ratio: as in `compare_folds`.
        resamples: of patients, within the folds; the same for all arms.

    Returns:
        the scores of each arm, and a dictionary a pair: `first` and `second` (places in `arms`),
        `scores` (differences), `tests` (`score`, `decisions`, `folds`; each with `p` and `p_holm`,
        Holm's over all pairs), `seeds`, `smallest_difference`.
    """
    names = list(dict.fromkeys([metric, *ALWAYS]))
    given: dict[str, Any] = {"strata": arms[0].strata, "resamples": resamples, "names": names}
    drawn = draw_means([weigh(arm) for arm in arms], arms[0].patients, **given)
    pairs: list[dict[str, Any]] = []
    for a, b in combinations(range(len(arms)), 2):
        values = {name: drawn[b][name] - drawn[a][name] for name in names}
        tests = {"score": compare_scores(arms[a], arms[b], metric, values[metric])}
        if arms[a].kind != "multilabel":
            tests["decisions"] = count_decisions(arms[a], arms[b])
        trained = compare_trainings(cells[a], cells[b], ratio)
        tests |= {k: v for k, v in trained.items() if k == "folds"}
        pairs.append({
            "first": a, "second": b, "scores": {k: interval(v) for k, v in values.items()},
            "tests": tests, "seeds": trained.get("seeds"),
            "smallest_difference": smallest_difference(values[metric]),
        })  # fmt: skip
    for test in pairs[0]["tests"]:
        adjusted = adjust([pair["tests"][test]["p"] for pair in pairs])
        for pair, p in zip(pairs, adjusted, strict=True):
            pair["tests"][test]["p_holm"] = p
    return [{k: interval(v) for k, v in one.items()} for one in drawn], pairs


def compare_scores(a: Aligned, b: Aligned, metric: str, values: Floats) -> dict[str, Any]:
    """Test the difference of `metric`: DeLong where it holds, else the bootstrap."""
    single = len(set(a.patients)) == len(a.patients) and len(a.probs) == 1
    if metric == "auroc" and a.kind == "binary" and single:
        finding = compare_areas(a.label, a.probs[0][:, 1], b.probs[0][:, 1])
    else:
        finding = compare_draws(values)
    return describe(finding)


def count_decisions(a: Aligned, b: Aligned) -> dict[str, Any]:
    """Test who decides rightly, with the images (a mean over repeats) that one alone had right."""
    truth = truth_of(a.label, a.kind, len(a.classes)) == 1
    first, second = (np.array([(p & truth).any(axis=1) for p in arm.preds]) for arm in (a, b))
    gains = (second.astype(np.float64) - first).mean(axis=0)
    counts = {"only_first": first & ~second, "only_second": second & ~first}
    found = {name: float(cells.sum(axis=1).mean()) for name, cells in counts.items()}
    return describe(compare_decisions(gains, a.patients)) | found


def compare_trainings(
    a: Mapping[Place, float], b: Mapping[Place, float], ratio: float
) -> dict[str, dict[str, Any]]:
    """Compare cell by cell: over `folds`, or where there are none over `seeds`; {} of one cell."""
    splits: dict[tuple[int, int | None], list[float]] = {}
    for (seed, split_seed, fold), value in a.items():
        splits.setdefault((split_seed, fold), []).append(b[seed, split_seed, fold] - value)
    if len(splits) > 1:
        return {"folds": compare_folds([float(np.mean(d)) for d in splits.values()], ratio)}
    (values,) = splits.values()
    if len(values) < 2 or np.isnan(values).any():
        return {}
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    return {"seeds": {"differences": values, "mean": mean, "sd": sd}}


def describe(finding: Finding) -> dict[str, Any]:
    """Write a test as JSON can hold it."""
    return {"test": finding.test, "p": None if math.isnan(finding.p) else finding.p}
