"""Reliability and scores of a classifier, drawn."""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from medvision.evaluation.figures.style import (
    FAINT,
    INK,
    MUTED,
    PALETTE,
    blank,
    blanks,
    styled,
    unit_axes,
)
from medvision.evaluation.report.table import show_score
from medvision.stats.calibration import BINS, calibration_error, place_in_bins
from medvision.tasks.classification.metrics import Kind


@styled
def draw_reliability(probs: ArrayLike, label: ArrayLike, kind: Kind, bins: int = BINS) -> Figure:
    """Draw how often what was said with probability p came true, over how often p was said.

    Binary: the positive class; multi-class: the chosen class; multi-label: all classes pooled.
    Bins are equally wide; empty ones have no point. ECE is the mean gap weighted by count, and of
    multi-label the mean over classes, as in `metrics`.

    Reference: Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
        binning", AAAI 2015; Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    pairs = _said_and_true(np.asarray(probs), np.asarray(label, dtype=np.float64), kind)
    gaps = [
        calibration_error(np.ones((1, len(said))), said, true, bins)[0]
        for said, true in pairs
        if len(said)
    ]
    said, true = (np.concatenate(column) for column in zip(*pairs, strict=True))
    binned = _bin(said, true, bins)
    figure, (top, below) = blanks(4.8, 5.4, (4, 1))
    top.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    name = f"ECE {show_score(float(np.mean(gaps)))} ({bins} bins)" if gaps else "no labelled rows"
    top.plot(binned.said, binned.true, "o-", markersize=4.5, label=name)
    unit_axes(top, "", "fraction that came true")
    top.legend(loc="upper left")
    counts = np.append(binned.rows[: bins - 1], binned.rows[bins - 1 :].sum())
    below.bar((np.arange(bins) + 0.5) / bins, counts, width=0.92 / bins, color=FAINT)
    below.set(xlabel="predicted probability", ylabel="count")
    below.yaxis.get_major_locator().set_params(nbins=3, integer=True)
    return figure


class Binned(NamedTuple):
    """Rows by predicted probability: `[bins + 1]`, and the means of the bins that hold any."""

    rows: NDArray[np.int64]
    said: NDArray[np.float64]
    true: NDArray[np.float64]


def _bin(said: NDArray[np.float64], true: NDArray[np.float64], bins: int) -> Binned:
    place = place_in_bins(said, bins)
    rows = np.bincount(place, minlength=bins + 1)
    full = rows > 0
    mean = np.bincount(place, said, bins + 1)[full] / rows[full]
    share = np.bincount(place, true, bins + 1)[full] / rows[full]
    return Binned(rows, mean, share)


def _said_and_true(
    probs: NDArray[np.float64], label: NDArray[np.float64], kind: Kind
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return pairs of what was said (0..1) and whether it came true (0, 1), a pair a question."""
    known = (label >= 0) & np.isfinite(probs if kind == "multilabel" else probs.sum(axis=1))
    if kind == "multilabel":
        return [(probs[m, k], label[m, k]) for k, m in enumerate(known.T)]
    probs, label = probs[known], label[known]
    if kind == "binary":
        return [(probs[:, 1], (label == 1).astype(np.float64))]
    return [(probs.max(axis=1), (probs.argmax(axis=1) == label).astype(np.float64))]


@styled
def draw_scores(
    probs_positive: ArrayLike, label: ArrayLike, threshold: float | None, bins: int = 30
) -> Figure:
    """Draw where the positive probability falls, as shares of each class.

    Args:
        probs_positive: `[N]` in 0..1.
        label: `[N]`, 1 is positive.
        threshold: the operating point, a line; None draws none.
        bins: equally wide ones over 0..1.
    """
    scores, truth = np.asarray(probs_positive), np.asarray(label, dtype=np.float64)
    figure, axes = blank(4.8, 3.4)
    sides = ((truth == 0, "negative", PALETTE[0]), (truth == 1, "positive", PALETTE[1]))
    for rows, name, color in sides:
        if rows.any():
            weights = np.full(rows.sum(), 100 / rows.sum())
            axes.hist(scores[rows], np.linspace(0, 1, bins + 1), weights=weights, color=color,
                      histtype="stepfilled", alpha=0.45, edgecolor=color, linewidth=1.2,
                      label=f"{name} ({rows.sum()})")  # fmt: skip
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (4, 2)),
                     label=f"threshold {show_score(threshold)}")  # fmt: skip
    axes.set(xlim=(-0.01, 1.01), xlabel="predicted probability", ylabel="% of the class")
    figure.legend(loc="outside upper left", ncols=3, columnspacing=1.2, handlelength=1.4)
    return figure
