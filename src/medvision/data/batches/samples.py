"""The samples of a run, their targets and their pixels: all a batch is gathered from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from medvision.data.batches.generated import Generated
from medvision.data.batches.label_maps import NONE, LabelMaps
from medvision.data.manifest.people import show_rows
from medvision.data.store.facts import TOLD, FileFacts, tell_by_table
from medvision.data.store.store import Store
from medvision.data.units.image import Images
from medvision.data.units.unit import Batch, Layout, Unit, join_channels, to_tensors
from medvision.identity import patient_keys
from medvision.seen import Shown
from medvision.target import Array, Encoded, Ragged, Target, take

BATCH_BYTES = 2**25
"""What the images of an unaugmented batch may take where samples hold several, as float32: 512
slices of 128 x 128, whose maps in a net take a hundred times as much."""


@dataclass
class Samples:
    """Rows and the store positions of their pixels.

    Attributes:
        table: the run's manifest rows; a row's position is its `index` everywhere.
        target: what is asked.
        targets: what it encodes of each row; rows of a series have their series'.
        digest: pixel digest of each row.
        stores: decoded arrays, one a manifest.
        where: int64 `[N,2]`: number of the store and row in it.
        manifests: digests of the manifests the rows come from.
        unit: which rows make each sample.
        row_targets: what rows say for themselves, beside their sample; {}: nothing.
        generated: where generated rows come from.
        maps: column → label maps beside each store; None: its manifest has no such column.
        key: fingerprint of the key behind the pseudonyms of patients; None: ids as given.
        unchecked: what could not be compared, in sentences that stand on every table.
    """

    table: pd.DataFrame
    target: Target
    targets: dict[str, Array | Ragged]
    digest: list[str]
    stores: list[Store]
    where: np.ndarray
    manifests: list[str] = field(default_factory=list)
    unit: Unit = field(default_factory=Images)
    row_targets: dict[str, Array | Ragged] = field(default_factory=dict)
    generated: list[Generated] = field(default_factory=list)
    maps: dict[str, list[LabelMaps | None]] = field(default_factory=dict)
    key: str | None = None
    unchecked: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, part: str) -> np.ndarray:
        """Return the indices of the samples of one part, in table order; of train, real ones."""
        return self.unit.samples(self._held(part))

    def generated_rows(self) -> np.ndarray:
        """Return the indices of the generated images that train."""
        if not self.generated:
            return np.empty(0, np.int64)
        return np.flatnonzero(self._held("train", real=False))

    @property
    def channels(self) -> int:
        """The channels of a batch's images."""
        return self.unit.channels(self.colours)

    @property
    def colours(self) -> int:
        """The channels of a stored image."""
        return int(self.stores[0].array.shape[-1])

    def gather(self, index: np.ndarray) -> np.ndarray:
        """Copy the pixels of the rows `index` into one array `[B,H,W,C]`, uint8 or uint16."""
        where = self.where[index]
        if len(self.stores) == 1:
            return self.stores[0].gather(where[:, 1])
        first = self.stores[0].array
        pixels = np.empty((len(index), *first.shape[1:]), first.dtype)
        for number, store in enumerate(self.stores):
            chosen = where[:, 0] == number
            if chosen.any():
                pixels[chosen] = store.gather(where[chosen, 1])
        return pixels

    def pixels(self, rows: np.ndarray) -> Tensor:
        """Copy the pixels `[V,H,W,C]` of images, of which `rows` `[V,P]` are the channels."""
        return join_channels(torch.from_numpy(self.gather(rows.reshape(-1))), rows.shape[1])

    def batches(self, index: np.ndarray, size: int) -> Iterator[Batch]:
        """Yield unaugmented batches in the order of `index`.

        At most `size` samples, fewer where several images each would not fit into `BATCH_BYTES`.
        """
        height, width = self.stores[0].array.shape[1:3]
        images = BATCH_BYTES // (4 * height * width * self.channels)
        for chosen in self.unit.cut(index, size, images):
            layout = self.unit.lay_out(chosen)
            batch = self.facts(chosen, layout) | to_tensors(layout.slots)
            yield self.finish(as_image(self.pixels(layout.rows)), batch)

    def each_image(self, size: int = 128) -> Iterator[Tensor]:
        """Yield `[V,C,H,W]` of all images as they are numbered, at most `size` at once."""
        every = self.unit.samples(np.ones(len(self), bool))
        rows = self.unit.lay_out(every).rows
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            yield self.unit.complete(as_image(self.pixels(some)))

    def finish(self, image: Tensor, batch: Batch) -> Batch:
        """Make a batch of its images `[V,C,H,W]` and of its entries, label maps `[V,H,W]` too."""
        maps = {name: batch[name].long() for name in self.maps}
        return self.unit.finish(image, batch | maps, [*maps])

    def facts(self, index: np.ndarray, layout: Layout) -> Batch:
        """Return everything of a batch but its pixels; label maps are of one an image."""
        told = {"index": index} | _lay_flat(take(self.targets, index)) | dict(layout.entries)
        told |= self.unit.row_entries(layout, self.targets, self.row_targets)
        return to_tensors(told | {n: self._gather_maps(n, layout.own) for n in self.maps})

    def known(self, index: np.ndarray) -> np.ndarray:
        """Return those of the samples `index` that may train and are scored."""
        return index[self.target.known(take(self.targets, index))]

    def count(self, index: np.ndarray) -> dict[str, Any]:
        """Return what the target counts of the samples `index`."""
        patients = patient_keys(self.table.loc[index]).tolist()
        return self.target.count(take(self.targets, index), patients)

    def shown(self, part: str) -> Shown:
        """Return who one part is of and what it shows; of train, real rows."""
        return self.shown_in(np.flatnonzero(self._held(part)))

    def shown_in(self, rows: np.ndarray) -> Shown:
        """Return who rows are of and what they show."""
        digests = (self.digest[row] for row in rows)
        return show_rows(self.table.iloc[rows], digests, self.key)

    def file_facts(self, rows: np.ndarray) -> list[FileFacts]:
        """Return what rows are as their files hold them; the manifest's own words win."""
        if not all(store.natives for store in self.stores):
            return []
        facts = self.natives(rows)
        there = [name for name in TOLD if name in self.table]
        return tell_by_table(facts, {name: self.table[name].to_numpy()[rows] for name in there})

    def natives(self, rows: np.ndarray) -> list[FileFacts | None]:
        """Return what rows are as their files say."""
        return [self.stores[n].natives[row] for n, row in self.where[rows].tolist()]

    def facts_for(self, index: Sequence[int] | np.ndarray) -> pd.DataFrame:
        """Return the identifying columns of rows and their truth, as predictions carry them."""
        rows = np.asarray(index)
        names = ["dataset", "path", "frame", "patient", "series"]
        facts: pd.DataFrame = self.table.loc[rows, names].reset_index(drop=True)
        facts.insert(0, "index", rows)
        return facts.assign(**self.target.decode(take(self.targets, rows)))

    def tables_for(self, index: Sequence[int] | np.ndarray) -> dict[str, pd.DataFrame]:
        """Return `facts_for` under "", and beside it what is told of the images of samples."""
        rows = np.asarray(index)
        nested = self.unit.tables(rows, self.target, self.targets, self.row_targets)
        return {"": self.facts_for(rows)} | nested

    def _held(self, part: str, real: bool = True) -> np.ndarray:
        held = np.asarray(self.table["split"].to_numpy() == part)
        if part != "train" or not self.generated:
            return held
        return np.asarray(held & ((self.table["origin"].to_numpy() != "generated") == real))

    def _gather_maps(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Copy the label maps of rows, int16 `[B,H,W]`."""
        where, size = self.where[rows], self.stores[0].array.shape[1:3]
        maps = np.full((len(rows), *size), NONE, np.int16)
        for number, own in enumerate(self.maps[name]):
            chosen = where[:, 0] == number
            if own is not None and chosen.any():
                maps[chosen] = own.gather(where[chosen, 1], size)
        return maps


def as_image(pixels: Tensor) -> Tensor:
    """Turn stored integers `[B,H,W,C]` into float32 `[B,C,H,W]` in [0,1].

    The memory stays channels-last: the permutation is a view and the division keeps its strides.
    """
    top = 255.0 if pixels.dtype == torch.uint8 else 65535.0
    return pixels.permute(0, 3, 1, 2).float().div_(top)


def _lay_flat(encoded: Encoded) -> dict[str, Array]:
    """Return arrays as they are; of ragged entries the values, and beside them `<name>_row`."""
    flat: dict[str, Array] = {}
    for name, values in encoded.items():
        if isinstance(values, Ragged):
            flat |= {name: values.values, f"{name}_row": values.row}
        else:
            flat[name] = values
    return flat
