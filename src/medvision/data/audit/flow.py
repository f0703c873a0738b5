"""How many images, series and patients there were from what was found to the parts: counts only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medvision.identity import PARTS, patient_keys, series_keys

if TYPE_CHECKING:
    from medvision.data.batches.samples import Samples


Counts = dict[str, Any]


def count_units(table: pd.DataFrame) -> Counts:
    """Count the images of rows, their series where there are any, and their patients."""
    counts = {"images": len(table)}
    if "series" in table:
        series = series_keys(table.assign(series=table["series"].fillna("")))
        if number := series[series != ""].nunique():
            counts["series"] = int(number)
    patients = patient_keys(table)
    return counts | {"patients": int(patients[patients != ""].nunique())}


def trace_losses(whole: pd.DataFrame, steps: Sequence[tuple[str, pd.DataFrame]]) -> Counts:
    """Count what is lost at each step.

    Args:
        whole: all rows there were.
        steps: why rows may be left out, and those that are left after it.

    Returns:
        `whole`, the steps that left out anything (`reason`, and by how much each count fell) and
        what was `kept`: the counts add up.
    """
    before = count_units(whole)
    excluded: list[Counts] = []
    result: Counts = {"whole": before, "excluded": excluded}
    for reason, table in steps:
        after = count_units(table)
        if after["images"] < before["images"]:
            lost = {unit: number - after.get(unit, 0) for unit, number in before.items()}
            excluded.append({"reason": reason} | lost)
        before = after
    return result | {"kept": before}


def count_joined(own: pd.DataFrame, others: Sequence[pd.DataFrame]) -> list[Counts]:
    """Count rows of other manifests that joined train; their patients are those not met before."""
    joined: list[Counts] = []
    known = own
    for table in others:
        if (table["origin"] == "generated").all():
            joined.append({"reason": "generated", "images": len(table)})
            continue
        before, known = count_units(known), pd.concat([known, table], ignore_index=True)
        new = {unit: number - before.get(unit, 0) for unit, number in count_units(known).items()}
        joined.append({"reason": "extra"} | new)
    return joined


def count_samples(samples: Samples) -> dict[str, Counts]:
    """Count each part of what is served, but for generated images.

    `per_class` counts samples (series where there are), `patients_per_class` patients with at
    least one of the class, `nothing` multi-label samples without any; `unlabelled` neither train
    nor are they scored.
    """
    table = samples.table[samples.table["origin"] != "generated"]
    return {
        part: count_units(table[table["split"] == part]) | _count_classes(samples, rows)
        for part in PARTS
        if len(rows := samples.rows(part))
    }


def _count_classes(samples: Samples, rows: np.ndarray) -> Counts:
    label, names = samples.label[rows], samples.classes.names
    patients = patient_keys(samples.table.loc[rows]).to_numpy()
    if label.ndim == 1:
        known, hot = label >= 0, label[:, None] == np.arange(len(names))
    else:
        known, hot = ~np.isnan(label).all(axis=1), label == 1
    counts: Counts = {"samples": len(rows), "unlabelled": int((~known).sum())}
    counts["per_class"] = dict(zip(names, hot.sum(axis=0).tolist(), strict=True))
    counts["patients_per_class"] = {
        name: len(set(patients[hot[:, k]])) for k, name in enumerate(names)
    }
    if label.ndim == 2:
        counts["nothing"] = int((known & ~hot.any(axis=1)).sum())
    return counts
