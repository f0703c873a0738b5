"""What a source hands to `prepare`."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Found:
    """The rows a source found, before patients are hashed and copies are joined.

    Attributes:
        table: one row an image with the manifest's column names; `path` absolute.
        dataset: name used when the user gives none.
        classes: class names in order, or None to take the sorted labels.
        patient_rule: how a patient was told from another, for the card and the report.
        facts: anything else worth keeping on the card (plain JSON types).
    """

    table: pd.DataFrame
    dataset: str
    patient_rule: str
    classes: list[str] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
