"""Agreement of predicted and true numbers, drawn."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medvision.evaluation.evaluator import Scored
from medvision.evaluation.figures.style import FAINT, INK, MUTED, PALETTE, shorten, styled
from medvision.stats.bootstrap import interval, resample_patients
from medvision.stats.ranking import Floats
from medvision.tasks.regression.metrics import AGREEMENT, Errors

MOST = 6  # targets that are drawn
SIDE = 4.6  # inches of a panel
RESAMPLES = 1000  # of patients
MANY = 400  # points from which on they are small and pale

Draw = Callable[[Any, Scored, int, Errors], None]


@styled
def draw_scatter(scored: Scored, targets: Sequence[str], each: Sequence[Errors]) -> Figure:
    """Draw predictions over true numbers, their intervals behind them, a panel a target."""
    return _draw_panels(scored, targets, each, _draw_scatter, ("true", "predicted"))


@styled
def draw_bland_altman(scored: Scored, targets: Sequence[str], each: Sequence[Errors]) -> Figure:
    """Draw differences over means, with their mean, its limits of agreement and intervals of these.

    Reference:
        Bland, Altman: Statistical methods for assessing agreement between two methods of clinical
        measurement, Lancet 1986, doi:10.1016/S0140-6736(86)90837-8. The intervals are bootstrap
        ones over patients in place of their t, which takes rows for independent.
    """
    axes = ("mean of predicted and true", "predicted − true")
    return _draw_panels(scored, targets, each, _draw_differences, axes)


def _draw_panels(
    scored: Scored, targets: Sequence[str], each: Sequence[Errors], draw: Draw,
    names: tuple[str, str],
) -> Figure:  # fmt: skip
    """Draw a panel a target, in rows of up to three."""
    shown = list(targets)[:MOST]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(columns * SIDE, rows * SIDE * 0.95))
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for t, (axes, name) in enumerate(zip(panels, shown, strict=False)):
        draw(axes, scored, t, each[t])
        axes.set(xlabel=f"{names[0]} ({shorten(name)})", ylabel=names[1])
        axes.grid(color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    return figure


def _dots(rows: int) -> dict[str, Any]:
    few = rows < MANY
    return {"s": 18 if few else 7, "alpha": 0.7 if few else 0.35, "linewidths": 0}


def _draw_scatter(axes: Any, scored: Scored, t: int, errors: Errors) -> None:
    value, pred, low, high = (scored.arrays[n][:, t] for n in ("value", "pred", "low", "high"))
    known, bounded = errors.known, errors.bounded
    held = np.concatenate([value[known], pred[known]])
    ends = np.array([held.min(), held.max()])
    if bounded.any():
        axes.vlines(value[bounded], low[bounded], high[bounded], color=PALETTE[4], alpha=0.25,
                    linewidth=1, zorder=1)  # fmt: skip
    axes.plot(ends, ends, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)), zorder=2)
    axes.scatter(value[known], pred[known], color=PALETTE[0], zorder=3, **_dots(known.sum()))
    axes.set_aspect("equal", adjustable="datalim")
    once = np.ones((1, len(value)))
    r2, mae = (float(errors.score(name, once)[0]) for name in ("r2", "mae"))
    told = [f"R² {r2:.2f}"] * (not np.isnan(r2)) + [f"MAE {mae:.3g}"]
    _note(axes, ", ".join(told))


def _draw_differences(axes: Any, scored: Scored, t: int, errors: Errors) -> None:
    value, pred = scored.arrays["value"][:, t], scored.arrays["pred"][:, t]
    known = errors.known
    middle, gap = (value[known] + pred[known]) / 2, pred[known] - value[known]
    axes.axhline(0, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)), zorder=1)
    axes.scatter(middle, gap, color=PALETTE[0], zorder=3, **_dots(known.sum()))
    for (name, drawn), color in zip(
        _draw_limits(scored, errors).items(), (PALETTE[1], INK, INK), strict=True
    ):
        found = interval(drawn)
        if (place := found["value"]) is None:
            continue
        if found["low"] is not None:
            axes.axhspan(found["low"], found["high"], color=color, alpha=0.1, linewidth=0)
        axes.axhline(place, color=color, linewidth=1.2, zorder=2)
        words = "mean" if name == "bias" else "±1.96 SD"
        axes.annotate(f"{words}\n{place:.3g}", (1.01, place), xycoords=("axes fraction", "data"),
                      va="center", color=color, fontsize=9, annotation_clip=False)  # fmt: skip


def _draw_limits(scored: Scored, errors: Errors) -> dict[str, Floats]:
    """Return bias and limits on resamples of the patients: name → `[1+R]`."""
    draws = list(resample_patients(scored.patients, RESAMPLES, seed=0, contents=scored.contents))
    return {
        name: np.concatenate([errors.score(name, weights) for weights in draws])
        for name in AGREEMENT
    }


def _note(axes: Any, text: str) -> None:
    halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top", color=INK, bbox=halo)
