"""Where in the space of settings a sweep scored well: one axis a setting, one line an arm."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from medvision.evaluation.comparison.settings import show_setting
from medvision.evaluation.evaluator import Evaluator, direction
from medvision.evaluation.figures.style import FAINT, INK, MUTED, PALETTE, blank, shorten, styled
from medvision.evaluation.report.table import show_score

WIDE = 20  # values that span more than this factor get a logarithmic axis
AXES = 8  # settings drawn; more are no longer read
FEW = 8  # distinct numbers that get a tick each
_NUDGE = 0.012  # of an axis, up or down, so that lines of equal settings do not hide each other
_BESIDE = "not set"


@dataclass(frozen=True)
class Scale:
    """One axis of settings.

    Attributes:
        places: 0..1, of each arm.
        ticks: place → text.
    """

    places: list[float]
    ticks: dict[float, str]


@styled
def draw_parallel_coordinates(
    settings: Sequence[Mapping[str, Any]],
    scores: Sequence[Sequence[float]],
    monitor: str,
    evaluator: Evaluator | None = None,
) -> Figure:
    """Draw the monitored score over one setting, or all settings as parallel coordinates.

    Args:
        settings: of each arm, name → value; a name that is missing is drawn as not set.
        scores: of each arm, the finite scores of its runs; arms without any are left out.
        monitor: what the scores are.
        evaluator: of the task whose monitor it is; None: one of ours.
    """
    kept = [n for n, values in enumerate(scores) if len(values)]
    rows, values = [settings[n] for n in kept], [np.asarray(scores[n], float) for n in kept]
    keys = list(dict.fromkeys(key for row in settings for key in row))
    low = direction(monitor, evaluator) == "min"
    if len(keys) == 1:
        return _draw_one(keys[0], [row.get(keys[0], _BESIDE) for row in rows], values, monitor, low)
    return _draw_many(keys[:AXES], rows, np.array([v.mean() for v in values]), monitor, low)


def place_values(values: Sequence[Any]) -> Scale:
    """Place values on an axis: numbers by size, on a log axis if they span far; else in order."""
    distinct = list({show_setting(value): value for value in values}.items())
    numbers = [value for _, value in distinct if _is_number(value)]
    if len(numbers) < len(distinct):
        names = sorted(name for name, _ in distinct)
        spots = {name: _share(n, 0, len(names) - 1) for n, name in enumerate(names)}
        ticks = {spot: shorten(name, 16) for name, spot in spots.items()}
        return Scale([spots[show_setting(value)] for value in values], ticks)
    low, high = min(numbers), max(numbers)
    log = _is_wide(numbers)
    bend = math.log if log else float
    marks = numbers if len(numbers) <= FEW else _even_marks(low, high, log)
    ticks = {_share(bend(mark), bend(low), bend(high)): _show_number(mark) for mark in marks}
    return Scale([_share(bend(value), bend(low), bend(high)) for value in values], ticks)


def _is_wide(numbers: Sequence[float]) -> bool:
    """Tell whether positive numbers span more than a linear axis can show."""
    return min(numbers) > 0 and max(numbers) > WIDE * min(numbers)


def _show_number(value: float) -> str:
    """Write a tick's number in few digits."""
    return f"{value:.4g}"


def _is_number(value: Any) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value)


def _share(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def _even_marks(low: float, high: float, log: bool) -> list[float]:
    spread = np.geomspace if log else np.linspace
    return [float(f"{mark:.2g}") if 0 < n < 4 else float(mark)
            for n, mark in enumerate(spread(low, high, 5))]  # fmt: skip


def _draw_one(
    key: str,
    values: Sequence[Any],
    scores: Sequence[np.ndarray[Any, Any]],
    monitor: str,
    low: bool,
) -> Figure:
    """Draw each run as a point over its setting, and the mean of each arm."""
    figure, axes = blank(5.6, 3.8)
    numeric = all(_is_number(value) for value in values)
    places = [float(v) for v in values] if numeric else place_values(values).places
    if numeric and _is_wide(places):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    for place, some in zip(places, scores, strict=True):
        axes.plot([place] * len(some), some, "o", color=PALETTE[0], alpha=0.65, markersize=5,
                  markeredgewidth=0)  # fmt: skip
    order = np.argsort(places)
    means = np.array([some.mean() for some in scores])
    line = "-" if numeric else ""
    axes.plot(np.array(places)[order], means[order], line, color=INK, linewidth=1, zorder=1)
    axes.plot(places, means, "_", color=INK, markersize=14, markeredgewidth=1.6)
    if not numeric:
        ticks = place_values(values).ticks
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xlim(-0.25, 1.25)
    elif len(set(places)) <= FEW:
        axes.set_xticks(sorted(set(places)), [_show_number(p) for p in sorted(set(places))])
    axes.set(xlabel=key, ylabel=monitor + " (lower is better)" * low)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    return figure


def _draw_many(
    keys: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    scores: np.ndarray[Any, Any],
    monitor: str,
    low: bool,
) -> Figure:
    """Draw a line an arm through all settings to its mean score, the best one last and thick."""
    figure, axes = blank(1.6 + 1.5 * len(keys), 4.2)
    scales = [place_values([row.get(key, _BESIDE) for row in rows]) for key in keys]
    worst, best = float(scores.min()), float(scores.max())
    if low:
        worst, best = best, worst
    goodness = np.array([(s - worst) / (best - worst) if best != worst else 1.0 for s in scores])
    heights = [_share(float(s), float(scores.min()), float(scores.max())) for s in scores]
    colors = mpl.colormaps["viridis_r"]
    order = np.argsort(goodness, kind="stable")
    for n, apart in zip(order, np.linspace(-_NUDGE, _NUDGE, len(order)), strict=True):
        path = [*(scale.places[n] + apart for scale in scales), heights[n]]
        width, alpha = (2.6, 1.0) if goodness[n] == goodness.max() else (1.2, 0.75)
        axes.plot(range(len(path)), path, color=colors(0.1 + 0.9 * goodness[n]), linewidth=width,
                  alpha=alpha, clip_on=False)  # fmt: skip
    ends = sorted({float(scores.min()), float(np.median(scores)), float(scores.max())})
    spots = {_share(s, ends[0], ends[-1]): show_score(s) for s in ends}
    for x, ticks in enumerate([*(scale.ticks for scale in scales), spots]):
        _draw_axis(axes, x, ticks)
    names = [*(shorten(key, 18) for key in keys), monitor + "\n(lower is better)" * low]
    axes.set_xticks(range(len(names)), names)
    axes.set(xlim=(-0.1, len(keys) + 0.35), ylim=(-0.04, 1.04), yticks=[])
    axes.tick_params(axis="x", length=0, pad=8)
    axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def _draw_axis(axes: Any, x: int, ticks: Mapping[float, str]) -> None:
    axes.plot([x, x], [0, 1], color=MUTED, linewidth=0.8, zorder=3, clip_on=False)
    for place, text in ticks.items():
        axes.plot([x], [place], "_", color=MUTED, markersize=6, zorder=3, clip_on=False)
        halo = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        axes.annotate(text, (x, place), (6, 0), textcoords="offset points", va="center",
                      color=INK, fontsize=9, bbox=halo, zorder=4)  # fmt: skip
