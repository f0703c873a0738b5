"""The figures of a generator: what it makes, what it may have copied, how it came there."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medvision.evaluation.epochs import find_best_epoch
from medvision.evaluation.figures.common import draw_grid
from medvision.evaluation.figures.style import FAINT, MUTED, PALETTE, blanks, styled
from medvision.evaluation.report.table import show_score
from medvision.tasks.generation.gate import TIES

Pixels = NDArray[np.uint8]
PARTS = ("coverage", "diversity", "label_agreement", "copied")
"""What is drawn of an epoch's judgement below its score."""


def draw_samples(
    image: Pixels, label: NDArray[np.int64], classes: Sequence[str], columns: int = 8
) -> Figure:
    """Draw the first images of each class `[N,H,W,C]`, two rows a class."""
    chosen = np.concatenate(
        [np.flatnonzero(label == k)[: 2 * columns] for k in range(len(classes))]
    )
    return draw_grid(image[chosen], [classes[label[n]] for n in chosen], columns)


def draw_neighbours(made: Pixels, nearest: Pixels, apart: NDArray[np.float64]) -> Figure:
    """Draw generated images `[N,H,W,C]` over the nearest training image of each.

    Args:
        made: generated.
        nearest: training images, in the same order.
        apart: distance of each pair, 1 = what unseen real images are apart from training images.
    """
    pairs = np.concatenate([made, nearest])
    captions = [*["generated"] * len(made), *(show_score(value) for value in apart)]
    return draw_grid(pairs, captions, columns=len(made))


@styled
def draw_progress(history: pd.DataFrame, monitor: str) -> Figure:
    """Draw score, its parts and both losses over thousands of images.

    Args:
        history: column `train/kimg`, `epoch` and one column a score.
        monitor: what chose the epoch, which is marked.
    """
    figure, axes = blanks(4.8, 6.6, (1, 1, 1))
    kimg = history["train/kimg"]
    axes[0].plot(kimg, history[monitor], color=PALETTE[0], label=monitor)
    chosen = history[history["epoch"] == find_best_epoch(history, monitor, ties=TIES)]
    axes[0].plot(chosen["train/kimg"], chosen[monitor], "o", color=PALETTE[1], markersize=7,
                 label=f"kept: {show_score(float(chosen[monitor].iloc[0]))}")  # fmt: skip
    told = [name for name in PARTS if f"val/{name}" in history]
    for name, color in zip(told, PALETTE, strict=False):
        axes[1].plot(kimg, history[f"val/{name}"], color=color, label=name.replace("_", " "))
    for name, color in (("critic", MUTED), ("generator", PALETTE[0])):
        axes[2].plot(kimg, history[f"train/{name}_loss"], color=color, label=f"{name} loss")
    for one in axes:
        one.grid(axis="y", color=FAINT, linewidth=0.5)
        one.legend()
    axes[-1].set_xlabel("thousands of images shown")
    return figure
