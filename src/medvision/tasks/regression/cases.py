"""The largest errors and good predictions of a regressor, and how they are called."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvision.evaluation.evaluator import HIT, Case, Scored
from medvision.stats.ranking import Floats

_ERRORS, _GOOD = 12, 4  # shown at most
HIGH, LOW = "too high", "too low"


def find_units(scored: Scored) -> Floats:
    """Return the deviation of the true values of each target `[T]`, 1 where they do not vary."""
    value = scored.arrays["value"]
    known = ~np.isnan(value)
    columns = zip(value.T, known.T, strict=True)
    spread = [own[there].std() if there.any() else 0.0 for own, there in columns]
    return np.array([one if one > 0 else 1.0 for one in spread])


def _find_worst(scored: Scored) -> tuple[NDArray[np.int64], Floats]:
    """Return of each row its worst target `[N]`, and how far off that is, in deviations `[N]`."""
    value, pred = scored.arrays["value"], scored.arrays["pred"]
    miss = (pred - value) / find_units(scored)
    worst = np.nan_to_num(np.abs(miss), nan=-1.0).argmax(axis=1)
    return worst, miss[np.arange(len(miss)), worst]


def name_kinds(scored: Scored) -> list[str]:
    """Name each prediction by its worst target: a hit where its interval holds the truth.

    Where there are no intervals, a hit is no further off than half of them.
    """
    worst, miss = _find_worst(scored)
    rows = np.arange(len(worst))
    value, low, high = (scored.arrays[name][rows, worst] for name in ("value", "low", "high"))
    bounded = ~(np.isnan(low) | np.isnan(high))
    half = float(np.median(np.abs(miss))) if len(miss) else 0.0
    hit = np.where(bounded, (low <= value) & (value <= high), np.abs(miss) <= half)
    return [HIT if one else HIGH if far > 0 else LOW for one, far in zip(hit, miss, strict=True)]


def choose_cases(
    scored: Scored, targets: Sequence[str], outputs: int, point: int,
    errors: int = _ERRORS, good: int = _GOOD,
) -> Iterator[Case]:  # fmt: skip
    """Yield the largest errors, too high and too low in turn, then the smallest ones.

    A patient is shown once among the errors of one side, and once among the hits.

    Args:
        scored: predictions.
        targets: their names.
        outputs: numbers that a net answers of each target.
        point: which of them is the prediction.
        errors: shown at most.
        good: shown at most.
    """
    kind = np.array(name_kinds(scored), dtype=object)
    worst, miss = _find_worst(scored)
    whose = [f"{patient}\x1f{one}" for patient, one in zip(scored.patients, kind, strict=True)]
    far = _first_of_each(np.argsort(-np.abs(miss), kind="stable"), whose)
    near = _first_of_each(np.argsort(np.abs(miss), kind="stable"), whose)
    sides = [[row for row in far if kind[row] == side][:errors] for side in (HIGH, LOW)]
    missed = [row for pair in zip_longest(*sides) for row in pair if row is not None][:errors]
    for row in [*missed, *[row for row in near if kind[row] == HIT][:good]]:
        facts = _describe(scored, row, str(kind[row]), targets[int(worst[row])], int(worst[row]))
        output = int(worst[row]) * outputs + point
        said = f"{facts['pred']:.4g}"
        truth = f"true {facts['value']:.4g}"
        yield Case(row, str(kind[row]), truth, said, phrase_case(facts), facts, output)


def _first_of_each(order: NDArray[Any], names: Sequence[str]) -> list[int]:
    """Keep the first row of each name."""
    first: dict[str, int] = {}
    for row in order.tolist():
        first.setdefault(names[row], row)
    return list(first.values())


def _describe(scored: Scored, row: int, kind: str, name: str, t: int) -> dict[str, Any]:
    held = {key: float(scored.arrays[key][row, t]) for key in ("value", "pred", "low", "high")}
    plain = {key: None if np.isnan(one) else one for key, one in held.items()}
    return {"kind": kind, "target": name} | plain


def phrase_case(facts: Mapping[str, Any]) -> str:
    """Write in one line what is true, what was predicted, and its interval."""
    low, high = facts.get("low"), facts.get("high")
    between = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
    return f"{facts['target']} {facts['value']:.4g}, predicted {facts['pred']:.4g}{between}"
