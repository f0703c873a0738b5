"""What is fitted on the validation part after training: temperature and operating point."""

import logging
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvision.errors import MedvisionError, did_you_mean
from medvision.stats.ranking import Floats
from medvision.tasks.classification.metrics import Kind, truth_of

log = logging.getLogger(__name__)

_COOLEST, _HOTTEST = 1 / 20, 20.0
FEWEST = (
    10  # labelled rows, or patients of a class: fewer move what is fitted by more than its worth
)
RULES = ("youden", "f1", "sensitivity>=0.95", "specificity>=0.9", "fixed=0.5")


def apply_temperature(logits: ArrayLike, temperature: float, kind: Kind) -> Floats:
    """Turn logits `[N,K]` into probabilities: softmax, or a sigmoid a class if multi-label."""
    from scipy.special import expit, softmax

    cooled = np.asarray(logits, dtype=np.float64) / temperature
    return np.asarray(expit(cooled) if kind == "multilabel" else softmax(cooled, axis=1))


def fit_temperature(logits: ArrayLike, label: ArrayLike, kind: Kind) -> float:
    """Find the temperature as `find_temperature` does; log why it stays 1 where it has to."""
    temperature, reason = find_temperature(logits, label, kind)
    if reason:
        log.warning("the temperature stays 1: %s", reason)
    return temperature


def find_temperature(logits: ArrayLike, label: ArrayLike, kind: Kind) -> tuple[float, str]:
    """Find the temperature in 1/20..20 that makes the labels likeliest.

    It is 1.0, with the reason beside it, where the labels cannot tell: one class, fewer than 10
    labelled rows, logits that are not finite, or classes so well separated that the likeliest
    temperature is the coolest (it would call every probability 0 or 1).

    Args:
        logits: `[N,K]`.
        label: `[N]` class indices, or `[N,K]` of 0 and 1 if multi-label; -1 or nan = unlabelled.
        kind: the problem.

    Reference:
        C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, On calibration of modern neural networks,
        2017, arXiv:1706.04599. One parameter, by bounded search in its logarithm.
    """
    scores = np.asarray(logits, dtype=np.float64)
    truth = np.nan_to_num(np.asarray(label, dtype=np.float64), nan=-1).astype(np.int64)
    known = truth >= 0
    reason = _why_not(scores, truth, known)
    if reason is None:
        found = _likeliest(scores, truth, known, kind)
        if found is not None:
            return found, ""
        reason = "the likeliest one is below 1/20 (separated classes, or nearly constant logits)"
    return 1.0, reason


def at_bound(temperature: float) -> bool:
    """Tell whether a fitted temperature would have gone on if it might."""
    return not 1.01 * _COOLEST < temperature < 0.99 * _HOTTEST


def _why_not(scores: Floats, truth: NDArray[np.int64], known: NDArray[np.bool_]) -> str | None:
    rows = int(known.sum() if known.ndim == 1 else known.any(axis=1).sum())
    if rows < FEWEST:
        return f"the validation part has {rows} labelled rows, fewer than {FEWEST}"
    if len(np.unique(truth[known])) < 2:
        return "the validation part has one class only"
    return None if np.isfinite(scores).all() else "the logits are not finite"


