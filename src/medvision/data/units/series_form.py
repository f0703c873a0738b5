"""Rows that make a series: how they are put together, and which of them may be."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import pandas as pd

from medvision.data.splits.leaks import count_strata
from medvision.data.units import series_faults as faults
from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.identity import series_keys

OnGap = Literal["error", "exclude", "keep"]
_GAPS = ("error", "exclude", "keep")
WAY_OUT = "Mend the manifest, or take its rows one by one with data.unit=image"


@dataclass(frozen=True)
class SeriesForm:
    """How rows become series, in training and wherever the model is used afterwards.

    Attributes:
        channels: rows of one position become these channels, in this order, and rows of other
            channels are left out; None takes all there are, in the order they first appear.
        neighbours: so many slices on each side become further channels, from the slice before to
            the one after; at the ends the last one is repeated.
        difference: |a − b| of the two channels becomes a third.
        max_slices: longer series are thinned evenly; None = no limit.
        on_gap: where a slice or a channel is missing: stop, leave the series out, or keep what is
            there (a position that lacks a channel goes).

    Raises:
        MedvisionError: a setting that cannot be.
    """

    channels: Sequence[str] | None = None
    neighbours: int = 0
    difference: bool = False
    max_slices: int | None = None
    on_gap: OnGap = "error"

    def __post_init__(self) -> None:
        if self.channels is not None:
            names = (self.channels,) if isinstance(self.channels, str) else self.channels
            object.__setattr__(self, "channels", tuple(map(str, names)) or None)
        problems = []
        if self.on_gap not in _GAPS:
            problems.append(f"on_gap={self.on_gap} is none of {', '.join(_GAPS)}")
        if not _is_whole(self.neighbours, 0):
            problems.append(f"neighbours={self.neighbours} is no whole number from 0")
        if self.max_slices is not None and not _is_whole(self.max_slices, 1):
            problems.append(f"max_slices={self.max_slices} is no whole number from 1, nor null")
        if self.channels is not None and len(set(self.channels)) < len(self.channels):
            problems.append(f"channels=[{', '.join(self.channels)}] names one twice")
        if problems:
            raise collect("data", problems, "Mend these keys.")

    @property
    def rows(self) -> int:
        """The rows that show one slice: its channels, and those of its neighbours."""
        return (2 * self.neighbours + 1) * len(self.channels or ("",))

    def width(self, colours: int) -> int:
        """Return the channels a net sees where the reader stores `colours` of them."""
        return (2 * self.neighbours + 1) * (len(self.channels or ("",)) + self.difference) * colours

    def contract(self) -> dict[str, Any]:
        """Return the settings as plain types, for `model.pt`; `SeriesForm(**…)` reads them."""
        return asdict(self) | {"channels": None if self.channels is None else [*self.channels]}


class WholeSeries(NamedTuple):
    """Rows that make whole series, under their own index, the channels, and what to report."""

    table: pd.DataFrame
    form: SeriesForm
    notes: list[str]


def positions(table: pd.DataFrame) -> pd.Series:
    """Return the position of each row, Int64; a series of one slice needs none."""
    several = table.duplicated(["dataset", "series", "channel"], keep=False)
    single = ~several.groupby(series_keys(table)).transform("any")
    bare = pd.Series(pd.NA, table.index, dtype="Int64")
    given = table["position"].astype("Int64") if "position" in table else bare
    return given.mask(given.isna() & single, 0)


def check_series(
    table: pd.DataFrame, form: SeriesForm, whole: pd.DataFrame | None = None
) -> WholeSeries:
    """Check the rows of all series, and leave out what `form` says.

    Args:
        table: rows of a manifest.
        form: as the user wishes it.
        whole: the rows before unreadable ones left; their loss is a gap.

    Raises:
        MedvisionError: all that is wrong, one sentence a fault, each naming series.
    """
    if (table["series"] == "").all():
        raise MedvisionError(
            "data.unit=series needs to know which rows belong together; "
            "say columns.series=NAME of the column that tells it"
        )
    form, notes = _settle_channels(table, form)
    listed = table[table["channel"].isin(form.channels)] if form.channels else table
    if left := len(table) - len(listed):
        notes.append(f"{left} rows of other channels than data.channels were left out")
    rows = listed.assign(key=series_keys(listed), at=positions(listed))
    problems = faults.find_faults(rows)
    lacking = faults.find_lacking(rows, form.channels or ("",))
    gaps = faults.find_jumps(rows) | {key: why for (key, _), why in lacking.items()}
    gaps |= _find_lost(table, rows, whole, form)
    if form.on_gap == "error":
        way_out = (
            "data.on_gap=exclude leaves such series out, data.on_gap=keep serves what is there"
        )
        problems += faults.format_series("slices are missing", gaps, way_out)
    if problems:
        raise collect("data.unit=series", problems, WAY_OUT, show=30)
    if gaps and form.on_gap == "exclude":
        rows = rows[~rows["key"].isin(gaps)]
        notes += faults.format_series(
            "slices are missing", gaps, f"{len(gaps)} series were left out"
        )
    elif gaps:
        rows = rows[~pd.MultiIndex.from_frame(rows[["key", "at"]]).isin(list(lacking))]
        notes += faults.format_series(
            "slices are missing", gaps, f"{len(gaps)} series serve what is there"
        )
    if rows.empty:
        raise MedvisionError(
            f"no series is left of {series_keys(table).nunique()}; all have gaps, and "
            f"data.on_gap={form.on_gap} left them out"
        )
    lengths = rows.groupby("key")["at"].nunique()
    if form.max_slices and (longer := int((lengths > form.max_slices).sum())):
        notes.append(
            f"{longer} series of up to {lengths.max()} slices were thinned evenly to "
            f"{form.max_slices} (data.max_slices)"
        )
    return WholeSeries(table.loc[rows.index], form, notes)


def check_series_alike(
    table: pd.DataFrame, form: SeriesForm, whole: pd.DataFrame | None = None
) -> WholeSeries:
    """Settle series for a frozen model, whose `form` has its channels already.

    Raises:
        MedvisionError: as `check_series`, or the rows have channels the model knows nothing of.
    """
    settled = check_series(table, form, whole)
    if len(settled.form.channels or ()) > len(form.channels or ("",)):
        told = ", ".join(settled.form.channels or ())
        raise MedvisionError(
            f"the rows have the channels {told}, and this model was trained on one without a name; "
            "say columns.channel=null, or leave rows of other channels out"
        )
    return settled


def note_sizes(table: pd.DataFrame, sizes: Sequence[tuple[int, int] | None]) -> list[str]:
    """Note series whose files have more than one size; the reader has made them alike.

    Args:
        table: rows of series.
        sizes: height and width in the file of each row; None = unknown.
    """
    shapes = pd.Series([None if size is None else "x".join(map(str, size)) for size in sizes])
    known = pd.DataFrame({"key": series_keys(table).to_numpy(), "shape": shapes}).dropna()
    held = known.groupby("key", sort=False)["shape"].agg(["nunique", "unique"])
    torn = held.loc[held["nunique"] > 1, "unique"]
    found = {key: f" of {' and '.join(map(str, each[:3]))}" for key, each in torn.items()}
    return faults.format_series(
        "slices of a series differ in size", found, "data.reader made them alike"
    )


def count_series(counts: dict[str, dict[str, Any]], split: pd.Series, strata: pd.Series) -> None:
    """Add to each part of an audit how many series it has, in all and of each stratum.

    Args:
        counts: of an audit.
        split: the part of each series.
        strata: those of each series.
    """
    for part, held in counts.items():
        inside = split == part
        held["series"] = int(inside.sum())
        held["series_per_class"] = count_strata(strata[inside])


def refuse_torn(before: pd.DataFrame, after: pd.DataFrame) -> None:
    """Refuse a split that kept only some rows of a series.

    Raises:
        MedvisionError: naming such series.
    """
    had, has = (series_keys(table).value_counts() for table in (before, after))
    torn = has.index[has < had[has.index]]
    if len(torn):
        way_out = "give all slices of a series one part"
        told = faults.format_series(
            "data.on_leak=drop would tear", dict.fromkeys(torn, ""), way_out
        )
        raise MedvisionError(told[0])


def _settle_channels(table: pd.DataFrame, form: SeriesForm) -> tuple[SeriesForm, list[str]]:
    """Choose and check the channels."""
    there, notes = [word for word in table["channel"].unique() if word], []
    if form.channels is None and there:
        form = replace(form, channels=tuple(there))
        told = ", ".join(there)
        notes.append(f"channels are {told}, as they first appear (data.channels orders them)")
    for word in form.channels or ():
        if word not in there:
            held = f"there are {', '.join(there)}" if there else "no row names any"
            hint = did_you_mean(word, there)
            raise MedvisionError(f"data.channels knows no {word!r}{hint} in `channel`; {held}")
    if form.difference and len(form.channels or ()) != 2:
        named = ", ".join(form.channels or ()) or "none"
        raise MedvisionError(
            f"data.difference=true needs two channels, not {named}; name two in data.channels"
        )
    return form, notes


def _find_lost(
    table: pd.DataFrame, rows: pd.DataFrame, whole: pd.DataFrame | None, form: SeriesForm
) -> dict[str, str]:
    """Find series that lost rows: unreadable ones, or all of them to the choice of channels."""
    keys, kept = series_keys(table), set(rows["key"])
    gone = [key for key in keys.unique() if key and key not in kept]
    lost = {key: f" has none of {', '.join(form.channels or ())}" for key in gone}
    if whole is not None:
        had = series_keys(whole).value_counts()
        less = had - keys.value_counts().reindex(had.index, fill_value=0)
        lost |= {key: f" lost {count} unreadable" for key, count in less[less > 0].items() if key}
    return lost


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
