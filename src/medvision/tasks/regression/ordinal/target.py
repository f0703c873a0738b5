"""The target of ordinal regression: grades from the lowest to the highest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.errors import MedvisionError
from medvision.target import Array, Encoded, Ints, Ragged, Target
from medvision.tasks.classes import Classes, choose_classes, split_label


@dataclass(frozen=True)
class Grades(Target):
    """Classes in an order that means something; a row has one of them.

    Encoded they are one entry, `label`: int64 `[N]`, −1 = unknown.

    Attributes:
        names: from the lowest grade to the highest.
        rename: label as found → grade (None: treated as missing).
    """

    columns: ClassVar[tuple[str, ...]] = Classes.columns

    names: list[str]
    rename: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def resolve(
        cls,
        table: pd.DataFrame,
        card: Mapping[str, Any],
        *,
        classes: Sequence[str] | None = None,
        rename: Mapping[str, str | None] | None = None,
    ) -> "Grades":
        """Take the grades in the order the user gives, else numbers by their size.

        The order on a card will not do: it may be that of the alphabet.

        Raises:
            MedvisionError: nothing says the order, or see `choose_classes`.
        """
        labels = table["label"]
        found = {name for label in set(labels) for name in split_label(label, dict(rename or {}))}
        names = list(classes or _sort_numbers(found))
        asked = choose_classes(labels, names, None, rename)
        if asked.kind == "multilabel":
            raise MedvisionError("a row has one grade, and labels hold '|'; mend them, or take "
                                 "model=convnet for several labels a row")  # fmt: skip
        return cls(names, dict(rename or {}))

    @cached_property
    def classes(self) -> Classes:
        """The same names without their order."""
        return Classes(self.names, "multiclass", None, self.rename)

    def encode(self, table: pd.DataFrame) -> dict[str, Array | Ragged]:
        return self.classes.encode(table)

    def decode(self, encoded: Encoded) -> dict[str, list[Any]]:
        return self.classes.decode(encoded)

    def known(self, encoded: Encoded) -> NDArray[np.bool_]:
        return self.classes.known(encoded)

    @classmethod
    def of_unit(cls, table: pd.DataFrame, keys: pd.Series) -> pd.DataFrame:
        return Classes.of_unit(table, keys)

    def strata(self, table: pd.DataFrame) -> pd.Series:
        return self.classes.strata(table)

    def count(self, encoded: Encoded, patients: Sequence[str]) -> dict[str, Any]:
        return self.classes.count(encoded, patients)

    def row_weights(self, encoded: Encoded) -> NDArray[np.float64]:
        return self.classes.row_weights(encoded)

    def groups(self, encoded: Encoded) -> tuple[Ints, Sequence[str]] | None:
        return self.classes.groups(encoded)

    def notes(self) -> list[str]:
        return [f"grades from the lowest to the highest: {', '.join(self.names)}"]

    def unlike(self, card: Mapping[str, Any]) -> str:
        return self.classes.unlike(card)

    def plain(self) -> dict[str, Any]:
        return {"classes": self.names, "rename": dict(self.rename)}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Grades":
        return cls(list(content["classes"]), dict(content["rename"]))


def _sort_numbers(names: set[str]) -> list[str]:
    """Sort names that are numbers.

    Raises:
        MedvisionError: they are not.
    """
    try:
        return sorted(names, key=float)
    except ValueError:
        told = ", ".join(sorted(names)[:8])
        raise MedvisionError(
            f"grades need an order, and the labels ({told}) do not tell it; "
            "say data.classes=[LOWEST,…,HIGHEST]"
        ) from None
