"""Scores of a classifier under the weights that patients were drawn with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvision.stats.bootstrap import LARGE, Interval, Keys, _rank, interval, resample_patients
from medvision.stats.calibration import calibration_error
from medvision.stats.ranking import Floats, Ranking, mean_defined, ratio, sum_cells
from medvision.tasks.classification.calibration import apply_thresholds
from medvision.tasks.classification.metrics import (
    METRICS,
    RANKED,
    Kind,
    class_decisions,
    decision_scores,
    one_against_rest,
    truth_of,
)

Threshold = float | Sequence[float] | None
PER_CLASS = (*RANKED, "precision", "recall", "specificity", "f1")


class WeightedScores:
    """Scores of one set of rows under any weights; the rows are sorted once, here.

    Args:
        probs: `[N,K]` in 0..1; if one of a labelled row is nan, no score is defined.
        label, kind, threshold: as in `metrics.score`.
        preds: decisions `[N,K]` bool made elsewhere, taken instead of the threshold's.
    """

    def __init__(
        self, probs: ArrayLike, label: ArrayLike, kind: Kind, threshold: Threshold = None,
        preds: NDArray[np.bool_] | None = None,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.probs = np.clip(np.asarray(probs, dtype=np.float64), 0, 1)
        self.truth = truth_of(label, kind, self.probs.shape[1])
        self.known = self.truth >= 0
        self.finite = bool(np.isfinite(self.probs[self.known.any(axis=1)]).all())
        self.preds = apply_thresholds(self.probs, kind, threshold) if preds is None else preds
        self.rankings = [
            Ranking(probs, truth == 1, truth >= 0)
            for probs, truth in zip(self.probs.T, self.truth.T, strict=True)
        ]

    def rank(self, weights: Floats) -> dict[str, Floats]:
        """Return each class's area under the ROC and the precision-recall curve, `[R,K]`."""
        pairs = [_rank(*ranking.cumulate(weights)) for ranking in self.rankings]
        return dict(zip(RANKED, np.moveaxis(np.array(pairs), 0, -1), strict=True))

    def confusion(self, weights: Floats) -> Floats:
        """Count `[R,K,K]` (truth, prediction), if multi-label `[R,K,2,2]`."""
        K = self.probs.shape[1]
        if self.kind == "multilabel":
            rows, k = np.nonzero(self.known)
            cells = 4 * k + 2 * self.truth[rows, k] + self.preds[rows, k]
            shape: tuple[int, ...] = (K, 2, 2)
        else:
            rows = np.flatnonzero(self.known[:, 0])
            cells = K * self.truth[rows].argmax(axis=1) + self.preds[rows].argmax(axis=1)
            shape = (K, K)
        return sum_cells(weights[:, rows], cells, int(np.prod(shape))).reshape(-1, *shape)

    def calibration(self, weights: Floats) -> dict[str, Floats]:
        """Return Brier score and expected calibration error, `[R]`."""
        error = (self.probs - self.truth) ** 2
        given: tuple[NDArray[Any], ...] = (self.known, self.probs, self.truth, error)
        if self.kind == "multiclass":
            right = (self.preds & (self.truth == 1)).any(axis=1)
            given = (self.known[:, 0], self.probs.max(axis=1), right, error.sum(axis=1))
        columns = zip(*(np.atleast_2d(x.T) for x in given), strict=True)
        pairs = [_calibrate(weights[:, some], *(x[some] for x in rest)) for some, *rest in columns]
        pairs = pairs[-1:] if self.kind == "binary" else pairs
        brier, ece = mean_defined(np.moveaxis(np.array(pairs), 0, -1))
        return {"brier": brier, "ece": ece}

    def score(self, weights: Floats, names: Sequence[str] = METRICS) -> dict[str, Floats]:
        """Return name → `[R]`, and `name/classes` → `[R,K]` for what a class has alone."""
        confusion = self.confusion(weights)
        counts = confusion if self.kind == "multilabel" else one_against_rest(confusion)
        scores, alone = decision_scores(confusion, self.kind), class_decisions(counts)
        if not set(names).isdisjoint(RANKED):
            ranked, one = self.rank(weights), self.kind == "binary"
            scores |= {k: v[:, 1] if one else mean_defined(v) for k, v in ranked.items()}
            alone |= ranked
        if not set(names).isdisjoint(("brier", "ece")):
            scores |= self.calibration(weights)
        wanted = {name: scores[name] for name in names}
        wanted |= {f"{name}/classes": alone[name] for name in PER_CLASS if name in alone}
        return wanted if self.finite else {k: np.full_like(v, np.nan) for k, v in wanted.items()}


