"""What `prepare` finds before anything is trained: notes and numbers for card and report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medvision.data.audit.image_checks import check_images, line_of, note_part_sizes
from medvision.data.audit.near_duplicates import SOUGHT, Pairs
from medvision.data.audit.scan import ImageFacts
from medvision.data.audit.shortcuts import find_shortcuts
from medvision.data.splits.leaks import note_conflicts
from medvision.identity import count, patient_keys

SHOWN = 5


def audit_rows(
    table: pd.DataFrame, looks: Sequence[ImageFacts], near: Pairs, classes: Sequence[str] | None
) -> dict[str, Any]:
    """Audit rows that are about to be written.

    Args:
        table: rows in the order of the manifest, with `dataset`, `patient` and `group`.
        looks: one a row.
        near: pairs of rows of different patients that are near copies.
        classes: in order, None to take the sorted labels.

    Returns:
        Plain types: `notes`, sentences; `near_copies`, pairs, `across` given parts and examples
        by line of the manifest; `shortcuts`.
    """
    full = _fill(table)
    shortcuts = find_shortcuts(table, looks, classes)
    across = _find_across(full, near)
    shown = across if len(across) else near
    return {
        "notes": [
            *_note_shared(full, [look.digest for look in looks]),
            *note_near_copies(full, near),
            *check_images(table, looks),
            *note_part_sizes(full["split"], looks),
            *map(str, shortcuts),
        ],
        "near_copies": {
            "pairs": len(near),
            "across": len(across),
            "sought": SOUGHT,
            "lines": [[line_of(int(row)) for row in pair] for pair in shown[:SHOWN]],
        },
        "shortcuts": [
            {name: round(v, 4) if isinstance(v, float) else v for name, v in one._asdict().items()}
            for one in shortcuts
        ],
    }


def note_exclusions(whole: pd.DataFrame, left_out: Sequence[int]) -> list[str]:
    """Note rows that were left out and are all of one class, where others stay."""
    if "label" not in whole or len(left_out) < 2:
        return []
    label = whole["label"].fillna("").astype(str)
    lost = set(label[list(left_out)])
    if len(lost) > 1 or "" in lost or set(label) <= lost | {""}:
        return []
    return [
        f"all {len(left_out)} images that were left out are of the class {lost.pop()!r}: what is "
        "left may be no fair sample of it"
    ]


def note_copies(table: pd.DataFrame, looks: Sequence[ImageFacts]) -> list[str]:
    """Note what a training will note again of copies, labels and ids, naming files."""
    full = _fill(table)
    return note_conflicts(full, [look.digest for look in looks], full["label"])


def _fill(table: pd.DataFrame) -> pd.DataFrame:
    """Add the columns that a manifest has once it is read."""
    lacking = {name: "" for name in ("label", "split") if name not in table}
    full = table.assign(**lacking, frame=table.get("frame", 0))
    return full.assign(**{name: full[name].fillna("").astype(str) for name in ("label", "split")})


def _note_shared(table: pd.DataFrame, digests: Sequence[str]) -> list[str]:
    """Note images that several patients have, pixel for pixel: one person twice, or a mix-up."""
    rows = pd.DataFrame({"image": digests, "patient": patient_keys(table).to_numpy()})
    rows = rows[rows["image"] != ""].drop_duplicates()
    shared = rows[rows["image"].duplicated(keep=False)]
    if shared.empty:
        return []
    one, two = (
        line_of(int(row)) for row in shared.index[shared["image"] == shared["image"].iloc[0]][:2]
    )
    return [
        f"{count(shared['image'].nunique(), 'image')} held by more than one patient, pixel for "
        f"pixel ({shared['patient'].nunique()} patients, such as those of lines {one} and {two}): "
        "they count as one in every computed split"
    ]


def _find_across(table: pd.DataFrame, near: Pairs) -> Pairs:
    split = table["split"].to_numpy()
    return np.asarray(near[split[near[:, 0]] != split[near[:, 1]]])


def note_near_copies(table: pd.DataFrame, near: Pairs) -> list[str]:
    """Note pairs of rows that are near copies; a table without a given split has it empty."""
    if not len(near):
        return []
    across = _find_across(table, near)
    shown = across if len(across) else near
    keys = patient_keys(table).to_numpy()
    patients = len(set(map(frozenset, zip(keys[near[:, 0]], keys[near[:, 1]], strict=True))))
    label = table["label"].to_numpy()
    torn = int(((label[near] != "").all(axis=1) & (label[near[:, 0]] != label[near[:, 1]])).sum())
    told = (
        f"{count(len(near), 'pair')} of near copies between {count(patients, 'pair')} of patients, "
        f"such as lines {line_of(int(shown[0, 0]))} and {line_of(int(shown[0, 1]))}"
    )
    if torn:
        told += f", {torn} of them under different labels"
    if (table["split"] == "").all():
        return [f"{told}: joined, so that no computed split parts them; {SOUGHT}"]
    told += f"; {len(across)} of them lie in two parts of the given split"
    return [f"{told}, which is left as it is: look at them, or take data.mode=patient; {SOUGHT}"]
