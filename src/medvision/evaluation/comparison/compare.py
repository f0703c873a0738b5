"""Arms in pairs on the same patients: differences of scores, and what chance could have made."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from medvision.evaluation.comparison.arms import Aligned, Repeat, align
from medvision.stats import hypothesis_tests
from medvision.stats.bootstrap import Interval, interval
from medvision.stats.ranking import Floats
from medvision.tasks.classification.metrics import Kind, truth_of
from medvision.tasks.classification.weighted import WeightedScores, draw_means

ALWAYS = ("accuracy", "balanced_accuracy", "recall", "specificity", "brier")
Place = tuple[int, int, int | None]  # of a training: seed, split_seed, fold


def score_runs(
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
        cells: of each arm, what `score_runs` gives for `metric`.
        metric: the score that is tested.
        ratio: as in `hypothesis_tests.compare_folds`.
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
            "smallest_difference": hypothesis_tests.smallest_difference(values[metric]),
        })  # fmt: skip
    for test in pairs[0]["tests"]:
        adjusted = hypothesis_tests.adjust([pair["tests"][test]["p"] for pair in pairs])
        for pair, p in zip(pairs, adjusted, strict=True):
            pair["tests"][test]["p_holm"] = p
    return [{k: interval(v) for k, v in one.items()} for one in drawn], pairs


def compare_scores(a: Aligned, b: Aligned, metric: str, values: Floats) -> dict[str, Any]:
    """Test the difference of `metric`: DeLong where it holds, else the bootstrap."""
    single = len(set(a.patients)) == len(a.patients) and len(a.probs) == 1
    if metric == "auroc" and a.kind == "binary" and single:
        finding = hypothesis_tests.compare_areas(a.label, a.probs[0][:, 1], b.probs[0][:, 1])
    else:
        finding = hypothesis_tests.compare_draws(values)
    return finding_as_json(finding)


def count_decisions(a: Aligned, b: Aligned) -> dict[str, Any]:
    """Test who decides rightly, with the images (a mean over repeats) that one alone had right."""
    truth = truth_of(a.label, a.kind, len(a.classes)) == 1
    first, second = (np.array([(p & truth).any(axis=1) for p in arm.preds]) for arm in (a, b))
    gains = (second.astype(np.float64) - first).mean(axis=0)
    counts = {"only_first": first & ~second, "only_second": second & ~first}
    found = {name: float(cells.sum(axis=1).mean()) for name, cells in counts.items()}
    return finding_as_json(hypothesis_tests.compare_decisions(gains, a.patients)) | found


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


def finding_as_json(finding: hypothesis_tests.Finding) -> dict[str, Any]:
    """Write a test as JSON can hold it."""
    return {"test": finding.test, "p": None if math.isnan(finding.p) else finding.p}
