"""Losses of classification: pure functions of logits and labels, in float32 even under autocast.

All take logits [B,K] and, with `multilabel=False`, `label` as class indices [B] (negative =
unlabelled) or as probabilities [B,K] of mixed images (a row with NaN or of zeros = unlabelled);
with `multilabel=True`, `label` [B,K] in [0,1] (NaN = unknown). What is unlabelled counts neither
above nor below the fraction; a batch of nothing else gives 0.

`class_weights` [K]: in the single-label case an image counts as much as its class, in mean and
normaliser (a mixed image as much as its mixture); in the multi-label case they multiply the
positives of their class alone (`pos_weight`), and the mean stays one over counts.
`label_smoothing` 0 to 1 moves that share of each label evenly over the classes (multi-label: over
yes and no).

`slice_loss` applies one of them to the slices of series.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from medvision.errors import MedvisionError
from medvision.ranges import Real

Logits = Float[Tensor, "B K"]
Label = Int[Tensor, "B"] | Float[Tensor, "B K"]
Weights = Float[Tensor, "K"] | None
Loss = Float[Tensor, ""]


def cross_entropy(
    logits: Logits,
    label: Label,
    class_weights: Weights = None,
    label_smoothing: Annotated[float, Real(0.0, 1.0)] = 0.0,
    multilabel: bool = False,
) -> Loss:
    """Softmax cross-entropy; multi-label: the mean of K binary ones."""
    return focal(logits, label, class_weights, label_smoothing, multilabel, gamma=0.0)


def focal(
    logits: Logits,
    label: Label,
    class_weights: Weights = None,
    label_smoothing: Annotated[float, Real(0.0, 1.0)] = 0.0,
    multilabel: bool = False,
    gamma: float = 2.0,
) -> Loss:
    """Cross-entropy in which what is right already counts less, by (1 - p)^gamma.

    Reference:
        Lin, Goyal, Girshick, He, Dollár: Focal Loss for Dense Object Detection, ICCV 2017,
        arXiv:1708.02002. Softmax over K classes beside the paper's sigmoid; `class_weights` stand
        for its alpha.
    """
    logits = _widen(logits)
    target, weight, counted = _prepare(logits, label, class_weights, multilabel)
    smoothed = _smooth(target, label_smoothing, multilabel)
    if multilabel:
        yes, no = _focus(logsigmoid(logits), gamma), _focus(logsigmoid(-logits), gamma)
        return _mean(-(smoothed * weight * yes + (1 - smoothed) * no) * counted, counted)
    return _mean(-smoothed * weight * _focus(log_softmax(logits, 1), gamma), counted)


def brier(
    logits: Logits,
    label: Label,
    class_weights: Weights = None,
    label_smoothing: Annotated[float, Real(0.0, 1.0)] = 0.0,
    multilabel: bool = False,
) -> Loss:
    """Mean squared error of the probabilities, over images and classes.

    For two classes this is the usual Brier score of the second; for more it is Brier's sum over
    classes divided by K.

    Reference:
        Brier: Verification of forecasts expressed in terms of probability, 1950.
    """
    logits = _widen(logits)
    target, weight, counted = _prepare(logits, label, class_weights, multilabel)
    smoothed = _smooth(target, label_smoothing, multilabel)
    if multilabel:
        emphasis = smoothed * weight + (1 - smoothed)
        return _mean(emphasis * (logits.sigmoid() - smoothed) ** 2 * counted, counted)
    emphasis = counted.sum(1, keepdim=True)
    return _mean(emphasis * (logits.softmax(1) - smoothed) ** 2 / logits.shape[1], counted)


def slice_loss(
    slice_logits: Float[Tensor, "B S K"],
    slice_label: Int[Tensor, "B S"] | Float[Tensor, "B S K"],
    length: Int[Tensor, "B"],
    loss: Callable[..., Tensor] = cross_entropy,
    class_weights: Weights = None,
    multilabel: bool = False,
) -> Loss:
    """Apply `loss` to the labelled slices of all series, each counted once; padding is left out.

    A series counts by its labelled slices; a batch without any gives 0, with a gradient of zeros.

    Args:
        slice_logits: of B series of 1 to S slices.
        slice_label: negative = unlabelled; multi-label in [0,1], NaN = unknown.
        length: number of slices; what stands behind it is not looked at.
        loss: a function of this file, or a partial of one.
        class_weights: handed on to `loss`.
        multilabel: handed on to `loss`.
    """
    # Made to count for nothing, not cut out: a device would be asked how many are left.
    there = length.to(slice_logits.device, non_blocking=True)
    padding = torch.arange(slice_logits.shape[1], device=there.device) >= there[:, None]
    none = torch.nan if slice_label.is_floating_point() else -1
    unsaid = padding if slice_label.ndim == 2 else padding[:, :, None]
    return loss(
        slice_logits.masked_fill(padding[:, :, None], 0).flatten(0, 1),
        slice_label.masked_fill(unsaid, none).flatten(0, 1),
        class_weights=class_weights, multilabel=multilabel,
    )  # fmt: skip


def _widen(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _prepare(
    logits: Tensor, label: Tensor, class_weights: Tensor | None, multilabel: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return target [B,K] (0 where unlabelled), weight [K] and what each entry counts [B,K]."""
    if (label.ndim == 1 and multilabel) or (label.ndim == 2 and label.shape != logits.shape):
        raise MedvisionError(
            f"labels of shape {list(label.shape)} do not fit logits of shape "
            f"{list(logits.shape)} with multilabel={str(multilabel).lower()}; change multilabel"
        )
    weight = logits.new_ones(logits.shape[1]) if class_weights is None else class_weights.to(logits)
    if label.ndim == 1:
        known = (label >= 0).to(logits)[:, None]
        target = torch.zeros_like(logits).scatter(1, label.clamp_min(0)[:, None].long(), known)
        return target, weight, target * weight
    unknown = label.isnan() if multilabel else label.isnan().any(1, keepdim=True)
    # Filled, not only masked afterwards: a NaN in the graph makes the gradient NaN, 0 times or not.
    target = label.to(logits).masked_fill(unknown, 0)
    return target, weight, (~unknown).to(logits) if multilabel else target * weight


def _smooth(target: Tensor, share: float, multilabel: bool) -> Tensor:
    """Keep unlabelled rows, whose target sums to zero, at zero."""
    if multilabel:
        return target * (1 - share) + share / 2
    return target * (1 - share) + target.sum(1, keepdim=True) * share / target.shape[1]


def _focus(log_probs: Tensor, gamma: float) -> Tensor:
    if gamma == 0:
        return log_probs
    # 1 - p from the logarithm keeps digits where p is near 1; the floor keeps the slope finite.
    return (-torch.expm1(log_probs)).clamp_min(1e-12) ** gamma * log_probs


def _mean(cost: Tensor, counted: Tensor) -> Tensor:
    return cost.sum() / counted.sum().clamp_min(torch.finfo(cost.dtype).tiny)