def _calibrate(
    weights: Floats, probs: Floats, right: NDArray[Any], error: Floats
) -> tuple[Floats, Floats]:
    """Return Brier score and expected calibration error, `[R]` each."""
    brier = ratio(weights @ error, weights.sum(axis=1))
    return brier, calibration_error(weights, probs, right)


def draw_means(
    models: Sequence[Sequence[WeightedScores]],
    patients: Keys,
    *,
    strata: Keys | None = None,
    resamples: int = 2000,
    seed: int = 0,
    names: Sequence[str] = METRICS,
) -> list[dict[str, Floats]]:
    """Score models, each a list of repeats (trainings), on the same resamples of the same rows.

    Returns:
        of each model: name → `[1+R]`, the mean over its repeats; nan where one has no score.
    """
    drawn: list[dict[str, list[Floats]]] = [{name: [] for name in names} for _ in models]
    for weights in resample_patients(patients, resamples, seed, strata):
        for values, repeats in zip(drawn, models, strict=True):
            scores = [repeat.score(weights, names) for repeat in repeats]
            for name in names:
                values[name].append(np.mean([score[name] for score in scores], axis=0))
    return [{name: np.concatenate(parts) for name, parts in v.items()} for v in drawn]


def bootstrap_classes(
    probs: ArrayLike,
    label: ArrayLike,
    kind: Kind,
    patients: Keys,
    *,
    threshold: Threshold = None,
    resamples: int | None = None,
    seed: int = 0,
    level: float = 0.95,
    names: Sequence[str] = METRICS,
) -> tuple[dict[str, Interval], list[dict[str, Any]]]:
    """Run the patient bootstrap once, for all classes together and for each alone.

    Args:
        probs: `[N,K]` in 0..1.
        label: as in `metrics.score`.
        kind: the problem.
        patients: `[N]`; rows of one patient are drawn together.
        threshold: as in `metrics.score`.
        resamples: default 2000, or 1000 for more than 50 000 probabilities (rows times classes).
        seed: alone decides the resamples.
        level: share of the resamples inside the interval.
        names: the metrics wanted; leaving out the ranked ones saves most of the time.

    Returns:
        name → `{value, low, high}`, a mean over classes with their number as `classes`; and for
        each class `n`, its rows, and name → `{value, low, high}` of itself against the rest.
    """
    scores = WeightedScores(probs, label, kind, threshold)
    resamples = (1000 if np.size(probs) > LARGE else 2000) if resamples is None else resamples
    drawn = [scores.score(w, names) for w in resample_patients(patients, resamples, seed)]
    values = {name: np.concatenate([part[name] for part in drawn]) for name in drawn[0]}
    alone = {name: values[key] for name in PER_CLASS if (key := f"{name}/classes") in values}
    together: dict[str, Any] = {name: interval(values[name], level) for name in names}
    for name in set(alone) & set(names) if kind != "binary" else ():
        together[name]["classes"] = int((~np.isnan(alone[name][0])).sum())
    each = [
        {"n": int(n)} | {name: interval(v[:, k], level) for name, v in alone.items()}
        for k, n in enumerate((scores.truth == 1).sum(axis=0))
    ]
    return together, each
