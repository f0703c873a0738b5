"""Whether an addition to a training is proven to help: a benefit of x, or no proven benefit.

Two kinds of luck are in the difference of two arms: which patients were tested, and how each
training went. Trainings over seeds that are all tested on the same patients are what readers are in
a study of many readers and many cases; its analysis is used here, since a patient bootstrap alone
forgets the trainings, and a t test over seeds alone forgets the patients. Data are split once, so
nothing is said about another training part.

A benefit counts only where the candidate beats every control. Each control alone is tested at the
full level: the chance that all of them are beaten by luck is no larger (R. L. Berger, 1982, on
intersection-union tests).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import norm, t

from medvision.errors import MedvisionError, did_you_mean
from medvision.evaluation.comparison.arms import Aligned, Repeat, align
from medvision.evaluation.comparison.text import MINUS, show_difference, signed
from medvision.evaluation.evaluator import Evaluator, direction, open_evaluator
from medvision.evaluation.report.table import show_score
from medvision.stats.bootstrap import resample_patients
from medvision.stats.hypothesis_tests import ALPHA, POWER
from medvision.stats.ranking import Floats

label_of = open_evaluator("classification").label
Outcome = Literal["benefit", "none", "harm"]


@dataclass(frozen=True)
class Contrast:
    """How much better the candidate is than one control; above 0 is better, whatever the score.

    Attributes:
        low, high: of the interval; None where nothing varies that it could be measured by.
        p: two-sided, before any correction.
        freedom: degrees of freedom of the t the interval is made with.
        by_training: standard error that is the luck of training (and its meeting of patients).
        by_patients: standard error that is the choice of patients.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    freedom: float
    by_training: float
    by_patients: float

    @property
    def error(self) -> float:
        return math.hypot(self.by_training, self.by_patients)


@dataclass(frozen=True)
class Verdict:
    """What a study says of a candidate.

    Attributes:
        contrasts: control → how the candidate differs from it; harm is told by the first.
        looks: the number of verdicts the study gives; intervals are as much wider.
    """

    outcome: Outcome
    candidate: str
    metric: str
    contrasts: dict[str, Contrast]
    seeds: int
    patients: int
    looks: int

    def to_json(self) -> dict[str, Any]:
        """Return plain types, with the sentence."""
        return asdict(self) | {"sentence": phrase(self)}


def judge(
    arms: Mapping[str, Sequence[Repeat]],
    candidate: str,
    controls: Sequence[str],
    evaluator: Evaluator,
    metric: str = "auroc",
    *,
    looks: int = 1,
    resamples: int = 2000,
) -> Verdict:
    """Say whether the candidate beats all controls, from predictions on the same test rows.

    Args:
        arms: name → its trainings over seeds, of one split.
        candidate: one of `arms`, chosen before their test part was opened.
        controls: of `arms`; the first is what one would train without the addition.
        evaluator: as in `align`.
        metric: the score that decides, declared beforehand.
        looks: how many such verdicts the study gives (Bonferroni).
        resamples: of the patients.

    Raises:
        MedvisionError: an arm is missing, or arms of other seeds, rows, labels or patients.
    """
    names = [candidate, *controls]
    check_seeds(arms, names)
    aligned = {name: align(arms[name], evaluator) for name in names}
    check_patients(aligned, candidate)
    drawn = {
        name: draw_trainings(arm, evaluator, metric, resamples) for name, arm in aligned.items()
    }
    patients = len(set(aligned[candidate].patients))
    return decide(drawn, candidate, controls, metric, patients=patients, looks=looks)


def check_seeds(arms: Mapping[str, Sequence[Repeat]], names: Sequence[str]) -> None:
    """Refuse arms that are missing, of one seed, of folds, or not paired seed by seed."""
    if len(names) < 2:
        raise MedvisionError("a verdict needs a candidate and at least one control; name both")
    for name in names:
        if not arms.get(name):
            near = did_you_mean(name, [other for other in arms if arms[other]])
            raise MedvisionError(f"there is no finished training of arm {name}{near}; train it")
    seeds = {name: sorted((one.seed, one.split_seed) for one in arms[name]) for name in names}
    if any(one.folds != [None] for name in names for one in arms[name]):
        raise MedvisionError(
            "a verdict is over seeds of one split, not over folds; `medvision compare` takes these"
        )
    first, rest = names[0], names[1:]
    for name in rest:
        if apart := sorted({seed for seed, _ in set(seeds[name]) ^ set(seeds[first])}):
            raise MedvisionError(
                f"{first} and {name} were not trained with the same seeds: only one of them has "
                f"{', '.join(map(str, apart))}; train what is missing"
            )
    if len(seeds[first]) < 2:
        raise MedvisionError(
            "one training an arm gives no verdict: the luck of training is unknown; "
            "train two seeds or more, better five"
        )


def check_patients(arms: Mapping[str, Aligned], candidate: str) -> None:
    """Refuse arms that were not tested on the same rows, labels and patients."""
    own = arms[candidate]
    for name, arm in arms.items():
        rows = "images", own.keys == arm.keys
        labels = "labels", rows[1] and own.truth == arm.truth
        for what, same in (rows, labels, ("patients", own.patients == arm.patients)):
            if not same:
                raise MedvisionError(
                    f"{candidate} and {name} were not tested on the same {what}; evaluate both on "
                    "the same manifest and split"
                )


