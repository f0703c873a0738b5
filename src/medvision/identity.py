"""How parts, patients, series and images are named: one spelling for all."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

PARTS = ("train", "val", "test")
MISSING_WORDS = frozenset({
    "", "-", "--", ".", "?", "n/a", "na", "n.a.", "nan", "nil", "none", "null", "#n/a", "missing",
    "not available", "not known", "not recorded", "unk", "unknown", "anonymous", "anon", "<na>",
    "nat", "undefined", "unspecified",
})  # fmt: skip
"""What tables write where they know nothing, in lower case."""


def patient_keys(table: pd.DataFrame) -> pd.Series:
    """Return one text a row that is equal for one patient: `(dataset, patient)`; "" = unknown."""
    keys = table["dataset"] + "\x1f" + table["patient"]
    return keys.where(table["patient"] != "", "")


def name_image(row: Any) -> str:
    """Name a row's image as a person would look for it: path, and frame if not the first."""
    return f"{row.path} frame {row.frame}" if row.frame else str(row.path)


def count(things: Sequence[Any] | int, word: str) -> str:
    """Return `"1 patient"`, `"2 patients"`."""
    number = things if isinstance(things, int) else len(things)
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def series_keys(table: pd.DataFrame) -> pd.Series:
    """Return one text a row that is equal for one series: `(dataset, series)`; "" = in none."""
    return (table["dataset"] + "\x1f" + table["series"]).where(table["series"] != "", "")
