"""Scores of grades: which there are, when they are defined, and their values under row weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medvision.stats.ranking import Floats, ratio, sum_cells

if TYPE_CHECKING:
    from torch import Tensor

METRICS = ("kappa", "within_one", "accuracy", "mae")
LABELS = {
    "kappa": "quadratic-weighted kappa",
    "within_one": "within one grade",
    "mae": "MAE (grades)",
}
SMALLEST = 1e-6  # as `losses.ordinal` has it
REASONS = {
    "rows": "needs rows whose grade is known",
    "two": "needs rows of at least two grades",
}


def read_answer(answer: Floats) -> Floats:
    """Return the probability of each grade `[N,K]` of what a net answers `[N,K-1]`.

    In double precision, otherwise as `losses.ordinal.cumulative_logits`.
    """
    wide = np.asarray(answer, dtype=np.float64)
    steps = np.logaddexp(0, wide[:, 1:]) + SMALLEST
    logits = wide[:, :1] - np.cumsum(np.hstack([np.zeros_like(wide[:, :1]), steps]), axis=1)
    above = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    ones = np.ones((len(wide), 1))
    return np.hstack([ones, above]) - np.hstack([above, 0 * ones])


def decide(probs: Floats) -> NDArray[np.int64]:
    """Return the median grade of each row `[N]`: the lowest that a case is not likelier above."""
    above = 1 - np.cumsum(probs, axis=1)[:, :-1]
    return np.asarray((above > 0.5).sum(axis=1), dtype=np.int64)


def confuse(weights: Floats, label: NDArray[np.int64], preds: NDArray[np.int64], K: int) -> Floats:
    """Count `[R,K,K]` (truth, decision) under weights `[R,N]`."""
    return sum_cells(weights, K * label + preds, K * K).reshape(len(weights), K, K)


def score_counts(name: str, counts: Floats) -> Floats:
    """Score decisions `[R,K,K]`: `[R]`, nan undefined.

    Reference:
        Cohen: Weighted kappa, Psychological Bulletin 70, 1968, doi:10.1037/h0026256; disagreement
        by the square of the distance.
    """
    K, n = counts.shape[-1], counts.sum(axis=(1, 2))
    distance = np.abs(np.arange(K)[:, None] - np.arange(K))
    if name == "mae":
        return ratio((counts * distance).sum(axis=(1, 2)), n)
    if name in ("accuracy", "within_one"):
        near = distance <= (name == "within_one")
        return ratio((counts * near).sum(axis=(1, 2)), n)
    true, decided = counts.sum(axis=2), counts.sum(axis=1)
    expected = np.einsum("ri,rj,ij->r", true, decided, distance**2)
    kappa = 1 - ratio((counts * distance**2).sum(axis=(1, 2)) * n, expected)
    return np.where((true > 0).sum(axis=1) > 1, kappa, np.nan)


def find_reasons(label: NDArray[np.int64]) -> dict[str, str]:
    """Name the scores that these grades `[N]`, −1 = unknown, leave undefined, with the reason."""
    known = np.unique(label[label >= 0])
    lacking = dict.fromkeys(METRICS, REASONS["rows"]) if not len(known) else {}
    return lacking or ({"kappa": REASONS["two"]} if len(known) < 2 else {})


def score(probs: Tensor, label: Tensor) -> dict[str, float | None]:
    """Score probabilities `[N,K]` of grades on their own device, undefined scores being None.

    Args:
        probs: if one is nan (a diverged training), all scores are None.
        label: `[N]`, −1 = unknown.
    """
    import torch
    from torchmetrics.functional.classification import multiclass_cohen_kappa

    with torch.inference_mode():
        known = label >= 0
        probs, label = probs[known], label[known]
        if not len(label) or not bool(torch.isfinite(probs).all()):
            return dict.fromkeys(METRICS)
        preds = (1 - probs.cumsum(dim=1)[:, :-1] > 0.5).sum(dim=1)
        apart = (preds - label).abs()
        kappa = multiclass_cohen_kappa(
            preds, label, probs.shape[1], weights="quadratic", validate_args=False
        )
        varied = bool((label != label[0]).any())
        values = torch.stack(
            [kappa, (apart <= 1).float().mean(), (apart == 0).float().mean(), apart.float().mean()]
        ).tolist()
    found = dict(zip(METRICS, values, strict=True))
    return {name: None if name == "kappa" and not varied else one for name, one in found.items()}
