"""Figures that any task may draw: pure functions from tables and arrays to a `Figure`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medvision.evaluation.figures.style import FAINT, MUTED, PALETTE, blank, blanks, shorten, styled
from medvision.evaluation.report.table import show_score


@styled
def draw_learning_curves(
    history: pd.DataFrame,
    monitor: str | None = None,
    kept: int | None = None,
) -> Figure:
    """Draw `train/loss` and `val/loss` over epochs, and the monitor with the kept epoch marked.

    Args:
        history: column `epoch` and one column a metric; missing values are skipped.
        monitor: a column; without one, or where it is a loss, the losses alone are drawn.
        kept: the epoch.
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
        for value in rows.loc[rows["epoch"] == kept, monitor]:
            axes[-1].plot(kept, value, "o", color=PALETTE[1], markersize=7, zorder=5,
                          label=f"kept {show_score(value)}, epoch {kept}")  # fmt: skip
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
