"""Which rows train, validate and test, so that no patient and no copy lies in two parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.data.splits.groups import Ints, connect, fold_by_patient, split_by_patient
from medvision.data.splits.leaks import (
    count_overlaps,
    find_shared,
    note_absent,
    note_conflicts,
    note_few,
    refuse_leak,
)
from medvision.errors import MedvisionError, did_you_mean
from medvision.identity import PARTS, count, name_image, patient_keys

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
_MODES = ("auto", "given", "patient", "site")


@dataclass
class Findings:
    """What was found while rows were given their parts; `Audit` explains each."""

    mode: str
    overlaps: dict[str, int] = field(default_factory=lambda: {"patients": 0, "images": 0})
    dropped: dict[str, int] = field(default_factory=lambda: {"patients_rows": 0, "copies_rows": 0})
    remaining: dict[str, int] = field(default_factory=lambda: {"patients": 0, "images": 0})
    notes: list[str] = field(default_factory=list)


def assign_splits(
    table: pd.DataFrame,
    digests: Sequence[str],
    strata: Sequence[str],
    *,
    mode: str = "auto",
    shares: Mapping[str, float] = SHARES,
    val_share: float = 0.15,
    fold: int | None = None,
    folds: int = 5,
    split_seed: int = 0,
    on_leak: str = "error",
) -> tuple[pd.DataFrame, Findings]:
    """Fill the columns `split` and `group`, leaving out what a leaking split may not keep.

    The order of the rows does not matter: groups are drawn in the order of their smallest
    (dataset, path, frame), which no key that hashes patients changes either.

    Args:
        table: normalised manifest table.
        digests: pixel digest a row; equal = copy, "" = unknown or blank, never a copy.
        strata: text a row in which the parts are to be alike, "" = not annotated.
        mode: `given` keeps the column `split` (with `fold`: the column `fold`); `patient` computes;
            `site` tests on whole sites, the smallest first until test holds its share, never the
            largest; `auto` is `given` where the column has values, else `patient`.
        shares: of patients and images, for a computed split; a part left out is not made.
        val_share: of the patients that do not test, for a val cut out of them: with `fold`, and
            where a given split has train but no val (0 = no val).
        fold: this fold is test; a given `split` is then ignored.
        folds: how many are computed where none are given.
        split_seed: alone decides every draw.
        on_leak: `drop` keeps, of each connected group of patients and copies, only the rows in
            the most protected part it touches: test before val before train.

    Returns:
        The rows that stay, under their index of `table`, and what was found.

    Raises:
        MedvisionError: a leak, an empty part, missing or unknown parts, folds or sites.
    """
    check_settings(mode, shares, val_share, fold, on_leak)
    table, images = table.copy(), pd.Series(list(digests), index=table.index)
    alike = pd.Series(list(strata), index=table.index, dtype=object)
    links = connect(patient_keys(table), images)
    table["group"] = _number_groups(table, images)
    found = Findings(_choose_mode(table, mode, fold), notes=note_conflicts(table, images, alike))
    given = _find_given(table, found, mode)
    if given is not None:
        found.overlaps = count_overlaps(table, images, given)
        if any(found.overlaps.values()) and on_leak == "error":
            raise refuse_leak(table, images, given)

    groups, cut = table["group"].to_numpy(), 0.0
    if fold is not None:
        dealt = fold_by_patient(groups, alike, folds, split_seed) if given is None else given
        parts, cut = _open_fold(dealt, fold, found), val_share
    elif given is not None:
        parts = given.to_numpy()
        cut = val_share if "train" in parts and "val" not in parts else 0.0
    elif found.mode == "site":
        parts = _take_sites(table, shares["test"], found)
        cut = shares.get("val", 0) / (shares["train"] + shares.get("val", 0))
    else:
        parts = split_by_patient(groups, alike, shares, split_seed)
    table["split"] = parts

    kept = _keep_protected(table, links, found)
    table, images, alike = table[kept].copy(), images[kept], alike[kept]
    if cut:
        _cut_val(table, alike, cut, split_seed, found)
    _confirm(table, images, alike, found, given is None)
    return table, found


def check_settings(
    mode: str, shares: Mapping[str, float], val_share: float, fold: int | None, on_leak: str
) -> None:
    """Refuse settings that mean nothing, before any work.

    Raises:
        MedvisionError: the first such setting.
    """
    chosen = [("mode", mode, _MODES), ("on_leak", on_leak, ("error", "drop"))]
    for key, value, known in [*chosen, *(("shares", part, PARTS) for part in shares)]:
        if value not in known:
            hint = did_you_mean(str(value), known)
            raise MedvisionError(f"data.{key} knows {', '.join(known)}, not {value!r}{hint}")
    if not 0 <= val_share < 1:
        raise MedvisionError(f"data.val_share={val_share:g} must be at least 0 and below 1")
    wanted = ("train", "test") if mode == "site" else ("train",)
    if lacking := [part for part in wanted if not shares.get(part, 0) > 0]:
        raise MedvisionError(f"data.shares gives {' and '.join(lacking)} nothing; give it a share")
    if mode == "site" and fold is not None:
        raise MedvisionError("data.mode=site and data.fold exclude each other; keep one of them")


def _number_groups(table: pd.DataFrame, digests: Sequence[str]) -> Ints:
    """Number the groups of patients, copies and the manifest's `group`, whatever the order."""
    keys = [patient_keys(table), digests]
    if "group" in table:
        keys.append(table["group"].astype(object).where(table["group"].notna(), "").astype(str))
    groups = connect(*keys)
    sortable = table[["dataset", "path", "frame"]].reset_index(drop=True)
    order = sortable.sort_values(["dataset", "path", "frame"], kind="stable").index.to_numpy()
    numbers = np.empty_like(groups)
    numbers[order] = pd.factorize(groups[order])[0]
    return numbers


