"""The figures of a run: pure functions from arrays to a matplotlib `Figure`.

Shapes everywhere: `probs` `[N,K]` in 0..1; `label` `[N]` class index, or `[N,K]` of 0 and 1 if
multi-label; -1 or nan = unlabelled, left out. Binary: column 1 is the positive class.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from medvision.evaluation.curves import draw_precision_recall, draw_roc
from medvision.evaluation.metrics import BINS, Kind
from medvision.evaluation.style import (
    FAINT,
    INK,
    MUTED,
    PALETTE,
    blank,
    blanks,
    save_figure,
    shorten,
    show_score,
    styled,
    unit_axes,
)

__all__ = [
    "draw_confusion",
    "draw_grid",
    "draw_learning_curves",
    "draw_precision_recall",
    "draw_reliability",
    "draw_roc",
    "draw_scores",
    "find_best_epoch",
    "save_figure",
]


@styled
def draw_confusion(matrix: ArrayLike, classes: Sequence[str]) -> Figure:
    """Draw counts, shaded by the share of the true class.

    Args:
        matrix: `[K,K]`, rows are the truth; or `[K,2,2]` of a multi-label task, drawn as one row a
            class (true negative, false positive, false negative, true positive).
        classes: K names.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    names = columns = [shorten(name, 16) for name in classes]
    if many := counts.ndim == 3:
        columns = ["TN", "FP", "FN", "TP"]
        counts, shares = counts.reshape(-1, 4), shares.reshape(-1, 4)
    height, width = counts.shape
    side = max(0.42, min(1.35, 4.0 / width))
    figure, axes = blank(1.6 + side * width, 1.1 + (0.6 if many else side) * height)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
    axes.set_xticks(range(width), columns)
    axes.set_yticks(range(height), names)
    if max(map(len, columns)) * 0.1 > side:
        axes.tick_params(axis="x", labelrotation=90)
    if not many:
        axes.set(xlabel="decided", ylabel="true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    size = 10.5 if width <= 8 else 8.5
    for row, column in np.ndindex(height, width):
        share = shares[row, column]
        text = f"{counts[row, column]}" if width > 5 else f"{counts[row, column]}\n{share:.0%}"
        axes.text(column, row, text, ha="center", va="center", linespacing=1.35,
                  color="white" if share > 0.7 else INK, fontsize=size)  # fmt: skip
    return figure


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
    gaps = [_bin(said, true, bins).gap for said, true in pairs if len(said)]
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
    """Rows by predicted probability; probability 1 has a bin of its own, as in torchmetrics.

    `rows` is `[bins + 1]`; `said` and `true` are the means of the bins that hold any.
    """

    rows: NDArray[np.int64]
    said: NDArray[np.float64]
    true: NDArray[np.float64]
    gap: float


def _bin(said: NDArray[np.float64], true: NDArray[np.float64], bins: int) -> Binned:
    place = np.searchsorted(np.linspace(0, 1, bins + 1), said, side="right") - 1
    rows = np.bincount(place, minlength=bins + 1)
    full = rows > 0
    mean = np.bincount(place, said, bins + 1)[full] / rows[full]
    share = np.bincount(place, true, bins + 1)[full] / rows[full]
    gap = float(np.sum(rows[full] * np.abs(mean - share)) / max(len(said), 1))
    return Binned(rows, mean, share, gap)


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


def find_best_epoch(history: pd.DataFrame, monitor: str) -> int | None:
    """Return the epoch with the best monitored value; errors are best low; None without values."""
    if monitor not in history or history[monitor].dropna().empty:
        return None
    values = history[monitor].dropna()
    low_is_good = any(word in monitor for word in ("loss", "brier", "ece", "error"))
    return int(history["epoch"][values.idxmin() if low_is_good else values.idxmax()])


@styled
def draw_learning_curves(history: pd.DataFrame, monitor: str | None = None) -> Figure:
    """Draw `train/loss` and `val/loss` over epochs, and the monitor with its best epoch marked.

    Args:
        history: column `epoch` and one column a metric; missing values are skipped.
        monitor: a column; without one, or where it is a loss, the losses alone are drawn.
    """
    drawn = monitor is not None and monitor in history and history[monitor].notna().any()
    own_axes = drawn and monitor not in ("train/loss", "val/loss")
    figure, axes = blanks(4.8, *((5.2, (1, 1)) if own_axes else (3.4, (1,))))
    for name, color in (("train/loss", MUTED), ("val/loss", PALETTE[0])):
        if name in history:
            rows = history.dropna(subset=[name])
            _draw_epochs(axes[0], rows["epoch"], rows[name], name, color)
    axes[0].set_ylabel("loss")
    if monitor is not None and drawn:
        rows = history.dropna(subset=[monitor])
        if own_axes:
            _draw_epochs(axes[1], rows["epoch"], rows[monitor], monitor, PALETTE[0])
            axes[1].set_ylabel(monitor)
        best = find_best_epoch(history, monitor)
        value = rows.loc[rows["epoch"] == best, monitor].iloc[0]
        axes[-1].plot(best, value, "o", color=PALETTE[1], markersize=7, zorder=5,
                      label=f"best {show_score(value)}, epoch {best}")  # fmt: skip
    for one in axes:
        one.grid(axis="y", color=FAINT, linewidth=0.5)
        if one.get_legend_handles_labels()[0]:
            one.legend()
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _draw_epochs(axes: Any, epoch: pd.Series, value: pd.Series, name: str, color: str) -> None:
    """Few epochs are points as well: one epoch alone would be no line at all."""
    axes.plot(epoch, value, label=name, color=color, marker="." if len(value) <= 20 else None)


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


@styled
def draw_grid(
    images: NDArray[np.uint8], captions: Sequence[str] | None = None, columns: int = 8
) -> Figure:
    """Draw `[N,H,W,C]` images (C is 1 or 3) pixel by pixel, a short caption above each."""
    count, height, width = images.shape[:3]
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    gap, room = 0.06, 0.22 if captions is not None else 0.06  # in widths of an image
    tall = height / width
    size = (columns * (1 + gap), rows * (tall + room))
    inch = 7.2 / size[0] if columns >= 4 else 1.6
    figure, axes = blank(size[0] * inch, size[1] * inch)
    figure.set_layout_engine("none")
    axes.set_position((0, 0, 1, 1))
    for n, image in enumerate(images):
        x, y = (n % columns) * (1 + gap) + gap / 2, (n // columns) * (tall + room) + room
        axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0,
                    vmax=255, interpolation="nearest", extent=(x, x + 1, y + tall, y))  # fmt: skip
        if captions is not None:
            points = 72 * inch * room * 0.55
            fits = max(3, int(72 * inch / (points * 0.58)))
            axes.text(x, y - 0.04, shorten(captions[n], fits), fontsize=points, va="bottom")
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.set_axis_off()
    return figure
