"""Counts of decisions beside what is true, drawn."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from medvision.evaluation.figures.style import INK, blank, shorten, styled


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