def _choose_mode(table: pd.DataFrame, mode: str, fold: int | None) -> str:
    """Settle `auto`; a fold is a mode of its own in the found."""
    if fold is not None:
        return "fold"
    if mode == "auto":
        return "given" if (table["split"] != "").any() else "patient"
    return mode


def _find_given(table: pd.DataFrame, found: Findings, mode: str) -> pd.Series | None:
    """Return the given part (or `fold N`) of each row; None where it is to be computed.

    Raises:
        MedvisionError: a given split or fold is asked for and missing, in some rows or in all.
    """
    if found.mode != "given" and (table["split"] != "").any():
        found.notes.append("the given split is ignored")
    column = {"given": "split", "fold": "fold"}.get(found.mode)
    if column is None or (column == "fold" and mode == "patient"):
        return None
    values = table[column] if column in table else pd.Series(pd.NA, index=table.index)
    missing = values.isna() | (values.astype(str) == "")
    if missing.all() and mode == "auto":
        return None
    if missing.any():
        first = name_image(next(table[missing].itertuples()))
        raise MedvisionError(
            f"{missing.sum()} of {len(table)} rows have no {column}, such as {first}; "
            f"fill the column {column}, or compute it with data.mode=patient"
        )
    return values if column == "split" else "fold " + values.astype(str)


def _open_fold(dealt: pd.Series | Ints, fold: int, found: Findings) -> NDArray[np.str_]:
    """Make `fold` the test part and everything else train."""
    names = pd.Series(np.asarray(dealt)).astype(str).str.removeprefix("fold ")
    there = sorted(names.unique(), key=int)
    if str(fold) not in there:
        raise MedvisionError(f"data.fold={fold} does not exist; the folds are {', '.join(there)}")
    origin = "given" if isinstance(dealt, pd.Series) else "computed"
    found.notes.append(f"fold {fold} of {len(there)} {origin} folds is test")
    return np.where(names == str(fold), "test", "train")


