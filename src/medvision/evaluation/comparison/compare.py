"""Arms in pairs on the same patients: differences of scores, and what chance could have made."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from medvision.evaluation.comparison.arms import Aligned, Repeat, align
from medvision.evaluation.evaluator import Evaluator, Scored
from medvision.stats import hypothesis_tests
from medvision.stats.bootstrap import Interval, draw, drop_point, interval
from medvision.stats.ranking import Floats

Place = tuple[int, int, int | None]  # of a training: seed, split_seed, fold


def score_runs(repeats: Sequence[Repeat], evaluator: Evaluator, metric: str) -> dict[Place, float]:
    """Score every training on its own rows: (seed, split_seed, fold) → value, nan undefined."""
    scores = {}
    for repeat in repeats:
        for fold in repeat.folds:
            (scored,) = align([repeat.of_fold(fold)], evaluator).scored
            once = np.ones((1, len(scored)))
            value = evaluator.metrics[metric].compute(scored, once)[0]
            scores[repeat.seed, repeat.split_seed, fold] = float(value)
    return scores


def compare_arms(
    arms: Sequence[Aligned],
    cells: Sequence[Mapping[Place, float]],
    evaluator: Evaluator,
    metric: str,
    ratio: float,
    resamples: int = 2000,
) -> tuple[list[dict[str, Interval]], list[dict[str, Any]]]:
    """Compare every pair of arms that hold the same rows, trained in the same cells.

    Args:
        arms: of equal keys, labels and patients.
        cells: of each arm, what `score_runs` gives for `metric`.
        evaluator: of the task of all arms.
        metric: the score that is tested.
        ratio: as in `hypothesis_tests.compare_folds`.
        resamples: of patients, within the folds; the same for all arms.

    Returns:
        the scores of each arm, and a dictionary a pair: `first` and `second` (places in `arms`),
        `scores` (differences), `tests` (`score`, those of the evaluator, `folds`; each with `p`
        and `p_holm`, Holm's over all pairs), `seeds`, `undefined` (share of the resamples without
        the tested score), `smallest_difference`.
    """
    metrics = {name: evaluator.metrics[name] for name in [metric, *evaluator.compared]}
    some, first = [arm.scored for arm in arms], arms[0]
    drawn = draw(metrics, some, first.patients, strata=first.strata, resamples=resamples)
    pairs: list[dict[str, Any]] = []
    for a, b in combinations(range(len(arms)), 2):
        values = {name: drawn[b][name] - drawn[a][name] for name in metrics}
        score = evaluator.exact_test(metric, some[a], some[b]) or hypothesis_tests.compare_draws(
            values[metric]
        )
        tests = {"score": _finding_as_json(score)}
        tests |= {n: _finding_as_json(found) for n, found in _test(evaluator, some[a], some[b])}
        trained = compare_trainings(cells[a], cells[b], ratio)
        tests |= {k: v for k, v in trained.items() if k == "folds"}
        pairs.append({
            "first": a, "second": b,
            "scores": {
                name: _bound_difference(value, (drawn[a][name], drawn[b][name]))
                for name, value in values.items()
            },
            "tests": tests, "seeds": trained.get("seeds"),
            "undefined": float(np.isnan(values[metric][1:]).mean()),
            "smallest_difference": hypothesis_tests.smallest_difference(values[metric]),
        })  # fmt: skip
    for test in pairs[0]["tests"]:
        adjusted = hypothesis_tests.adjust([pair["tests"][test]["p"] for pair in pairs])
        for pair, p in zip(pairs, adjusted, strict=True):
            pair["tests"][test]["p_holm"] = p
    scores = [
        {name: evaluator.interval(name, repeats, values) for name, values in one.items()}
        for one, repeats in zip(drawn, some, strict=True)
    ]
    return scores, pairs


def _bound_difference(value: Floats, arms: Sequence[Floats]) -> Interval:
    """Return the interval of a difference; without ends where the score of an arm never varies."""
    found = interval(value)
    return drop_point(found) if any(np.ptp(one) == 0 for one in arms) else found


def _test(
    evaluator: Evaluator, a: Sequence[Scored], b: Sequence[Scored]
) -> Iterator[tuple[str, hypothesis_tests.Finding]]:
    """Yield the further tests of a task that these predictions allow."""
    for name in evaluator.tests:
        if (found := evaluator.exact_test(name, a, b)) is not None:
            yield name, found


def compare_trainings(
    a: Mapping[Place, float], b: Mapping[Place, float], ratio: float
) -> dict[str, dict[str, Any]]:
    """Compare cell by cell: over `folds`, or where there are none over `seeds`; {} of one cell."""
    splits: dict[tuple[int, int | None], list[float]] = {}
    for (seed, split_seed, fold), value in a.items():
        splits.setdefault((split_seed, fold), []).append(b[seed, split_seed, fold] - value)
    if len(splits) > 1:
        means = [float(np.mean(differences)) for differences in splits.values()]
        return {"folds": hypothesis_tests.compare_folds(means, ratio)}
    (values,) = splits.values()
    if len(values) < 2 or np.isnan(values).any():
        return {}
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    return {"seeds": {"differences": values, "mean": mean, "sd": sd}}


def _finding_as_json(finding: hypothesis_tests.Finding) -> dict[str, Any]:
    """Write a test as JSON can hold it."""
    p = None if math.isnan(finding.p) else finding.p
    return {"test": finding.test, "p": p} | dict(finding.counts)