def draw_trainings(
    arm: Aligned, evaluator: Evaluator, metric: str, resamples: int = 2000, seed: int = 0
) -> Floats:
    """Score each training on the same resamples of the patients: `[S,1+R]`, first the data's."""
    score = evaluator.metrics[metric]
    parts = [
        [score.compute(scored, weights) for scored in arm.scored]
        for weights in resample_patients(arm.patients, resamples, seed, arm.strata)
    ]
    return np.concatenate([np.array(part) for part in parts], axis=1)


def decide(
    drawn: Mapping[str, Floats], candidate: str, controls: Sequence[str], metric: str = "auroc", *,
    patients: int, looks: int = 1,
) -> Verdict:  # fmt: skip
    """Give the verdict on scores `[S,1+R]` of each arm, as `draw_trainings` makes them."""
    better = 1 if direction(metric) == "max" else -1
    contrasts = {
        name: contrast(better * (drawn[candidate] - drawn[name]), ALPHA / looks)
        for name in controls
    }
    found = [*contrasts.values()]
    if any(math.isnan(one.value) for one in found):
        raise MedvisionError(f"{label_of(metric)} is undefined on these labels; choose another")
    outcome: Outcome = "none"
    if all(one.low is not None and one.low > 0 for one in found):
        outcome = "benefit"
    elif found[0].high is not None and found[0].high < 0:
        outcome = "harm"
    seeds = len(drawn[candidate])
    return Verdict(outcome, candidate, metric, contrasts, seeds, patients, looks)


def contrast(gains: Floats, alpha: float = ALPHA) -> Contrast:
    """Measure a mean difference over seeds by both kinds of luck.

    Args:
        gains: `[S,1+R]`, a row a seed: the difference on the data, then on resamples of patients.
        alpha: the interval leaves this much out.

    Reference:
        N. A. Obuchowski, H. E. Rockette, Hypothesis testing of diagnostic accuracy for multiple
        readers and multiple tests, 1995, doi:10.1080/03610919508813243: the variance is that
        between readers, over their number, plus the covariance of two readers on the same cases.
        Degrees of freedom: S. L. Hillis, A comparison of denominator degrees of freedom methods for
        multiple observer ROC analysis, 2007, doi:10.1002/sim.2532.
    """
    values, S = gains[:, 0], len(gains)
    value = float(values.mean())
    between = float(values.var(ddof=1)) / S
    shared = max(_shared_variance(gains[:, 1:]), 0.0)
    spread = math.sqrt(between + shared)
    parts = (math.sqrt(between), math.sqrt(shared))
    if not spread > 1e-12:  # the same in all trainings and resamples, or undefined
        same = 1.0 if value == 0 else None
        return Contrast(value, None, None, same, math.inf, *parts)
    freedom = (S - 1) * ((between + shared) / between) ** 2 if between > 0 else math.inf
    reach = float(t.ppf(1 - alpha / 2, freedom)) * spread
    p = float(2 * t.sf(abs(value) / spread, freedom))
    return Contrast(value, value - reach, value + reach, p, freedom, *parts)


def _shared_variance(drawn: Floats) -> float:
    """Return the mean covariance of two different trainings over resamples `[S,R]` of patients."""
    defined = drawn[:, ~np.isnan(drawn).any(axis=0)]
    if 2 * defined.shape[1] < drawn.shape[1] or defined.shape[1] < 2:
        return math.nan
    covariance, S = np.cov(defined), len(drawn)
    return float((covariance.sum() - np.trace(covariance)) / (S * (S - 1)))


def choose(scores: Mapping[str, Sequence[float]], metric: str = "auroc") -> str:
    """Return the arm with the best mean score on val, the first of equal ones.

    Args:
        scores: arm → its val score under each seed.
        metric: what they are of.
    """
    better = 1 if direction(metric) == "max" else -1
    return max(scores, key=lambda name: better * float(np.mean(scores[name])))


def smallest_benefit(verdict: Verdict) -> float:
    """Return the true difference to every control that such a study would show in 80 of 100."""
    errors = [
        one.error * (t.ppf(1 - ALPHA / verdict.looks / 2, one.freedom) + norm.ppf(POWER))
        for one in verdict.contrasts.values()
    ]
    return float(max(errors))


def phrase(verdict: Verdict) -> str:
    """Write the verdict as one sentence: a benefit of x, none that is proven, or harm."""
    label, found = label_of(verdict.metric), verdict.contrasts
    told = ", ".join(
        f"{verdict.candidate} {MINUS} {name} {show_difference(asdict(one))}"
        for name, one in found.items()
    )
    if direction(verdict.metric) == "min":
        told += " (above 0 is better)"
    level = f"{100 * (1 - ALPHA / verdict.looks):.3g} %"
    facts = f"{told}; {level} intervals over {verdict.seeds} seeds and {verdict.patients} patients"
    if verdict.outcome == "benefit":
        x = min(one.value for one in found.values())
        return f"A proven benefit of {signed(x)} {label}: {facts}."
    if verdict.outcome == "harm":
        name, one = next(iter(found.items()))
        return f"Proven harm of {signed(one.value)} {label} against {name}: {facts}."
    least = smallest_benefit(verdict)
    possible = 0 < least < 1  # with two seeds it may be more than any score can differ by
    shown = (
        f"; such a study shows a benefit of {show_score(least)} in 80 of 100" if possible else ""
    )
    return f"No proven benefit in {label}: {facts}{shown}."
