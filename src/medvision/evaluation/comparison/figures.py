"""Differences with their intervals, drawn."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from medvision.evaluation.comparison.text import LONGEST, Difference, show_difference
from medvision.evaluation.figures.style import (
    FAINT,
    INK,
    MUTED,
    PALETTE,
    blank,
    shorten,
    styled,
)


@styled
def draw_differences(rows: Sequence[Difference]) -> Figure:
    """Draw differences with their 95 % intervals, grouped by score; coloured where 0 lies outside.

    Args:
        rows: those of one score follow each other; the name of a pair may repeat.
    """
    several = len({row.pair for row in rows}) > 1
    groups = list(dict.fromkeys(row.score for row in rows)) if several else []
    longest = max(len(row.pair if several else row.score) for row in rows)
    wide = 4.2 + 0.075 * min(longest, LONGEST)  # inches: two names may be as long as compare shows
    figure, axes = blank(wide, 1.1 + 0.31 * (len(rows) + len(groups)))
    place, ticks, names = 0, [], []
    for n, row in enumerate(rows):
        if several and (n == 0 or rows[n - 1].score != row.score):
            axes.text(0, place, row.score, transform=axes.get_yaxis_transform(), va="center",
                      weight="bold", bbox={"facecolor": "white", "edgecolor": "none"})  # fmt: skip
            place += 1
        _draw_row(axes, place, row)
        ticks.append(place)
        names.append(shorten(row.pair if several else row.score, LONGEST))
        place += 1
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=0)
    axes.set_yticks(ticks, names)
    axes.set(ylim=(place - 0.4, -0.6), xlabel="difference" if several else rows[0].pair)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.margins(x=0.08)
    return figure


def _draw_row(axes: Any, place: int, row: Difference) -> None:
    """Draw one line: a point, its interval, and both in figures at the right edge."""
    apart = row.low is not None and row.high is not None and (row.low > 0 or row.high < 0)
    color = PALETTE[0] if apart else MUTED
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [place, place], color=color, solid_capstyle="butt")
    axes.plot([row.value], [place], "o" if apart else "s", color=color, markersize=5.5)
    axes.text(1.02, place, show_difference(row._asdict()), transform=axes.get_yaxis_transform(),
              va="center", color=INK, fontsize=9.5)  # fmt: skip
