"""What a decision means where a disease is as rare as somebody says."""

import math
from collections.abc import Mapping

from medvision.stats.bootstrap import Interval, bound_difference

Score = Mapping[str, float | None]  # value, low, high


def predict_values(
    sensitivity: Score, specificity: Score, prevalence: float
) -> tuple[Interval, Interval]:
    """Return the positive and the negative predictive value at a prevalence, by Bayes' rule.

    The prevalence counts as known. The bounds of sensitivity and specificity, which are of
    different patients, are put together on the scale of the logarithm of their ratio.

    Reference:
        N. D. Mercaldo, K. F. Lau, X. H. Zhou, Confidence intervals for predictive values with an
        emphasis to case-control studies, 2007, doi:10.1002/sim.2677.
    """
    odds = prevalence / (1 - prevalence)
    positive = _share(sensitivity, _turn(specificity), odds)
    return positive, _share(specificity, _turn(sensitivity), 1 / odds)


def _turn(score: Score) -> Score:
    """Return the score of the contrary: of specificity the rate of false alarms."""
    ends = {"value": "value", "low": "high", "high": "low"}
    return {n: None if (v := score.get(of)) is None else 1 - v for n, of in ends.items()}


def _share(right: Score, wrong: Score, odds: float) -> Interval:
    """Return the share of what is right: `odds · right / (odds · right + wrong)`."""
    hit, miss = right.get("value"), wrong.get("value")
    found: Interval = {"value": None, "low": None, "high": None}
    if hit is None or miss is None or hit + miss == 0:
        return found
    found["value"] = odds * hit / (odds * hit + miss)
    least, most = right.get("low"), right.get("high")
    fewest, highest = wrong.get("low"), wrong.get("high")
    if least is not None and most is not None and fewest is not None and highest is not None:
        found["low"], found["high"] = _bound((hit, least, most), (miss, fewest, highest), odds)
    return found


def _bound(
    right: tuple[float, float, float], wrong: tuple[float, float, float], odds: float
) -> tuple[float, float]:
    """Return the bounds of the share of what is right; each rate with its own."""
    (hit, least, most), (miss, fewest, highest) = right, wrong
    if min(hit, miss) <= 0:  # no logarithm: both at their worst, both at their best
        return odds * least / (odds * least + highest), odds * most / (odds * most + fewest)
    low, high = bound_difference(
        (_log(hit), _log(least), _log(most)), (_log(miss), _log(fewest), _log(highest))
    )
    return _logistic(math.log(odds) + low), _logistic(math.log(odds) + high)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
