"""Scores of a classifier: which there are, when they are defined, and their values on a device.

A score is computed a class (one against the rest) and then summed up: binary reports class 1,
multi-class and multi-label report the mean over the classes where the score is defined. In a
multi-class problem accuracy, balanced accuracy, MCC, Brier and ECE look at all classes at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvision.stats.calibration import BINS
from medvision.stats.ranking import Floats, mean_defined, ratio

if TYPE_CHECKING:
    from torch import Tensor


Kind: TypeAlias = Literal["binary", "multiclass", "multilabel"]

RANKED = ("auroc", "average_precision")
_DECIDED = ("accuracy", "precision", "recall", "specificity", "f1", "balanced_accuracy", "mcc")
CALIBRATED = ("brier", "ece")
METRICS = RANKED + _DECIDED + CALIBRATED
LABELS = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "recall": "recall (sens.)",
    "f1": "F1",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "MCC",
    "brier": "Brier score",
    "ece": "ECE",
    "npv": "NPV",
}

# The rows of a class that a score needs; the others need any row.
_NEEDS = {
    "auroc": "both",
    "average_precision": "both",
    "recall": "positives",
    "f1": "positives",
    "specificity": "negatives",
    "balanced_accuracy": "both",
    "mcc": "both",
}
REASONS = {
    "both": "needs labelled rows of at least two classes",
    "positives": "needs rows of the positive class",
    "negatives": "needs rows of a negative class",
    "rows": "needs labelled rows",
}


def label_of(metric: str, positive: str = "") -> str:
    """Return the name a reader knows a metric by; of a binary problem, whose sensitivity it is."""
    if metric == "recall" and positive:
        return f"sensitivity of {positive}"
    return LABELS.get(metric, metric.replace("_", " "))


def defined(metric: str, positives: ArrayLike, negatives: ArrayLike) -> NDArray[np.bool_]:
    """Say for each class whether its labels define `metric`, whatever a model predicts.

    Precision also needs a row predicted positive, which labels cannot promise. MCC of a constant
    prediction is 0, its limit.
    """
    found, absent = np.asarray(positives) > 0, np.asarray(negatives) > 0
    answer = {"both": found & absent, "positives": found, "negatives": absent}
    return np.asarray(answer.get(_NEEDS.get(metric, "rows"), found | absent))


def undefined_metrics(label: ArrayLike | Tensor, kind: Kind) -> dict[str, str]:
    """Name the metrics these labels cannot define, each with the reason.

    Args:
        label: `[N]` class indices, or `[N,K]` of 0 and 1 if multi-label; -1 or nan = unlabelled.
        kind: the problem.
    """
    truth = truth_of(label, kind)
    positives, negatives = (truth == 1).sum(axis=0), (truth == 0).sum(axis=0)
    if kind == "binary":
        positives, negatives = positives[1:2], negatives[1:2]
    missing = [name for name in METRICS if not defined(name, positives, negatives).any()]
    return {name: REASONS[_NEEDS.get(name, "rows")] for name in missing}


def truth_of(label: ArrayLike | Tensor, kind: Kind, classes: int = 2) -> NDArray[np.int64]:
    """Return `[N,K]` of 0 and 1, and -1 where the label is -1 or nan; K is at least `classes`."""
    known = np.nan_to_num(np.asarray(label, dtype=np.float64), nan=-1)
    values: NDArray[np.int64] = known.astype(np.int64)
    if kind == "multilabel":
        return values
    K = max(classes, int(values.max(initial=0)) + 1)
    truth: NDArray[np.int64] = (values[:, None] == np.arange(K)).astype(np.int64)
    truth[values < 0] = -1
    return truth


def one_against_rest(confusion: Floats) -> Floats:
    """Turn `[...,K,K]` (truth, prediction) into `[...,K,2,2]`, a small matrix for each class."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    misses, alarms = confusion.sum(axis=-1) - hits, confusion.sum(axis=-2) - hits
    rest = confusion.sum(axis=(-2, -1))[..., None] - hits - misses - alarms
    return np.stack([np.stack([rest, alarms], -1), np.stack([misses, hits], -1)], -2)


def correlation(confusion: Floats) -> Floats:
    """Return the MCC of `[...,C,C]` matrices; 0 where all predictions are of one class.

    Reference:
        J. Gorodkin, Comparing two K-category assignments by a K-category correlation
        coefficient, 2004, doi:10.1016/j.compbiolchem.2004.09.006.
    """
    true, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    n = confusion.sum(axis=(-2, -1))
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).sum(axis=-1)
    spread = (n**2 - (predicted**2).sum(-1)) * (n**2 - (true**2).sum(-1))
    return np.nan_to_num(
        ratio(hits * n - (true * predicted).sum(-1), np.sqrt(np.maximum(spread, 0)))
    )


def class_decisions(counts: Floats) -> dict[str, Floats]:
    """Score the decisions of each class: `[...,K,2,2]` counts → name → `[...,K]`, nan undefined."""
    tn, fp = counts[..., 0, 0], counts[..., 0, 1]
    fn, tp = counts[..., 1, 0], counts[..., 1, 1]
    recall, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    scores = {
        "accuracy": ratio(tp + tn, tp + tn + fp + fn),
        "precision": ratio(tp, tp + fp),
        "npv": ratio(tn, tn + fn),
        "recall": recall,
        "specificity": specificity,
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "balanced_accuracy": (recall + specificity) / 2,
        "mcc": correlation(counts),
    }
    return {k: np.where(defined(k, tp + fn, tn + fp), v, np.nan) for k, v in scores.items()}


