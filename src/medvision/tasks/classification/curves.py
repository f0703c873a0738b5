"""ROC and precision-recall curves."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics as sk

from medvision.evaluation.figures.style import (
    LINES,
    MUTED,
    PALETTE,
    blank,
    shorten,
    styled,
    unit_axes,
)
from medvision.evaluation.report.table import show_score
from medvision.stats.ranking import measure_areas
from medvision.tasks.classification.bands import Band, fill_band
from medvision.tasks.classification.metrics import Kind


class OneClass(NamedTuple):
    """One class against the rest: `score` `[N]` in 0..1, `truth` `[N]` bool, how its line looks."""

    name: str
    score: NDArray[np.floating[Any]]
    truth: NDArray[np.bool_]
    look: dict[str, Any]
    column: int


def _one_vs_rest(
    probs: ArrayLike, label: ArrayLike, classes: Sequence[str], kind: Kind
) -> Iterator[OneClass]:
    scores = np.asarray(probs, dtype=np.float64)
    truth = np.nan_to_num(np.asarray(label, dtype=np.float64), nan=-1)
    columns = [1] if kind == "binary" else range(len(classes))
    for order, k in enumerate(columns):
        look = {
            "color": PALETTE[order % len(PALETTE)],
            "linestyle": LINES[order // len(PALETTE) % len(LINES)],
        }
        mine = truth[:, k] if kind == "multilabel" else truth
        known = (mine >= 0) & np.isfinite(scores[:, k])
        wanted = 1 if kind == "multilabel" else k
        yield OneClass(str(classes[k]), scores[known, k], mine[known] == wanted, look, k)


def _curve_axes(classes: Sequence[str], kind: Kind, x: str, y: str) -> tuple[Figure, Any]:
    lines = 1 if kind == "binary" else len(classes)
    figure, axes = blank(4.8, 4.4 if lines <= 4 else 4.6 + 0.24 * lines)
    unit_axes(axes, x, y)
    return figure, axes


def _curve_legend(figure: Figure, axes: Any, loc: str) -> None:
    """Few lines are named inside the plot, many below it."""
    handles, names = axes.get_legend_handles_labels()
    if 0 < len(names) <= 6:
        axes.legend(loc=loc)
    elif names:
        columns = 2 if max(map(len, names)) <= 24 else 1
        figure.legend(handles, names, loc="outside lower left", ncols=columns)


def _at(point: float | Sequence[float] | None, column: int, kind: Kind) -> float | None:
    """Return the threshold of one class; multi-class decides by argmax and has none."""
    if point is None or kind == "multiclass":
        return None
    return float(point) if isinstance(point, int | float) else float(point[column])


@styled
def draw_roc(
    probs: ArrayLike,
    label: ArrayLike,
    classes: Sequence[str],
    kind: Kind,
    band: Band | None = None,
    operating_point: float | Sequence[float] | None = None,
) -> Figure:
    """Draw sensitivity against 1 - specificity, a line a class.

    A class without positive or without negative rows has no curve and is left out.

    Args:
        probs: `[N,K]` in 0..1.
        label: `[N]`, multi-label `[N,K]`.
        classes: K names.
        kind: binary draws the positive class alone.
        band: of `draw_bands`; only binary has one.
        operating_point: threshold on the probability (`>=` is positive); multi-label one a class.
    """
    figure, axes = _curve_axes(classes, kind, "1 - specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    for one in _one_vs_rest(probs, label, classes, kind):
        if one.truth.all() or not one.truth.any():
            continue
        fpr, tpr, _ = sk.roc_curve(one.truth, one.score, drop_intermediate=False)
        area, _ = measure_areas(one.score, one.truth)
        axes.plot(fpr, tpr, label=f"AUC {show_score(area)}  {shorten(one.name)}", **one.look)
        fill_band(axes, band if kind == "binary" else None, one.look["color"])
        if (threshold := _at(operating_point, one.column, kind)) is not None:
            positive = one.score >= threshold
            point = (positive[~one.truth].mean(), positive[one.truth].mean())
            text = f"threshold {show_score(threshold)}" if kind == "binary" else None
            mark_point(axes, point, one.look["color"], text)
    _curve_legend(figure, axes, "lower right")
    return figure


@styled
def draw_precision_recall(
    probs: ArrayLike,
    label: ArrayLike,
    classes: Sequence[str],
    kind: Kind,
    band: Band | None = None,
    operating_point: float | Sequence[float] | None = None,
) -> Figure:
    """Draw precision against recall, a line a class, over the prevalence that chance would reach.

    Arguments as in `draw_roc`; `band` is of `draw_bands`.
    """
    figure, axes = _curve_axes(classes, kind, "recall (sensitivity)", "precision")
    for one in _one_vs_rest(probs, label, classes, kind):
        if not one.truth.any():
            continue
        precision, recall, _ = sk.precision_recall_curve(one.truth, one.score)
        _, ap = measure_areas(one.score, one.truth)
        name = f"AP {show_score(ap)}  {shorten(one.name)}"
        axes.plot(recall, precision, drawstyle="steps-post", label=name, **one.look)
        fill_band(axes, band if kind == "binary" else None, one.look["color"])
        _draw_prevalence(axes, one, kind)
        if (threshold := _at(operating_point, one.column, kind)) is not None:
            positive = one.score >= threshold
            if positive.any():
                point = (positive[one.truth].mean(), one.truth[positive].mean())
                text = f"threshold {show_score(threshold)}" if kind == "binary" else None
                mark_point(axes, point, one.look["color"], text)
    _curve_legend(figure, axes, "lower left")
    return figure


def _draw_prevalence(axes: Any, one: OneClass, kind: Kind) -> None:
    alone = kind == "binary"
    share = float(one.truth.mean())
    axes.axhline(
        share,
        color=MUTED if alone else one.look["color"],
        linewidth=0.8,
        linestyle=(0, (3, 3)),
        alpha=1 if alone else 0.5,
        label=f"prevalence {show_score(share)}" if alone else None,
    )


def mark_point(axes: Any, point: tuple[float, float], color: str, text: str | None) -> None:
    """Mark an operating point by a circle."""
    axes.plot(
        *point,
        marker="o",
        markersize=7,
        linestyle="none",
        markerfacecolor="white",
        markeredgecolor=color,
        markeredgewidth=1.7,
        label=text,
        zorder=5,
        clip_on=False,
    )
