"""What a source is called with, and what it hands to `prepare`.

A source is a module with a function `find(input, *, columns, …) -> Found`, known by the module's
name; of a package it is the module `source` inside. What `find` takes beside `input`, `columns` and
`output`, the folder of the manifest, are its options: `medvision prepare source=NAME OPTION=…`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from medvision.errors import MedvisionError


@dataclass(frozen=True)
class Found:
    """The rows a source found, before patients are hashed and copies are joined.

    Attributes:
        table: one row an image with the manifest's column names; `path` absolute.
        dataset: name used when the user gives none.
        classes: class names in order, or None to take the sorted labels.
        patient_rule: how a patient was told from another, for the card and the report.
        facts: anything else worth keeping on the card (plain JSON types).
        ids: columns that are hashed as `patient` and `series` are.
        files: columns beside `path` and `mask` that name files; absolute as well.
        made: columns of the source's own making that no run reads and that name nobody: they stay
            where patients are hashed.
    """

    table: pd.DataFrame
    dataset: str
    patient_rule: str
    classes: list[str] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    ids: Collection[str] = ()
    files: Collection[str] = ()
    made: Collection[str] = ()


def read_patient_rule(columns: Mapping[str, str | None] | None, source: str) -> str | None:
    """Return `columns.patient` of a source without a table, where no other column means anything.

    Raises:
        MedvisionError: another column is named.
    """
    if unread := sorted(set(columns or {}) - {"patient"}):
        raise MedvisionError(
            f"source={source} has no table, so columns.{unread[0]} means nothing; "
            "only columns.patient does"
        )
    return (columns or {}).get("patient")
