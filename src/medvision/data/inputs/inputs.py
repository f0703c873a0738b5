"""Samples to predict: the rows that are found for a unit, and the unit of these rows."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from medvision.data.batches.samples import as_image
from medvision.data.inputs.files import NewRows, find_images
from medvision.data.inputs.series import find_series
from medvision.data.manifest.path_map import is_masked, reveal_paths
from medvision.data.units.unit import Batch, Layout, Unit, join_channels, to_tensors
from medvision.errors import MedvisionError
from medvision.target import Array, Ints


@dataclass(frozen=True)
class Inputs:
    """Samples to predict.

    Attributes:
        folder: what paths are seen from.
        table: their rows, counted from 0.
        unit: which rows make each sample.
        notes: what was left out or could not be known.
        others: number of files in the folder that belong to none of them.
    """

    folder: Path
    table: pd.DataFrame
    unit: Unit
    notes: list[str]
    others: int = 0

    @property
    def index(self) -> Ints:
        """All samples, in the order of the output."""
        return self.unit.samples(np.ones(len(self.table), bool))

    @property
    def files(self) -> list[Path]:
        """The file of each row."""
        return [self.folder / path for path in reveal_paths(self.table["path"].tolist())]

    @property
    def rank(self) -> Ints:
        """The place `[N]` of each row where files are read once, from front to back."""
        file = pd.factorize(self.table["path"])[0]
        rank = np.empty(len(file), np.int64)
        rank[np.lexsort((self.table["frame"].to_numpy(), file))] = np.arange(len(file))
        return rank

    def in_order(self) -> Ints:
        """Return all samples in the order in which their files are read."""
        layout, rank = self.unit.lay_out(self.index), self.rank
        first = np.full(len(self.index), len(rank))
        np.minimum.at(first, layout.sample, rank[layout.rows].min(axis=1))
        return self.index[np.argsort(first, kind="stable")]


def find_inputs(
    sources: Sequence[Path], columns: Mapping[str, Any], unit: Unit, exclude: bool
) -> Inputs:
    """Find the samples of files, folders or tables, as a model reads them.

    Args:
        sources: of images, or of series, volumes and clips: see `find_images` and `find_series`.
        columns: ours → theirs, for a CSV.
        unit: of the model.
        exclude: leave out what of a DICOM folder cannot be used.

    Raises:
        MedvisionError: there are none, or their rows have faults.
    """
    found = [
        find_images(each, columns) if unit.alone else find_series(each, columns, unit, exclude)
        for each in sources
    ]
    rows = found[0] if len(found) == 1 else _join_rows(found)
    table, unit, notes = unit.keep_whole(rows.table, frozen=True)
    table = table.reset_index(drop=True)
    unit = unit.index(table)
    return Inputs(rows.folder, table, unit, notes + unit.describe({}, {}), rows.others)


def _join_rows(several: Sequence[NewRows]) -> NewRows:
    """Put rows of several places together, as seen from the folder that holds all of these.

    Raises:
        MedvisionError: there are none.
    """
    if not several:
        raise MedvisionError("there is nothing to predict; give one path or more")
    folder = Path(os.path.commonpath([each.folder for each in several]))
    tables = []
    for number, each in enumerate(several):
        seen = Path(os.path.relpath(each.folder, folder))
        table = each.table.assign(path=[
            path if is_masked(path) or Path(path).is_absolute() else (seen / path).as_posix()
            for path in each.table["path"]
        ])  # fmt: skip
        if "series" in table:  # of one name in two places they are two
            table["dataset"] = f"{number} " + table["dataset"]
        tables.append(table)
    others = sum(each.others for each in several)
    return NewRows(folder, pd.concat(tables, ignore_index=True), others)


class InputBatch(NamedTuple):
    """Some samples, and their rows as they are best read.

    Attributes:
        layout: of the samples.
        rows: int64 `[N]`.
        places: int64 `[V,P]`, of each row of the layout among them.
        owners: int64 `[N]`, the sample of each row.
    """

    layout: Layout
    rows: Ints
    places: Ints
    owners: Ints


def plan_batches(inputs: Inputs, order: Ints, size: int) -> list[InputBatch]:
    """Put samples into batches, in this order.

    At most `size` images; of samples that hold several, one: it may be as large as it likes.
    """
    step, rank = size if inputs.unit.alone else 1, inputs.rank
    starts = range(0, len(order), step)
    return [_plan_batch(inputs.unit, order[start : start + step], rank) for start in starts]


def _plan_batch(unit: Unit, samples: Ints, rank: Ints) -> InputBatch:
    layout, rows = unit.lay_out(samples), unit.rows(samples)
    rows = rows[np.argsort(rank[rows])]
    by_row = np.argsort(rows)
    places = by_row[np.searchsorted(rows[by_row], layout.rows)]
    owners = np.empty_like(rows)
    owners[places] = samples[layout.sample][:, None]
    return InputBatch(layout, rows, places, owners)


def put_together(unit: Unit, pixels: Array, batch: InputBatch) -> Batch:
    """Make a batch of its decoded rows, `[N,H,W,c]`."""
    stored = torch.from_numpy(pixels[batch.places.reshape(-1)])
    image = as_image(join_channels(stored, batch.places.shape[1]))
    return unit.finish(image, to_tensors({**batch.layout.entries, **batch.layout.slots}))
