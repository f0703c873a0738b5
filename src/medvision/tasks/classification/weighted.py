"""Scores of a classifier under the weights that patients were drawn with."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvision.stats.calibration import calibration_error
from medvision.stats.ranking import Floats, Ranking, curve_areas, mean_defined, ratio, sum_cells
from medvision.tasks.classification.calibration import apply_thresholds
from medvision.tasks.classification.metrics import (
    CALIBRATED,
    RANKED,
    Kind,
    class_decisions,
    decision_scores,
    defined,
    one_against_rest,
    truth_of,
)

Threshold = float | Sequence[float] | None


PER_CLASS = (*RANKED, "precision", "recall", "specificity", "f1")


class WeightedScores:
    """Scores of one set of rows under any weights; the rows are sorted once, here.

    What several scores share (counts of decisions, areas) is computed once for the same weights.

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
        self._weights, self._made = np.empty((0, 0)), dict[str, dict[str, Floats]]()

    @cached_property
    def whole(self) -> dict[str, Floats]:
        """The scores of each class on the data as they are: name → `[K]`, nan undefined."""
        once = np.ones((1, len(self.truth)))
        each = self.rank(once) | self._decide_each(self.confusion(once))
        return {name: values[0] for name, values in each.items()}

    @cached_property
    def held(self) -> dict[str, NDArray[np.bool_]]:
        """The classes for which the data as they are define a score: name → `[K]`.

        A mean over classes is taken over these in every resample, or not at all: over others it
        would be another score.
        """
        return {name: ~np.isnan(values) for name, values in self.whole.items()}

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
        held = np.atleast_1d(given[0].any(axis=0))[-len(pairs) :]
        brier, ece = mean_defined(np.moveaxis(np.array(pairs), 0, -1), held)
        return {"brier": brier, "ece": ece}

    def score(self, name: str, weights: Floats) -> Floats:
        """Score all classes together: `[R]`, nan undefined."""
        if name in RANKED:
            ranked = self._share("ranked", weights, self.rank)[name]
            values = (
                ranked[:, 1] if self.kind == "binary" else mean_defined(ranked, self.held[name])
            )
        elif name in CALIBRATED:
            values = self._share("calibrated", weights, self.calibration)[name]
        else:
            values = self._share("decided", weights, self._score_decisions)[name]
        return self._if_finite(values)

    def score_classes(self, name: str, weights: Floats) -> Floats:
        """Score each class against the rest: `[R,K]`, of the names in `PER_CLASS`."""
        if name in RANKED:
            return self._if_finite(self._share("ranked", weights, self.rank)[name])
        return self._if_finite(self._share("alone", weights, self._score_each)[name])

    def _if_finite(self, values: Floats) -> Floats:
        return values if self.finite else np.full_like(values, np.nan)

    def _score_decisions(self, weights: Floats) -> dict[str, Floats]:
        return decision_scores(self._count(weights), self.kind, self.held)

    def _score_each(self, weights: Floats) -> dict[str, Floats]:
        return self._decide_each(self._count(weights))

    def _decide_each(self, counts: Floats) -> dict[str, Floats]:
        return class_decisions(counts if self.kind == "multilabel" else one_against_rest(counts))

    def _count(self, weights: Floats) -> Floats:
        return self._share("counts", weights, lambda w: {"": self.confusion(w)})[""]

    def _share(
        self, what: str, weights: Floats, make: Callable[[Floats], dict[str, Floats]]
    ) -> dict[str, Floats]:
        """Return what `make` answers for these weights, asked once while they stay the same."""
        if weights is not self._weights:
            self._weights, self._made = weights, {}
        if what not in self._made:
            self._made[what] = make(weights)
        return self._made[what]


def _rank(hits: Floats, alarms: Floats) -> list[Floats]:
    """Return both areas where `metrics.defined` lets them be, nan elsewhere."""
    areas = zip(RANKED, curve_areas(hits, alarms), strict=True)
    ends = hits[:, -1], alarms[:, -1]
    return [np.where(defined(name, *ends), area, np.nan) for name, area in areas]


def _calibrate(
    weights: Floats, probs: Floats, right: NDArray[Any], error: Floats
) -> tuple[Floats, Floats]:
    """Return Brier score and expected calibration error, `[R]` each."""
    brier = ratio(weights @ error, weights.sum(axis=1))
    return brier, calibration_error(weights, probs, right)
