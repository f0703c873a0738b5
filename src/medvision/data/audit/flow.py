"""How many images, series and patients there were from what was found to the parts: counts only."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from medvision.identity import patient_keys, series_keys
from medvision.target import Ints

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


def count_samples(
    table: pd.DataFrame, samples: Mapping[str, Ints], count: Callable[[Ints], Counts]
) -> dict[str, Counts]:
    """Count each part of what is served, but for generated images.

    Args:
        table: all rows.
        samples: part → rows of its samples.
        count: what the target counts of some samples; `unlabelled` neither train nor are scored.
    """
    real = table[table["origin"] != "generated"]
    return {
        part: count_units(real[real["split"] == part]) | {"samples": len(rows)} | count(rows)
        for part, rows in samples.items()
        if len(rows)
    }
