"""Reliability, scores and the decision curve of a classifier, drawn."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from medvision.evaluation.figures.style import (
    FAINT,
    INK,
    MUTED,
    PALETTE,
    blank,
    blanks,
    styled,
    unit_axes,
)
from medvision.evaluation.report.table import show_score
from medvision.stats.calibration import BINS, calibration_error
from medvision.stats.ranking import Floats, Ranking
from medvision.stats.small_samples import Share
from medvision.tasks.classification.bands import Band, fill_band
from medvision.tasks.classification.curves import mark_point
from medvision.tasks.classification.metrics import Kind
from medvision.tasks.classification.net_benefit import THRESHOLDS, add_up, count_reaching

_BINS, _FEWEST = 10, 5  # points of the reliability diagram, and rows of one


class _Said(NamedTuple):
    """What was said (0..1), whether it came true (0, 1), and the number of the row's patient."""

    said: NDArray[np.float64]
    true: NDArray[np.float64]
    place: NDArray[np.intp]


@styled
def draw_reliability(
    probs: ArrayLike, label: ArrayLike, kind: Kind, place: ArrayLike | None = None
) -> Figure:
    """Draw how often what was said with probability p came true, over how often p was said.

    Binary: the positive class; multi-class: the chosen class; multi-label: all classes pooled.
    Points are bins of equally many rows. ECE is the mean gap of equally wide ones, weighted by
    count, and of multi-label the mean over classes, as in `metrics`.

    Args:
        probs: `[N,K]` in 0..1.
        label: `[N]`, multi-label `[N,K]`; -1 or nan = unlabelled.
        kind: the problem.
        place: the number of the patient of each row `[N]`; None: each is somebody's own.

    Reference: Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
        binning", AAAI 2015; Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    truth = np.asarray(label, dtype=np.float64)
    owners = np.arange(len(truth)) if place is None else np.asarray(place)
    asked = _said_and_true(np.asarray(probs), truth, kind, owners)
    gaps = [
        calibration_error(np.ones((1, len(one.said))), one.said, one.true)[0]
        for one in asked if len(one.said)
    ]  # fmt: skip
    whole = _Said(*(np.concatenate(column) for column in zip(*asked, strict=True)))
    figure, (top, below) = blanks(4.8, 5.4, (4, 1))
    top.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
    unit_axes(top, "", "fraction that came true")
    for said, share in _bin(whole):
        low, high = share.bound(1)
        bar = [[share.value - low], [high - share.value]]
        top.errorbar(said, share.value, bar, fmt="o", color=PALETTE[0], markersize=4.5,
                     elinewidth=1.1, capsize=2)  # fmt: skip
    ece = f"ECE {show_score(float(np.mean(gaps)))} ({BINS} bins)" if gaps else "no labelled rows"
    top.text(0.02, 0.98, ece, va="top", fontsize=9.5)
    counts = np.histogram(whole.said, BINS, (0, 1))[0]
    below.bar((np.arange(BINS) + 0.5) / BINS, counts, width=0.92 / BINS, color=FAINT)
    below.set(xlabel="predicted probability", ylabel="count")
    below.yaxis.get_major_locator().set_params(nbins=3, integer=True)
    return figure


def _bin(rows: _Said) -> Iterator[tuple[float, Share]]:
    """Yield what was said on average in each bin, and the share that came true.

    Equal probabilities share a bin, so that bins of these may be fewer and fuller.
    """
    if not len(rows.said):
        return
    number = int(np.clip(len(rows.said) // _FEWEST, 1, _BINS))
    edges = np.unique(np.quantile(rows.said, np.linspace(0, 1, number + 1)[1:-1]))
    place = np.searchsorted(edges, rows.said, side="left")
    for one in np.unique(place):
        mine = place == one
        patients = len(np.unique(rows.place[mine]))
        share = Share(float(rows.true[mine].mean()), patients, int(mine.sum()))
        yield float(rows.said[mine].mean()), share


def _said_and_true(
    probs: NDArray[np.float64], label: NDArray[np.float64], kind: Kind, place: NDArray[np.intp]
) -> list[_Said]:
    """Return what was said and whether it came true, of each question."""
    known = (label >= 0) & np.isfinite(probs if kind == "multilabel" else probs.sum(axis=1))
    if kind == "multilabel":
        return [_Said(probs[m, k], label[m, k], place[m]) for k, m in enumerate(known.T)]
    probs, label, place = probs[known], label[known], place[known]
    if kind == "binary":
        return [_Said(probs[:, 1], (label == 1).astype(np.float64), place)]
    hits = (probs.argmax(axis=1) == label).astype(np.float64)
    return [_Said(probs.max(axis=1), hits, place)]


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
def draw_decision(
    probs_positive: ArrayLike, label: ArrayLike, threshold: float | None, band: Band | None = None
) -> Figure:
    """Draw the net benefit of acting on the model, on all and on nobody, over the threshold.

    Args:
        probs_positive: `[N]` in 0..1, calibrated.
        label: `[N]`, 1 is positive; -1 or nan = unlabelled.
        threshold: the operating point; None draws none.
        band: of `draw_bands`.
    """
    truth = np.nan_to_num(np.asarray(label, dtype=np.float64), nan=-1)
    ranking = Ranking(probs_positive, truth == 1, truth >= 0)
    (hits,), (alarms,) = ranking.cumulate(np.ones((1, len(truth))))

    def benefit(cuts: Floats) -> Floats:
        return add_up(count_reaching(ranking, cuts), hits, alarms, cuts)

    share = hits[-1] / (hits[-1] + alarms[-1])
    everybody = share - (1 - share) * THRESHOLDS / (1 - THRESHOLDS)
    figure, axes = blank(4.8, 4.4)
    axes.plot(THRESHOLDS, everybody, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), label="all")
    axes.axhline(0, color=MUTED, linewidth=1, label="nobody")
    axes.plot(THRESHOLDS, benefit(THRESHOLDS), color=PALETTE[0], label="model")
    fill_band(axes, band, PALETTE[0])
    if threshold is not None and threshold < 1:
        mark_point(axes, (threshold, float(benefit(np.array([threshold]))[0])), PALETTE[0],
                   f"threshold {show_score(threshold)}")  # fmt: skip
    top = max(float(benefit(THRESHOLDS).max()), share, 0.01)
    axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.1 * top), xlabel="threshold", ylabel="net benefit")
    axes.grid(color=FAINT, linewidth=0.5)
    axes.legend(loc="upper right")
    return figure
