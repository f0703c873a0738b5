"""How many real and how many generated rows an epoch takes, and which ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, TypeGuard

import numpy as np

from medvision.errors import MedvisionError
from medvision.target import Ints

Ratio = float | Literal["balance", "only"]
RULE = "null, a number from 0 (generated ÷ real images of an epoch), balance or only"


def is_ratio(value: Any) -> TypeGuard[Ratio]:
    """Tell whether `data.extra_ratio` may be this; null is told elsewhere."""
    if value in ("balance", "only"):
        return True
    return type(value) in (int, float) and isfinite(value) and value >= 0


@dataclass(frozen=True)
class Pool:
    """Rows of which every epoch takes `count`.

    Attributes:
        cycle: an epoch goes on where the last one ended, so that all rows come up equally often;
            otherwise it draws anew, no row twice before all have come.
    """

    rows: np.ndarray
    count: int
    cycle: bool = False

    def draw(self, *key: int, epoch: int) -> np.ndarray:
        """Return `[count]` rows: a pure function of `key` and `epoch`."""
        if self.count == 0:
            return self.rows[:0]
        size = len(self.rows)
        start = epoch * self.count if self.cycle else epoch * size
        laps = range(start // size, (start + self.count - 1) // size + 1)
        order = [np.random.default_rng([*key, lap]).permutation(size) for lap in laps]
        first = start - laps[0] * size
        return np.asarray(self.rows[np.concatenate(order)[first : first + self.count]])


def mix(
    ratio: Ratio,
    real: np.ndarray,
    made: np.ndarray,
    total: int,
    groups: tuple[Ints, Sequence[str]] | None,
) -> list[Pool]:
    """Share the `total` rows of an epoch out between real and generated ones.

    Args:
        ratio: generated ÷ real; `only`: nothing but generated ones; `balance`: every class equally
            often, the commonest one with real rows alone, the others filled up to it.
        real: the rows an epoch of the real data alone would take.
        made: generated rows.
        total: of the steps of the real data alone.
        groups: the class of all rows `[N]` and the names of the classes, for `balance`; None: a row
            has not one.

    Raises:
        MedvisionError: no generated rows of a class that is to be filled up, or several labels a
            row.
    """
    if ratio == "balance":
        return _balance(real, made, total, groups)
    count = total if ratio == "only" else round(total * ratio / (1 + ratio))
    return [Pool(real, total - count), Pool(made, count, cycle=True)]


def _balance(
    real: np.ndarray, made: np.ndarray, total: int, groups: tuple[Ints, Sequence[str]] | None
) -> list[Pool]:
    """Take, of each class, real rows in proportion to the commonest one, the rest generated."""
    if groups is None:
        raise MedvisionError(
            "data.extra_ratio=balance is for images of one label each, and these have several; "
            "give a number"
        )
    label, names = groups
    held = np.bincount(label[real], minlength=len(names))
    wanted = np.full(len(names), total // len(names))
    wanted[: total % len(names)] += 1
    kept = np.rint(wanted * held / held.max()).astype(int)
    there = np.bincount(label[made], minlength=len(names))
    if lacking := [name for k, name in enumerate(names) if wanted[k] > kept[k] and there[k] == 0]:
        raise MedvisionError(
            f"data.extra_ratio=balance fills {', '.join(lacking)} up with generated images, and "
            "data.extra has none of that class; generate some, or give a number"
        )
    pools = []
    for k in range(len(names)):
        pools.append(Pool(real[label[real] == k], int(kept[k])))
        pools.append(Pool(made[label[made] == k], int(wanted[k] - kept[k]), cycle=True))
    return pools
