"""The target of regression: numbers in columns of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.target import Array, Encoded, Ragged, Target

_PREFIX = "y_"
_DIFFERS = "differs within the series"  # stands in a cell where rows of one series disagree
_QUARTERS = (0.25, 0.5, 0.75)
SHOWN = 3  # cells of a column that are written out


@dataclass(frozen=True)
class Number(Target):
    """Numbers of a row, each in a column `y_<name>`, in the user's own units.

    Encoded they are one entry, `value`: float32 `[N,T]`, nan = unknown. A row of which any is known
    trains and is scored on those that are.

    Attributes:
        names: of the columns, without `y_`.
        cuts: a target, where its values are cut into quarters, so that parts are alike in them.
    """

    columns: ClassVar[tuple[str, ...]] = (_PREFIX,)

    names: list[str]
    cuts: list[list[float]] = field(default_factory=list, compare=False)

    @classmethod
    def resolve(
        cls,
        table: pd.DataFrame,
        card: Mapping[str, Any],
        *,
        targets: Sequence[str] | None = None,
    ) -> "Number":
        """Take the columns that were asked for, else all.

        Raises:
            MedvisionError: there are none, or not these, or their cells are no numbers.
        """
        found = [str(name).removeprefix(_PREFIX) for name in table if str(name).startswith(_PREFIX)]
        names = found if targets is None else [str(name).removeprefix(_PREFIX) for name in targets]
        if not names:
            raise MedvisionError(
                "there is no column y_NAME with numbers to predict; say columns.y_NAME=THEIRS"
            )
        if wrong := [f"y_{name}{did_you_mean(name, found)}" for name in names if name not in found]:
            there = ", ".join(f"y_{name}" for name in found) or "none"
            raise collect(
                "no such columns", wrong, f"The manifest has {there}; see data.annotation.targets"
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise MedvisionError(
                f"data.annotation.targets names {', '.join(twice)} twice; name each column once"
            )
        values = cls(names).read(table)
        alike = [
            name for name, own in zip(names, values.T, strict=True) if _count_different(own) < 2
        ]
        if alike:
            raise collect(
                "columns of fewer than two different numbers",
                [f"y_{name}" for name in alike],
                "There is nothing to learn; leave them out with data.annotation.targets",
            )
        cuts = [np.unique(np.nanquantile(own, _QUARTERS)).tolist() for own in values.T]
        return cls(names, cuts)

    def read(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """Read the cells of a table as numbers `[N,T]`; "" is nan.

        Raises:
            MedvisionError: cells that are none, all of them counted.
        """
        columns, problems = [], []
        for name in self.names:
            cells = table.get(f"{_PREFIX}{name}", pd.Series("", table.index)).fillna("").astype(str)
            numbers = pd.to_numeric(cells.where(cells != "", "nan"), errors="coerce")
            wrong = cells[(cells != "") & ~np.isfinite(numbers)]
            problems += _tell_wrong(name, wrong)
            columns.append(numbers.to_numpy(np.float64))
        if problems:
            raise collect(
                "cells that are no numbers", problems,
                "Mend them, leave them empty where the number is not known, or choose other "
                "columns with data.annotation.targets",
            )  # fmt: skip
        return np.stack(columns, axis=1)

    def encode(self, table: pd.DataFrame) -> dict[str, Array | Ragged]:
        return {"value": self.read(table).astype(np.float32)}

    def decode(self, encoded: Encoded) -> dict[str, list[Any]]:
        """Return the numbers as they were written: the shortest that single precision tells apart.

        What is not known is None.
        """
        columns = zip(self.names, encoded_value(encoded).T, strict=True)
        return {
            f"value_{name}": [None if np.isnan(one) else float(str(one)) for one in own]
            for name, own in columns
        }

    def known(self, encoded: Encoded) -> NDArray[np.bool_]:
        return np.asarray(~np.isnan(encoded_value(encoded)).all(axis=1))

    @classmethod
    def of_unit(cls, table: pd.DataFrame, keys: pd.Series) -> pd.DataFrame:
        """Return the numbers of the whole series: those of its rows, where these agree.

        Where they do not the cell says so, which is no number: it is refused if it is asked for.
        """
        whole = {}
        for name in (str(name) for name in table if str(name).startswith(_PREFIX)):
            cells = table[name].fillna("").astype(str)
            said = cells.where(cells != "")
            groups = said.groupby(keys)
            agreed = groups.transform("nunique") < 2
            whole[name] = groups.transform("first").fillna("").where(agreed, _DIFFERS)
        return pd.DataFrame(whole, index=table.index)

    def strata(self, table: pd.DataFrame) -> pd.Series:
        """Return the quarter of each target that a row lies in, `a|b` of several targets."""
        values = self.read(table)
        each = [
            _name_quarters(name, own, cuts)
            for name, own, cuts in zip(self.names, values.T, self.cuts, strict=True)
        ]
        joined = ["|".join(filter(None, names)) for names in zip(*each, strict=True)]
        return pd.Series(joined, table.index, dtype=object)

    def count(self, encoded: Encoded, patients: Sequence[str]) -> dict[str, Any]:
        """Count samples of which nothing is known, and describe the numbers of the others."""
        values = encoded_value(encoded).astype(np.float64)
        numbers = {name: describe(own) for name, own in zip(self.names, values.T, strict=True)}
        return {"unlabelled": int((~self.known(encoded)).sum()), "numbers": numbers}

    def plain(self) -> dict[str, Any]:
        return {"targets": self.names}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Number":
        return cls(list(content["targets"]))


def describe(values: NDArray[np.float64]) -> dict[str, float | int | None]:
    """Sum numbers up; None where there are none."""
    known = values[~np.isnan(values)]
    if not len(known):
        return {"known": 0} | dict.fromkeys(("mean", "sd", "median", "low", "high"))
    low, median, high = np.quantile(known, _QUARTERS).tolist()
    spread = {"mean": float(known.mean()), "sd": float(known.std())}
    return {"known": len(known), **spread, "median": median, "low": low, "high": high}


def encoded_value(encoded: Encoded) -> Array:
    """Return the numbers `[N,T]` among what a target encodes."""
    values = encoded["value"]
    assert isinstance(values, np.ndarray)
    return values


def _count_different(values: NDArray[np.float64]) -> int:
    return len(np.unique(values[~np.isnan(values)]))


def _tell_wrong(name: str, cells: pd.Series) -> list[str]:
    """Say which cells of a column are no numbers, each different one with its rows."""
    counts = cells.value_counts()
    told = [f"{str(cell)!r} ({number} rows)" for cell, number in counts.head(SHOWN).items()]
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    return [f"y_{name} {', '.join(told)}{more}"] if told else []


def _name_quarters(name: str, values: NDArray[np.float64], cuts: Sequence[float]) -> list[str]:
    """Name the quarter of each number by the cuts around it; "" is not known."""
    shown = [f"{cut:.4g}" for cut in cuts]
    inner = [f"{name} {low} to {high}" for low, high in pairwise(shown)]
    names = [f"{name} ≤ {shown[0]}", *inner, f"{name} > {shown[-1]}"]
    places = np.searchsorted(cuts, values, side="left")
    return ["" if np.isnan(v) else names[k] for k, v in zip(places, values, strict=True)]
