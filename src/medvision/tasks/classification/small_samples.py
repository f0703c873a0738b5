"""Which shares and areas the scores of a classifier are made of: what few patients let them say."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medvision.stats.small_samples import Area, Part, Share
from medvision.tasks.classification.weighted import WeightedScores

_Mask = NDArray[np.bool_]


def list_parts(
    name: str, weighted: WeightedScores, place: NDArray[np.intp], classes: Sequence[str]
) -> list[Part]:
    """Return the parts whose mean a score is; [] of one that is no such mean.

    Args:
        name: of a metric; followed by `/` and a class, of this class alone.
        weighted: the predictions.
        place: the number of the patient of each row `[N]`.
        classes: K names.
    """
    score, _, alone = name.partition("/")
    if not weighted.finite:
        return []
    if score == "accuracy" and weighted.kind != "multilabel":
        known = weighted.known[:, 0]
        hits = (weighted.preds & (weighted.truth == 1)).any(axis=1)
        return [*_share(hits, known, place)]
    one = [1] if weighted.kind == "binary" else range(len(classes))
    chosen = [list(classes).index(alone)] if alone else one
    parts = (_of_class(score, weighted, k, place) for k in chosen)
    return [part for some in parts for part in some]


def _of_class(
    score: str, weighted: WeightedScores, k: int, place: NDArray[np.intp]
) -> Iterator[Part]:
    known, preds = weighted.known[:, k], weighted.preds[:, k]
    positive = weighted.truth[:, k] == 1
    negative = known & ~positive
    share = partial(_share, place=place)
    match score:
        case "auroc":
            yield from _area(weighted, k, positive, negative, place)
        case "recall":
            yield from share(preds, positive)
        case "specificity":
            yield from share(~preds, negative)
        case "precision":
            yield from share(positive, known & preds)
        case "npv":
            yield from share(negative, known & ~preds)
        case "accuracy":
            yield from share(preds == positive, known)
        case "f1":
            yield from share(positive & preds, positive | (known & preds), f1=True)
        case "balanced_accuracy":
            yield from share(preds, positive)
            if weighted.kind != "multiclass":
                yield from share(~preds, negative)


def _share(
    hits: _Mask, rows: _Mask, place: NDArray[np.intp], *, f1: bool = False
) -> Iterator[Share]:
    """Yield the share of hits among rows, or the F1 that follows from it; nothing of no rows."""
    if not rows.any():
        return
    share = float(hits[rows].mean())
    counted = len(np.unique(place[rows])), int(rows.sum())
    if f1:  # 2 TP / (2 TP + FP + FN) of the share TP / (TP + FP + FN)
        yield Share(share, *counted, lambda x: 2 * x / (1 + x), lambda x: 2 / (1 + x) ** 2)
    else:
        yield Share(share, *counted)


def _area(
    weighted: WeightedScores, k: int, positive: _Mask, negative: _Mask, place: NDArray[np.intp]
) -> Iterator[Area]:
    if not (positive.any() and negative.any()):
        return
    value = float(weighted.whole["auroc"][k])
    P, N = (len(np.unique(place[side])) for side in (positive, negative))
    yield Area(value, P, N, int(positive.sum()) * int(negative.sum()))
