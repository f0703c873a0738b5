"""Which rows show each slice of each series, in order, and how far slices lie apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.data.units.series_form import SeriesForm, positions
from medvision.data.units.unit import Layout
from medvision.identity import series_keys
from medvision.target import Ints

_MEASURES = {"position_mm": "mm", "time_s": "s"}


@dataclass(frozen=True)
class Slices:
    """The slices of all series, end to end; series in the order of their first rows.

    Attributes:
        form: how rows became series, its channels settled.
        first: int64 `[M]`, the row of each series' first slice, ascending: its `index`.
        start: int64 `[M+1]`, where its slices start.
        rows: int64 `[T,N,C]`: neighbours from before to after, channels in order.
        place: float64 `[T]`, along the series: mm, s or, where unknown, slices.
        position: int64 `[T]`.
        measure: "mm", "s" or "" of each series.
    """

    form: SeriesForm
    first: Ints
    start: Ints
    rows: Ints
    place: NDArray[np.float64]
    position: Ints
    measure: list[str]

    def find(self, index: Ints) -> Ints:
        """Return the numbers of the series whose first rows are `index`."""
        return np.searchsorted(self.first, index)

    def lengths(self, index: Ints) -> Ints:
        """Return the number of slices of each series."""
        return np.diff(self.start)[self.find(index)]

    @property
    def own(self) -> Ints:
        """The row of each slice itself, of its first channel, `[T]`."""
        return self.rows[:, self.form.neighbours, 0]

    def lay_out(self, index: Ints, kept: Sequence[Ints] | None = None) -> Layout:
        """Line up the slices of the series `index`: with `length`, `step` and, of each, `slot`.

        Args:
            index: `[B]`, their first rows.
            kept: of each series, the slices to serve, in order; descending ones read it from its
                end, so that before and after change places. None serves all.
        """
        starts, lengths = self.start[self.find(index)], self.lengths(index)
        chosen = kept or [np.arange(length) for length in lengths]
        length = np.array([len(each) for each in chosen], dtype=np.int64)
        longest = int(length.max(initial=0))
        slices = np.concatenate([s + each for s, each in zip(starts, chosen, strict=True)])
        ends = np.cumsum(length)
        number = np.repeat(np.arange(len(index)), length)
        slot = np.arange(len(slices)) - np.repeat(ends - length, length) + number * longest
        rows = self.rows[slices]
        backwards = np.array([each[0] > each[-1] for each in chosen])[number]
        rows[backwards] = rows[backwards, ::-1]
        step = np.zeros((len(index), longest), np.float32)
        step.reshape(-1)[slot] = np.concatenate(
            [
                self._steps(s + each, s, n)
                for s, n, each in zip(starts, lengths, chosen, strict=True)
            ]
        )
        rows = rows.reshape(len(slices), -1)
        return Layout(
            rows, number, slices, self.own[slices], {"length": length, "step": step}, {"slot": slot}
        )

    def _steps(self, slices: Ints, start: int, length: int) -> NDArray[np.float64]:
        """Return the distance of each slice to the one before; of the first, the median."""
        apart = np.abs(np.diff(self.place[slices]))
        typical = apart if len(apart) else np.abs(np.diff(self.place[start : start + length]))
        return np.append(np.median(typical) if len(typical) else 1.0, apart)

    def describe(self) -> list[str]:
        """Return what a report should say of lengths and steps."""
        lengths = np.diff(self.start)
        least, most = lengths.min(), lengths.max()
        between = f"{least} to {most} slices (median {np.median(lengths):g})"
        notes = [f"{len(lengths)} series of {f'{most} slices' if least == most else between}"]
        if single := int((lengths == 1).sum()):
            notes.append(f"{single} of them have one slice, whose step is 1")
        several = [m for m, length in zip(self.measure, lengths, strict=True) if length > 1]
        told = [f"in {kind} for {several.count(kind)}" for kind in ("mm", "s") if kind in several]
        if unknown := several.count(""):
            told.append(f"1 a slice for {unknown}, where neither position_mm nor time_s tells them")
        return [*notes, *([f"steps of series are {', '.join(told)}"] if told else [])]


def no_slices() -> Slices:
    """Return those of no table."""
    none, rows = np.zeros(0, np.int64), np.zeros((0, 1, 1), np.int64)
    return Slices(SeriesForm(), none, np.zeros(1, np.int64), rows, np.zeros(0), none, [])


def index_slices(table: pd.DataFrame, form: SeriesForm) -> Slices:
    """Index the rows of whole series; `table` has passed `settle_series` and counts from 0."""
    keys, at = series_keys(table), positions(table).to_numpy(np.int64)
    code = pd.factorize(keys)[0]
    order_of = {word: number for number, word in enumerate(form.channels or ("",))}
    channel = table["channel"].map(order_of).fillna(0).to_numpy(np.int64)
    rows = _sort(channel, at, code, len(order_of))
    starts = np.flatnonzero(np.diff(code[rows[:, 0]], prepend=-1))
    # The order of their first rows, not of their names, is the order of the samples.
    code = np.argsort(np.argsort(rows[starts, 0]))[code]
    rows = _sort(channel, at, code, len(order_of))
    start = np.r_[np.flatnonzero(np.diff(code[rows[:, 0]], prepend=-1)), len(rows)]
    place, measure = _measure(table, rows, start, at)
    around = _neighbours(start, form.neighbours)
    kept, start = _thin(start, form.max_slices)
    return Slices(
        form, rows[kept[start[:-1]], 0], start, rows[around[kept]], place[kept],
        at[rows[kept, 0]], measure,
    )  # fmt: skip


def _sort(channel: Ints, at: Ints, code: Any, channels: int) -> Ints:
    """Return `[T,C]`: rows by series, then position, then channel."""
    return np.asarray(np.lexsort((channel, at, code)).reshape(-1, channels))


def _measure(
    table: pd.DataFrame, rows: Ints, start: Ints, at: Ints
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the place of each slice, and what it is measured in, series by series."""
    lengths = np.diff(start)
    number = np.repeat(np.arange(len(lengths)), lengths)
    position = at[rows[:, 0]].astype(np.float64)
    place, kind = position - position[start[:-1]][number], np.full(len(lengths), "", object)
    inside = np.diff(number) == 0
    steps = np.where(inside, np.diff(place), np.inf)
    shortest = np.minimum.reduceat(np.append(steps, np.inf), start[:-1])
    place /= np.where(np.isfinite(shortest), shortest, 1)[number]
    for column, unit in reversed(_MEASURES.items()):
        if column not in table:
            continue
        told = table[column].to_numpy(np.float64)[rows]
        told = told[np.arange(len(rows)), np.isfinite(told).argmax(axis=1)]
        moved = np.diff(told)
        one_way = [
            np.bincount(number[1:], inside & ~(sign * moved > 0), len(lengths)) == 0
            for sign in (1, -1)
        ]
        known = (one_way[0] | one_way[1]) & (lengths > 1)
        place = np.where(known[number], told, place)
        kind[known] = unit
    return place, [str(each) for each in kind]


def _neighbours(start: Ints, count: int) -> Ints:
    """Return `[T,N]`: each slice with `count` on either side, the outermost repeated."""
    lengths = np.diff(start)
    low, high = (np.repeat(edge, lengths)[:, None] for edge in (start[:-1], start[1:] - 1))
    around = np.arange(start[-1])[:, None] + np.arange(-count, count + 1)
    return np.asarray(np.clip(around, low, high))


def _thin(start: Ints, most: int | None) -> tuple[Ints, Ints]:
    """Return the slices that stay, evenly spread from first to last, and their new starts."""
    lengths = np.diff(start)
    if most is None or lengths.max() <= most:
        return np.arange(start[-1]), start
    kept = [
        s + np.linspace(0, length - 1, min(length, most)).round().astype(np.int64)
        for s, length in zip(start[:-1], lengths, strict=True)
    ]
    return np.concatenate(kept), np.r_[0, np.cumsum(np.minimum(lengths, most))]
