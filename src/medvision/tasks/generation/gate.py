"""The gate: may generated images be used? By coverage, label agreement and copying alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medvision.errors import MedvisionError
from medvision.evaluation.epochs import Ways

Scores = Mapping[str, Any]
TIES: Ways = {"val/coverage": "max", "val/diversity": "max"}
"""What decides between epochs of equal `val/gate_score`, which is 0 while no labels agree."""
_ALARM = 0.25  # of what real images reach


@dataclass(frozen=True)
class Thresholds:
    """What a generator is asked for.

    Attributes:
        coverage: the least share of what real images cover, in every space and class.
        agreement: the least share of the agreement on real images, both above chance, in every
            class.
        copied: the largest share of copies, in every space.

    Raises:
        MedvisionError: one of them is out of its range.
    """

    coverage: float = 0.5
    agreement: float = 0.75
    copied: float = 0.2

    def __post_init__(self) -> None:
        wrong = {
            f"coverage={self.coverage} (above 0, at most 1)": not 0 < self.coverage <= 1,
            f"agreement={self.agreement} (above 0, at most 1)": not 0 < self.agreement <= 1,
            f"copied={self.copied} (from 0 to below 1)": not 0 <= self.copied < 1,
        }
        if problems := [problem for problem, is_wrong in wrong.items() if is_wrong]:
            raise MedvisionError(f"judge.asked cannot be {'; '.join(problems)}; change these keys")


def score_gate(scores: Scores, asked: Thresholds) -> float:
    """Return one number, higher is better: the relative coverage, less where the rest falls short.

    It is the coverage itself as long as labels and copying meet what is asked for, so that their
    chance variation above the threshold picks no checkpoint.
    """
    agreement, copied = scores["label_agreement"], scores["copying"]["copied"]
    agrees = 1.0
    if agreement is not None:
        agrees = min(1.0, max(0.0, agreement["relative"]) / asked.agreement)
    own = min(1.0, (1 - copied) / (1 - asked.copied))
    return float(scores["coverage"]["relative"] * agrees * own)


def find_faults(scores: Scores, asked: Thresholds) -> dict[str, str]:
    """Return a sentence for each criterion that is not met: `coverage`, `agreement`, `copying`."""
    faults, coverage, copying = {}, scores["coverage"], scores["copying"]
    if repeats := is_collapsed(scores):
        # With few held-out images, twenty generated ones that repeat cover nearly as much as all.
        faults["coverage"] = repeats
    if coverage["relative"] < asked.coverage:
        faults["coverage"] = (
            f"coverage is {_two(coverage['relative'])} of what real images reach in class "
            f"{coverage['class']} seen by the {coverage['space']} net; {_two(asked.coverage)} is "
            "asked for"
        )
    agreement = scores["label_agreement"]
    if agreement is not None and agreement["relative"] < asked.agreement:
        faults["agreement"] = (
            f"the classifier agrees with {_two(agreement['fake'])} of the labels in class "
            f"{agreement['class']}, of real images {_two(agreement['real'])}: above chance that is "
            f"{_two(agreement['relative'])} of it; {_two(asked.agreement)} is asked for"
        )
    # A set that covers nothing lies nearer to one side by chance, as one.
    if copying["copied"] > asked.copied and coverage["relative"] >= _ALARM:
        faults["copying"] = (
            f"{_two(copying['copied'])} of the images are copies of training images seen by the "
            f"{copying['space']} net (nearer to training than to held-out images: "
            f"{_two(copying['rate'])}, unseen real images {_two(copying['null'])}); at most "
            f"{_two(asked.copied)} is allowed"
        )
    return faults


def decide_gate(scores: Scores, asked: Thresholds, notes: list[str]) -> dict[str, Any]:
    """Pass or fail a generator.

    Args:
        scores: of `Judge.score` or `Judge.quick`.
        asked: the thresholds.
        notes: what the gate could not look at; they stand among the reasons of either verdict.
    """
    faults = find_faults(scores, asked)
    notes = [*notes, *_tell_lowered(asked)]
    if scores["coverage"]["relative"] < asked.coverage and "copying" not in faults:
        notes.append("with so low a coverage the share of copies means little")
    return {
        "passed": not faults,
        "score": score_gate(scores, asked),
        "spaces": list(scores["spaces"]),
        "reasons": [*faults.values(), *notes],
    }


def _tell_lowered(asked: Thresholds) -> list[str]:
    """Say which thresholds ask for less than the usual ones."""
    usual = Thresholds()
    told = [
        f"{name} {_two(own)} instead of {_two(normal)}"
        for name, own, normal, weaker in (
            ("coverage", asked.coverage, usual.coverage, asked.coverage < usual.coverage),
            ("agreement", asked.agreement, usual.agreement, asked.agreement < usual.agreement),
            ("copied", asked.copied, usual.copied, asked.copied > usual.copied),
        )
        if weaker
    ]
    return [f"less than usual was asked for: {', '.join(told)}"] if told else []


def is_collapsed(scores: Scores) -> str | None:
    """Return a sentence if the generator makes one image a class, or very few, else None.

    Args:
        scores: of `Judge.quick` or `Judge.score`.
    """
    # Not by coverage: a generator that has just begun covers nothing, yet has not collapsed.
    diversity, distinct = scores["diversity"], scores["distinct"]
    if diversity["relative"] < _ALARM:
        return (
            f"collapsed: images of class {diversity['class']} differ by "
            f"{_two(diversity['relative'])} of what real ones do; it makes nearly one image a class"
        )
    if distinct["relative"] < _ALARM:
        return (
            f"collapsed: images of class {distinct['class']} repeat: the nearest other one is "
            f"{_two(distinct['relative'])} as far as with real images; it makes "
            "few different images"
        )
    return None


def _two(value: float) -> str:
    """Two digits without the leading nought."""
    return f"{value:.2f}".removeprefix("0") if 0 <= value < 1 else f"{value:.2f}"
