"""Who is in two parts at once: patients and images, refused or counted."""

from collections.abc import Sequence

import pandas as pd

from medvision.errors import MedvisionError
from medvision.identity import PARTS, count, name_image, patient_keys

FEW = {"train": 10, "val": 5, "test": 5}
"""Patients of a class a part should hold at least: a rule of thumb."""


def find_shared(keys: Sequence[str], parts: Sequence[str]) -> list[str]:
    """Return the keys found in more than one part; "" is no key."""
    pairs = pd.DataFrame({"key": list(keys), "part": list(parts)}).drop_duplicates()
    found = pairs.loc[pairs["key"] != "", "key"].value_counts()
    return sorted(found.index[found > 1])


def count_overlaps(
    table: pd.DataFrame, digests: Sequence[str], parts: Sequence[str]
) -> dict[str, int]:
    """Count patients and images that lie in more than one part."""
    return {
        "patients": len(find_shared(patient_keys(table), parts)),
        "images": len(find_shared(digests, parts)),
    }


def refuse_leak(table: pd.DataFrame, digests: Sequence[str], parts: pd.Series) -> MedvisionError:
    """Say which patients and images lie in more than one given part, and the way out."""
    rows = table.assign(part=parts, key=patient_keys(table), image=list(digests))
    patients, images = find_shared(rows["key"], parts), find_shared(digests, parts)
    examples = []
    for _, one in rows[rows["key"].isin(patients[:3])].groupby("key"):
        between = " and ".join(sorted(one["part"].unique(), key=_order_parts))
        first = one.iloc[0]
        examples.append(f"patient {first['patient']!r} of {first['dataset']!r} is in {between}")
    for _, one in rows[rows["image"].isin(images[:3])].groupby("image"):
        here, there = list(one.drop_duplicates("part").itertuples())[:2]
        examples.append(
            f"{name_image(here)} in {here.part} is the same image as "
            f"{name_image(there)} in {there.part}"
        )
    return MedvisionError(
        f"the given {'folds leak' if 'fold' in parts.iloc[0] else 'split leaks'}, with "
        f"{count(patients, 'patient')} and {count(images, 'image')} in more than one part: "
        f"{'; '.join(examples)}. Mend the manifest, or say data.on_leak=drop: such rows then "
        "leave train, and val where it meets test, and are counted"
    )


def _order_parts(part: str) -> tuple[int, str]:
    """Sort key: train, val, test, then folds by name."""
    return (PARTS.index(part) if part in PARTS else len(PARTS), part)


def note_conflicts(table: pd.DataFrame, digests: Sequence[str], strata: Sequence[str]) -> list[str]:
    """Note what belongs in a report: conflicting copies, shared ids, groups that join much."""
    notes = []
    rows = table.assign(image=list(digests), key=patient_keys(table), stratum=list(strata))
    labelled = rows[(rows["image"] != "") & (rows["stratum"] != "")]
    kinds = labelled.groupby("image")["stratum"].nunique()
    if torn := sorted(kinds.index[kinds > 1]):
        first = next(labelled[labelled["image"] == torn[0]].itertuples())
        notes.append(
            f"{count(torn, 'image')} with copies under different labels, such as "
            f"{name_image(first)}: check the labels"
        )
    if shared := find_shared(rows["patient"], rows["dataset"]):
        notes.append(
            f"{count(shared, 'patient id')} under more than one dataset name, such as "
            f"{shared[0]!r}: counted as different patients"
        )
    largest = rows[rows["group"] == rows["group"].value_counts().index[0]]
    if largest["key"].nunique() > 1 and len(largest) > len(rows) / 10:
        notes.append(
            f"one group of copies joins {largest['key'].nunique()} patients and "
            f"{count(len(largest), 'image')}, such as {name_image(next(largest.itertuples()))}: "
            "are there blank images?"
        )
    return notes


def count_strata(strata: pd.Series) -> dict[str, int]:
    """Count the rows of each stratum there is, by name; `a|b` counts in both."""
    return {str(name): int(n) for name, n in _part(strata).value_counts().sort_index().items()}


def note_absent(table: pd.DataFrame, strata: pd.Series) -> list[str]:
    """Note every stratum that an annotated part lacks: its metrics will be undefined there."""
    held = {part: count_strata(strata[table["split"] == part]) for part in PARTS}
    known = sorted({name for counts in held.values() for name in counts})
    return [
        f"no image of {name!r} in {part}"
        for part, counts in held.items()
        for name in known
        if counts and name not in counts
    ]


def note_few(table: pd.DataFrame, strata: pd.Series) -> list[str]:
    """Note every stratum of which a part holds fewer patients than the rule of thumb asks for."""
    each = _part(strata)
    rows = pd.DataFrame({
        "split": table.loc[each.index, "split"].to_numpy(), "stratum": each.to_numpy(),
        "key": patient_keys(table).loc[each.index].to_numpy(),
    })  # fmt: skip
    held = rows.groupby(["split", "stratum"])["key"].nunique()
    return [
        f"only {count(int(held[part, name]), 'patient')} of {name!r} in {part} (rule of thumb: "
        f"at least {least}): what is said of them is uncertain"
        for part, least in FEW.items()
        for name in sorted(rows["stratum"].unique())
        if 0 < held.get((part, name), 0) < least
    ]


def _part(strata: pd.Series) -> pd.Series:
    """Give each stratum of a row an entry of its own, under the index of the row."""
    return strata[strata != ""].str.split("|").explode().str.strip()
