"""Images over their heat, and a series as a strip: its slices, their heat, and what each counts."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medvision.evaluation.figures.style import FAINT, INK, MUTED, PALETTE, shorten, styled

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
LEFT, RIGHT = 0.1, 0.92  # of the figure: where slices and bars stand
FEWEST = 5  # a series of fewer slices is drawn no larger than one of so many
SHOWN = 14  # slices of a strip; of longer series the most telling, in their order
_OPAQUE = 0.6


def overlay(images: Bytes, heat: Floats, top: float | None = None) -> Bytes:
    """Lay heat over images: what is cold stays as it is.

    Args:
        images: `[N,H,W,C]`, C is 1 or 3.
        heat: `[N,H,W]` from 0.
        top: the heat that is hottest; None = the hottest of each image.

    Returns:
        `[N,H,W,3]`.
    """
    tops = heat.max(axis=(1, 2), keepdims=True) if top is None else np.full((1, 1, 1), top)
    share = np.clip(np.divide(heat, tops, out=np.zeros_like(heat), where=tops > 0), 0, 1)
    colour = mpl.colormaps["inferno"](share)[..., :3] * 255
    plain = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
    opaque = _OPAQUE * share[..., None]
    return np.asarray((1 - opaque) * plain + opaque * colour).astype(np.uint8)


@styled
def draw_slices(
    images: Bytes,
    heat: Floats | None,
    weight: Floats,
    score: Floats | None,
    position: Sequence[int],
    title: str,
    score_name: str = "",
) -> Figure:
    """Draw a series: slices, heat over them, and below what each slice had to say.

    Args:
        images: `[S,H,W,C]`, C is 1 or 3.
        heat: `[S,H,W]` from 0, on one scale for all slices; None where the net has none.
        weight: `[S]`, share of each slice in the answer, their sum is 1.
        score: `[S]` in 0..1, a probability of each slice; None where slices have no head.
        position: of each slice.
        title: what the series is and what was said of it.
        score_name: what `score` is the probability of.
    """
    shown = choose_slices(weight, SHOWN)
    heaviest = np.argsort(-weight, kind="stable")[:3].tolist()
    deciding = set(heaviest if np.ptp(weight) > 1e-6 or len(weight) <= 3 else [])
    rows = [images[shown]] + ([] if heat is None else [overlay(images, heat, heat.max())[shown]])
    cell = (RIGHT - LEFT) / max(len(shown), FEWEST)
    side = 7.2 * cell
    tall = side * images.shape[1] / images.shape[2]
    room, curve = 0.34, 1.7
    figure = Figure(figsize=(7.2, room + len(rows) * tall + curve))
    FigureCanvasAgg(figure)
    height = figure.get_figheight()
    figure.set_layout_engine("none")
    figure.text(0.008, 1 - 0.1 / height, shorten(title, 96), va="top", fontsize=9.5)
    for r, row in enumerate(rows):
        bottom = 1 - (room + (r + 1) * tall) / height
        for n, image in enumerate(row):
            place = (LEFT + n * cell + 0.002, bottom, cell - 0.004, tall / height - 0.01)
            axes = figure.add_axes(place)
            axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray",
                        vmin=0, vmax=255, aspect="auto")  # fmt: skip
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(shown[n] in deciding)
            axes.spines[:].set(color=PALETTE[1], linewidth=2)
    width = cell * len(shown)
    _draw_curve(figure, (width, curve / height), weight, score, position, score_name)
    return figure


def choose_slices(weight: Floats, most: int) -> NDArray[np.int64]:
    """Return the numbers of at most so many slices, in order: evenly spread, and the heaviest."""
    if len(weight) <= most:
        return np.arange(len(weight))
    heaviest = np.argsort(-weight, kind="stable")[:3]
    spread = np.linspace(0, len(weight) - 1, most - len(heaviest)).round().astype(np.int64)
    return np.union1d(spread, heaviest).astype(np.int64)


def _draw_curve(
    figure: Figure, size: tuple[float, float], weight: Floats, score: Floats | None,
    position: Sequence[int], score_name: str,
) -> None:  # fmt: skip
    """Draw bars of weight, and the line of scores, over positions in the lowest part of a figure.

    It is as wide as the slices above: where all are shown, each stands over its own bar.
    """
    axes = figure.add_axes((LEFT, 0.3 * size[1], size[0], 0.56 * size[1]))
    step = min(np.diff(np.sort(position)), default=1)
    axes.bar(position, weight, color=FAINT, edgecolor=MUTED, linewidth=0.6,
             width=0.8 * step)  # fmt: skip
    axes.set(xlim=(min(position) - step / 2, max(position) + step / 2))
    axes.set(ylim=(0, max(1.15 * float(weight.max()), 1e-6)), xlabel="position of the slice")
    axes.set_ylabel("weight", color=MUTED)
    axes.tick_params(labelsize=8.5)
    axes.locator_params(axis="x", integer=True)
    if score is not None:
        other = axes.twinx()
        other.plot(position, score, color=PALETTE[0], marker="o", markersize=3)
        other.set(ylim=(-0.03, 1.05), yticks=[0, 0.5, 1])
        other.set_ylabel(shorten(score_name, 16), color=PALETTE[0])
        other.tick_params(labelsize=8.5)
        other.spines["right"].set(visible=True, color=INK)
