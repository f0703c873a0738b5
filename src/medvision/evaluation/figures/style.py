"""One quiet look for every figure: colours, thin axes, and a PNG whose bytes can be repeated.

No pyplot and no lasting change of matplotlib's settings, so a notebook's own style stays its own.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager

import medvision.files as files

# Okabe and Ito's palette, told apart with any colour vision; yellow left out: too pale for a line.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#5A5A5A")
LINES = ("-", "--", ":")
INK, MUTED, FAINT = "#222222", "#6B6B6B", "#DDDDDD"
CHINESE = ("Noto Sans CJK SC", "Source Han Sans SC", "PingFang SC", "Microsoft YaHei", "SimHei")
_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans", *(f for f in CHINESE if f in fontManager.get_font_names())],
    "font.size": 10.5,
    "text.parse_math": False,  # a class may be called "$5$"
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.prop_cycle": cycler(color=PALETTE),
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.7,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under our style and lay out at once: ticks made later would take the caller's style."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_STYLE):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()
        figure.set_layout_engine("none")  # it is laid out: else it would be twice more to be saved
        return figure

    return drawn


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a PNG whose bytes depend on the drawing alone."""
    with mpl.rc_context(_STYLE), files.written_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=150, metadata={"Software": None})
    return Path(path)


def blank(width: float = 4.8, height: float = 4.4) -> tuple[Figure, Any]:
    """Start a figure of one plot; sizes in inches, made to be read at 400 pixels too."""
    figure, axes = blanks(width, height)
    return figure, axes[0]


def blanks(width: float, height: float, ratios: Sequence[float] = (1,)) -> tuple[Figure, Any]:
    """Start a figure of plots that share x, one below the other, of relative heights `ratios`."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)
    return figure, rows[:, 0]


def unit_axes(axes: Any, x: str, y: str) -> None:
    """Make a square of two shares, 0 to 1."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y, aspect="equal")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)


def shorten(text: object, width: int = 22) -> str:
    """Cut a name to `width` characters, saying so with an ellipsis."""
    name = str(text)
    return name if len(name) <= width else name[: width - 1] + "…"
