"""Samples made of rows that belong together by their `series`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from medvision.data.store.facts import FileFacts
from medvision.data.units import series_form
from medvision.data.units.series_form import OnGap
from medvision.data.units.slices import Slices, index_slices, no_slices
from medvision.data.units.unit import Unit, Whole
from medvision.identity import series_keys
from medvision.target import Array, Encoded, Ints, Target


@dataclass(frozen=True)
class Grouped(Unit):
    """A sample is all rows of a series; it is known by the row of its first slice.

    Attributes:
        slices: which rows show each slice of each series.
    """

    slices: Slices = field(default_factory=no_slices, compare=False, repr=False)

    counted = taken = given = "series"
    lost = "series with missing slices"
    unlike = "{found} of {total} series hold images unlike those the model was trained on"

    def allow_gaps(self, on_gap: OnGap | None) -> Self:
        return replace(self, form=replace(self.form, on_gap=on_gap)) if on_gap else self

    def keep_whole(
        self, table: pd.DataFrame, whole: pd.DataFrame | None = None,
        facts: Sequence[FileFacts | None] = (), *, frozen: bool = False,
    ) -> Whole:  # fmt: skip
        check = series_form.check_series_alike if frozen else series_form.check_series
        kept, form, notes = check(table, self.form, whole)
        held = [facts[row] for row in kept.index] if facts else []
        sizes = [None if each is None else (each.height, each.width) for each in held]
        notes += series_form.note_sizes(kept, sizes) if facts else []
        return Whole(kept, replace(self, form=form), notes)

    def refuse_torn(self, before: pd.DataFrame, after: pd.DataFrame) -> None:
        series_form.refuse_torn(before, after)

    def annotate(self, table: pd.DataFrame, target: Target | type[Target]) -> pd.DataFrame:
        return table.assign(**target.of_unit(table, series_keys(table)))

    def encode_rows(self, table: pd.DataFrame, target: Target) -> Encoded:
        return target.encode_rows(table, series_keys(table))

    def count(self, table: pd.DataFrame) -> int:
        return int(series_keys(table).nunique())

    def index(self, table: pd.DataFrame) -> Self:
        return replace(self, slices=index_slices(table, self.form))

    def describe(self, targets: Encoded, of_rows: Encoded) -> list[str]:
        silent = ["no slice is annotated by itself"] if targets and not of_rows else []
        return self.slices.describe() + silent

    def add_counts(self, counts: dict[str, Any], table: pd.DataFrame, target: Target) -> None:
        first = self.annotate(table, target).iloc[self.slices.first]
        series_form.count_series(counts, first["split"], target.strata(first))

    def samples(self, held: Array) -> Ints:
        first = self.slices.first
        return first[held[first]]

    def preview(self, index: Ints, most: int) -> tuple[Ints, Ints, list[str]]:
        """Choose slices of the first sample, evenly spread: they change alike."""
        layout = self.lay_out(index[:1])
        count = len(layout.own)
        some = np.linspace(0, count - 1, min(most, count), dtype=int)
        captions = ["", *map(str, self.slices.position[layout.number[some[1:]]])]
        return layout.own[some], np.repeat(index[:1], len(some)), captions

    def tables_of_new(
        self, table: pd.DataFrame, index: Ints, folder: Path
    ) -> dict[str, pd.DataFrame]:
        first = table.loc[index, ["path", "series"]].reset_index(drop=True)
        seen = [Path(os.path.relpath(path, folder)).as_posix() for path in first["path"]]
        return {"": first.assign(path=seen, slices=self.slices.lengths(index))}