def _likeliest(
    scores: Floats, truth: NDArray[np.int64], known: NDArray[np.bool_], kind: Kind
) -> float | None:
    """Return None where nothing is likelier than the coolest temperature."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_expit, log_softmax

    def surprise(log_temperature: float) -> float:
        cooled = scores / np.exp(log_temperature)
        if kind == "multilabel":
            return -float(log_expit(np.where(truth == 1, cooled, -cooled))[known].mean())
        chances = log_softmax(cooled[known], axis=1)
        return -float(np.take_along_axis(chances, truth[known][:, None], axis=1).mean())

    found = minimize_scalar(
        surprise, bounds=np.log([_COOLEST, _HOTTEST]), method="bounded", options={"xatol": 1e-6}
    )
    separated = surprise(np.log(_COOLEST)) <= found.fun + 1e-12
    return None if separated else float(np.exp(found.x))


def parse_rule(rule: str) -> tuple[str, float]:
    """Split a rule such as `sensitivity>=0.95` into its name and number (nan where it has none).

    Raises:
        MedvisionError: an unknown rule, or a number outside 0..1.
    """
    text = rule.strip().lower().replace(" ", "")
    if text in ("youden", "f1"):
        return text, float("nan")
    match = re.fullmatch(r"(sensitivity>=|specificity>=|fixed=)(\d*\.?\d+)", text)
    if match and 0 <= float(match[2]) <= 1:
        return match[1].rstrip(">="), float(match[2])
    hint = did_you_mean(text, RULES)
    raise MedvisionError(
        f"operating_point={rule} is not a rule{hint}; take one of {', '.join(RULES)} "
        "(any number between 0 and 1)"
    )


def choose_threshold(probs_positive: ArrayLike, label: ArrayLike, rule: str) -> float:
    """Choose the probability from which on a row is called positive.

    It lies midway between two neighbouring scores (or between an outermost score and 0 or 1).
    `sensitivity>=x` takes the highest specificity among the thresholds that reach x, and the other
    way round; equals are told apart by the other rate. Of equally good thresholds the one nearest
    0.5 is taken, then the lower. On one class it is 0.5, with the reason logged.

    Args:
        probs_positive: `[N]` in 0..1.
        label: `[N]` of 0 and 1; -1 or nan = unlabelled.
        rule: `youden`, `f1`, `sensitivity>=x`, `specificity>=x` or `fixed=x`.

    Raises:
        MedvisionError: an unknown rule.
    """
    name, number = parse_rule(rule)
    if name == "fixed":
        return number
    probs, truth = np.asarray(probs_positive, np.float64), np.asarray(label, np.float64)
    known = np.isfinite(probs) & (truth >= 0)
    probs, truth = probs[known], truth[known]
    if len(np.unique(truth)) < 2:
        log.warning("the threshold stays 0.5: the validation part has one class only")
        return 0.5
    cuts, sensitivity, specificity, f1 = _operating_points(probs, truth == 1)
    wishes: dict[str, list[NDArray[Any]]] = {
        "youden": [sensitivity + specificity],
        "f1": [f1],
        "sensitivity": [sensitivity >= number - 1e-12, specificity, sensitivity],
        "specificity": [specificity >= number - 1e-12, sensitivity, specificity],
    }
    left = np.ones(len(cuts), dtype=bool)
    for wish in wishes[name]:
        left &= wish >= wish[left].max() - 1e-12
    best = cuts[left]
    return float(best[np.argmin(np.abs(best - 0.5))])


def find_rare(
    label: ArrayLike, kind: Kind, rule: str, patients: Sequence[str] | None = None
) -> dict[int, int]:
    """Return the classes that too few patients have for a threshold to be chosen, and how many.

    Fewer than 10 of a class, or without a label, move the best threshold anywhere; a fixed one and
    the likeliest class need none.

    Args:
        label: `[N]` class indices, or `[N,K]` of 0 and 1 if multi-label; -1 or nan = unlabelled.
        kind: the problem.
        rule: as in `choose_threshold`.
        patients: `[N]`; None: each row is one's own.
    """
    if kind == "multiclass" or parse_rule(rule)[0] == "fixed":
        return {}
    truth = truth_of(label, kind)
    names = np.asarray(range(len(truth)) if patients is None else patients)
    sides = [[len(np.unique(names[side == value])) for value in (0, 1)] for side in truth.T]
    counts = [min(pair) if kind == "multilabel" else pair[1] for pair in sides]
    return {k: n for k, n in enumerate(counts) if n < FEWEST}


def choose_thresholds(
    probs: ArrayLike, label: ArrayLike, kind: Kind, rule: str, rare: Collection[int] = ()
) -> float | list[float] | None:
    """Choose what `metrics.score` takes as threshold: one, one a class if multi-label, or None.

    Args:
        probs: `[N,K]` in 0..1.
        label: `[N]` class indices, or `[N,K]` of 0 and 1 if multi-label; -1 or nan = unlabelled.
        kind: the problem; multi-class takes the likeliest class and has no threshold.
        rule: as in `choose_threshold`.
        rare: classes that no threshold can be chosen for: 0.5.
    """
    parse_rule(rule)
    columns, truth = np.asarray(probs, np.float64), np.asarray(label, np.float64)
    if kind == "multiclass":
        return None
    if kind == "binary":
        return 0.5 if rare else choose_threshold(columns[:, 1], truth, rule)
    return [
        0.5 if k in rare else choose_threshold(columns[:, k], truth[:, k], rule)
        for k in range(columns.shape[1])
    ]


def _operating_points(
    probs: Floats, positive: NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Every threshold that decides differently, ascending, with its rates."""
    scores, place = np.unique(probs, return_inverse=True)
    edges = np.concatenate([[0.0], scores, [1.0]])
    middle = (edges[:-1] + edges[1:]) / 2
    # Neighbouring floats have no middle, and nothing lies above a score of 1.
    cuts = np.where(middle > edges[:-1], middle, edges[1:])
    cuts[-1] = max(cuts[-1], np.nextafter(scores[-1], 2))
    below = np.bincount(place, positive, len(scores)), np.bincount(place, ~positive, len(scores))
    fn, tn = (np.concatenate([[0], np.cumsum(x)]) for x in below)
    tp, fp = positive.sum() - fn, (~positive).sum() - tn
    return cuts, tp / positive.sum(), tn / (~positive).sum(), 2 * tp / (2 * tp + fp + fn)


def apply_thresholds(
    probs: ArrayLike, kind: Kind, threshold: float | Sequence[float] | None = None
) -> NDArray[np.bool_]:
    """Decide at the operating point: `[N,K]`, one true cell a row unless multi-label.

    Args:
        probs: `[N,K]` in 0..1.
        kind: the problem.
        threshold: as in `metrics.score`; None is 0.5. A multi-class row takes its likeliest class.
    """
    values = np.asarray(probs, dtype=np.float64)
    cuts = np.asarray(0.5 if threshold is None else threshold, dtype=np.float64)
    if kind == "multilabel":
        return np.asarray(values >= cuts)
    if kind == "binary":
        positive = values[:, 1] >= float(np.squeeze(cuts))
        return np.stack([~positive, positive], axis=1)
    return np.asarray(values.argmax(axis=1)[:, None] == np.arange(values.shape[1]))