def decision_scores(
    confusion: Floats, kind: Kind, asked: Mapping[str, NDArray[np.bool_]] | None = None
) -> dict[str, Floats]:
    """Score decisions: `[...,K,K]` counts (multi-label `[...,K,2,2]`) → name → `[...]`.

    With `asked`, name → `[K]`, a mean over classes is undefined where one of these is.
    """
    counts = confusion if kind == "multilabel" else one_against_rest(confusion)
    classes = class_decisions(counts)
    if kind == "binary":
        return {name: values[..., 1] for name, values in classes.items()}
    scores = {k: mean_defined(v, asked[k] if asked else None) for k, v in classes.items()}
    if kind == "multiclass":
        n = confusion.sum(axis=(-2, -1))
        two_classes = ~np.isnan(classes["mcc"]).all(axis=-1)
        hits = np.diagonal(confusion, axis1=-2, axis2=-1).sum(-1)
        scores["accuracy"] = ratio(hits, n)
        scores["balanced_accuracy"] = np.where(two_classes, scores["recall"], np.nan)
        scores["mcc"] = np.where(two_classes, correlation(confusion), np.nan)
    return scores


def score(
    probs: Tensor, label: Tensor, kind: Kind, threshold: float | Sequence[float] | None = None
) -> dict[str, float | None]:
    """Score probabilities on their own device, undefined scores being None.

    Torchmetrics counts and ranks; what is undefined is known from the counts before it is asked
    to rank, since on one class it answers AUROC 0 and average precision 1.

    Args:
        probs: `[N,K]` in 0..1; if one is nan (a diverged training), all scores are None.
        label: `[N]` class indices, or `[N,K]` of 0 and 1 if multi-label. Rows (multi-label: cells)
            of -1 or nan are left out.
        kind: the problem.
        threshold: positive from this probability on; one a class if multi-label, none if
            multi-class (highest probability). Default 0.5.
    """
    import torch
    from torchmetrics.functional.classification import (
        multiclass_confusion_matrix,
        multilabel_confusion_matrix,
    )

    with torch.inference_mode():
        # Torchmetrics would take a probability of 1.0000001 for a logit.
        probs = (probs if probs.dtype == torch.float64 else probs.float()).clamp(0, 1)
        label = torch.nan_to_num(label.float(), nan=-1.0).long()
        K = probs.shape[1]
        if kind != "multilabel":
            known = label >= 0
            probs, label = probs[known], label[known]
        options: dict[str, Any] = {"validate_args": False, "ignore_index": -1}
        if kind == "multilabel":
            cuts = probs.new_tensor(0.5 if threshold is None else threshold)
            counted = multilabel_confusion_matrix((probs >= cuts).long(), label, K, **options)
        else:
            cut = 0.5 if threshold is None else float(np.squeeze(threshold))
            preds = (probs[:, 1] >= cut).long() if kind == "binary" else probs.argmax(dim=1)
            counted = multiclass_confusion_matrix(preds, label, K, **options)
        usable = torch.isfinite(probs).all().long()
        *cells, fine = torch.cat([counted.flatten(), usable[None]]).tolist()
        if not fine:
            return dict.fromkeys(METRICS)
        confusion = np.array(cells, dtype=np.float64).reshape(counted.shape)
        values = decision_scores(confusion, kind) | _rank(probs, label, kind, confusion)
    return {name: None if np.isnan(values[name]) else float(values[name]) for name in METRICS}


def _rank(probs: Tensor, label: Tensor, kind: Kind, confusion: Floats) -> dict[str, Any]:
    """Score ranking and calibration; asks only for what the counts define."""
    import torch
    from torchmetrics.functional import classification as of

    options: dict[str, Any] = {"validate_args": False}
    counts = confusion if kind == "multilabel" else one_against_rest(confusion)
    negatives, positives = counts.sum(axis=-1).T
    answers: dict[str, list[Tensor]] = {name: [] for name in RANKED + CALIBRATED}
    columns = probs.T.contiguous()
    for k in [1] if kind == "binary" else range(probs.shape[1]):
        truth, column = (label == k).long() if kind != "multilabel" else label[:, k], columns[k]
        if kind == "multilabel":
            column, truth = column[truth >= 0], truth[truth >= 0]
        if defined("auroc", positives[k], negatives[k]):
            answers["auroc"].append(of.binary_auroc(column, truth, **options))
            answers["average_precision"].append(
                of.binary_average_precision(column, truth, **options)
            )
        if kind != "multiclass" and len(truth):
            answers["brier"].append((column - truth).square().mean())
            answers["ece"].append(of.binary_calibration_error(column, truth, BINS, **options))
    if kind == "multiclass" and len(label):
        K = probs.shape[1]
        error = probs - torch.nn.functional.one_hot(label, K)
        answers["brier"].append(error.square().sum(dim=1).mean())
        answers["ece"].append(of.multiclass_calibration_error(probs, label, K, BINS, **options))
    means = [torch.stack(x).mean() if x else probs.new_tensor(torch.nan) for x in answers.values()]
    return dict(zip(answers, torch.stack(means).tolist(), strict=True))