def _take_sites(table: pd.DataFrame, share: float, found: Findings) -> NDArray[np.str_]:
    """Make whole sites test, smallest first (ties by name), never the largest.

    A group that a test site shares with another site is test as a whole.

    Raises:
        MedvisionError: no site, one site, rows without one, or patients that tie all sites.
    """
    sites = table["site"].fillna("").astype(str) if "site" in table else pd.Series("", table.index)
    if missing := int((sites == "").sum()):
        raise MedvisionError(
            f"data.mode=site: {missing} of {len(table)} rows have no site; "
            "fill the column site, or take data.mode=patient"
        )
    sizes = sites.value_counts().sort_index().sort_values(kind="stable")
    before = sizes.cumsum() - sizes
    taken = sizes.index[:-1][before.iloc[:-1] < share * len(table)]
    inside = sites.isin(taken)
    test = table["group"].isin(table.loc[inside, "group"])
    if test.all() or not test.any():
        why = "there is only one" if len(sizes) == 1 else "patients or copies connect them all"
        raise MedvisionError(
            f"data.mode=site cannot part {', '.join(sizes.index[:5])}: {why}; "
            "take data.mode=patient"
        )
    found.notes.append(f"test is the site {' and '.join(taken)}")
    if travelled := int((test & ~inside).sum()):
        found.notes.append(f"{travelled} rows of other sites are test with their patients")
    return np.where(test, "test", "train")


def _keep_protected(table: pd.DataFrame, links: Ints, found: Findings) -> NDArray[np.bool_]:
    """Mark the rows in the most protected part their patients and copies touch; count the others.

    Raises:
        MedvisionError: a part would lose all its rows.
    """
    rank = table["split"].map(PARTS.index)
    kept: NDArray[np.bool_] = (rank == rank.groupby(links).transform("max")).to_numpy()
    by_patient = rank < rank.groupby(patient_keys(table).to_numpy()).transform("max")
    own = int((~kept & by_patient & (table["patient"] != "")).sum())
    found.dropped = {"patients_rows": own, "copies_rows": int((~kept).sum()) - own}
    for part in PARTS[:2]:
        rows = table["split"] == part
        if rows.any() and not (rows & kept).any():
            raise MedvisionError(
                f"data.on_leak=drop leaves {part} empty: every row of it shares a patient or an "
                "image with a part it may not touch; take data.mode=patient"
            )
        if gone := int((rows & ~kept).sum()):
            found.notes.append(f"{count(gone, 'row')} left {part} (data.on_leak=drop)")
    return kept


def _cut_val(
    table: pd.DataFrame, strata: pd.Series, share: float, seed: int, found: Findings
) -> None:
    """Turn a grouped, stratified share of train into val, in place."""
    rows = table["split"] == "train"
    groups = table.loc[rows, "group"].to_numpy()
    shares = {"train": 1 - share, "val": share}
    table.loc[rows, "split"] = split_by_patient(groups, strata[rows], shares, seed)
    found.notes.append(f"val is {share:.3g} of the patients that do not test")


def _confirm(
    table: pd.DataFrame, digests: Sequence[str], strata: pd.Series, found: Findings, computed: bool
) -> None:
    """Note what is scarce in the result, and measure its overlaps again.

    Raises:
        MedvisionError: generated images outside train.
        RuntimeError: an overlap is left; a fault of medvision, not of the user.
    """
    found.notes += note_absent(table, strata) + note_few(table, strata)
    found.remaining = count_overlaps(table, digests, table["split"])
    torn = find_shared(table["group"].astype(str), table["split"])
    if any(found.remaining.values()) or (computed and torn):
        raise RuntimeError(
            f"the split leaks ({found.remaining}, {len(torn)} groups); please report this"
        )
    if torn:
        held = table[table["group"].astype(str) == torn[0]]
        lines = [
            f"{row + 2} ({held.at[row, 'split']})" for row in held.drop_duplicates("split").index
        ]
        found.notes.append(
            f"{count(torn, 'group')} of the manifest lie in more than one given part (near copies, "
            f"or a `group` of your own), such as that of its lines {' and '.join(lines)}"
        )
    made = table[(table["origin"] == "generated") & (table["split"] != "train")]
    if len(made):
        raise MedvisionError(
            f"{count(len(made), 'generated image')} would be outside train, such as "
            f"{name_image(next(made.itertuples()))}; give them as data.extra, which only trains"
        )
