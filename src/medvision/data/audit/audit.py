"""What was checked when rows were given their parts: counts, overlaps, what was left out."""

from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from medvision.data.splits.leaks import count_strata
from medvision.identity import PARTS, patient_keys


@dataclass
class Audit:
    """The content of `audit.json`.

    Attributes:
        mode: `given`, `patient`, `site` or `fold`.
        counts: a part: `images`, `patients`, `unlabelled` and `per_class` (rows a stratum of the
            target; a row of several counts in each); generated images are no images here.
        overlaps: patients and images in more than one part of the split or folds as given; zeros
            where the split was computed.
        dropped: rows left out under `on_leak=drop`: `patients_rows`, whose own patient lies in a
            more protected part, and `copies_rows`, bound to such a part by a copied image alone.
        remaining: the overlaps measured once more in the result; always zeros.
        notes: sentences a reader of the report should see.
        generated: of each generator whose images train: its digest, run and gate, how many images,
            and how often they are drawn.
        flow: images, series and patients from the manifest to the parts: `whole`, `excluded` with
            reasons, `kept`, `joined` (rows of other manifests that only train) and `parts`.
    """

    mode: str
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    overlaps: dict[str, int] = field(default_factory=lambda: {"patients": 0, "images": 0})
    dropped: dict[str, int] = field(default_factory=lambda: {"patients_rows": 0, "copies_rows": 0})
    remaining: dict[str, int] = field(default_factory=lambda: {"patients": 0, "images": 0})
    notes: list[str] = field(default_factory=list)
    generated: list[dict[str, Any]] = field(default_factory=list)
    flow: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain types in the order of the fields."""
        return asdict(self)


def count_parts(table: pd.DataFrame, strata: pd.Series) -> dict[str, dict[str, Any]]:
    """Count images, patients and strata of each part there is, in the order train, val, test."""
    counts: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        inside = table["split"] == part
        if inside.any():
            counts[part] = {
                "images": int(inside.sum()),
                "patients": int(patient_keys(table[inside]).nunique()),
                "unlabelled": int((strata[inside] == "").sum()),
                "per_class": count_strata(strata[inside]),
            }
    return counts
