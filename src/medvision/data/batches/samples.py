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
from medvision.data.store.facts import TOLD, FileFacts, tell_by_table
from medvision.data.store.store import Store
from medvision.data.units.series import (
    SliceBatch,
    Slices,
    add_difference,
    join_channels,
    pad_labels,
    pad_series,
)
from medvision.identity import patient_keys
from medvision.target import Array, Encoded, Ragged, Target, take

BATCH_BYTES = 2**25
"""What the images of an unaugmented batch of series may take, as float32: 512 slices of 128 x 128,
whose maps in a net take a hundred times as much."""


@dataclass
class Samples:
    """Rows and the store positions of their pixels.

    A sample is a row or, where there are `slices`, a series, known by the row of its first slice.

    Attributes:
        table: the run's manifest rows; a row's position is its `index` everywhere.
        target: what is asked.
        targets: what it encodes of each row; rows of a series have their series'.
        digest: pixel digest of each row.
        stores: decoded arrays, one a manifest.
        where: int64 `[N,2]`: number of the store and row in it.
        manifests: digests of the manifests the rows come from.
        slices: which rows show the slices of each series; None = every row is a sample.
        row_targets: what rows of series say for themselves; {}: nothing.
        generated: where generated rows come from.
        maps: column → label maps beside each store; None: its manifest has no such column.
    """

    table: pd.DataFrame
    target: Target
    targets: dict[str, Array | Ragged]
    digest: list[str]
    stores: list[Store]
    where: np.ndarray
    manifests: list[str] = field(default_factory=list)
    slices: Slices | None = None
    row_targets: dict[str, Array | Ragged] = field(default_factory=dict)
    generated: list[Generated] = field(default_factory=list)
    maps: dict[str, list[LabelMaps | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, part: str) -> np.ndarray:
        """Return the indices of the samples of one part, in table order; of train, real ones."""
        held = self._held(part)
        return np.flatnonzero(held) if self.slices is None else self._first[held[self._first]]

    def generated_rows(self) -> np.ndarray:
        """Return the indices of the generated images that train."""
        if not self.generated:
            return np.empty(0, np.int64)
        return np.flatnonzero(self._held("train", real=False))

    @property
    def channels(self) -> int:
        """The channels of a batch's images."""
        colours = int(self.stores[0].array.shape[-1])
        return colours if self.slices is None else self.slices.form.width(colours)

    @property
    def shown_channels(self) -> slice:
        """The channels that a person looks at: of a slice its own, the first of them."""
        colours = int(self.stores[0].array.shape[-1])
        if self.slices is None:
            return slice(0, colours)
        form = self.slices.form
        first = form.neighbours * form.width(colours) // (2 * form.neighbours + 1)
        return slice(first, first + colours)

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

    def pixels(self, index: np.ndarray, strips: SliceBatch | None = None) -> Tensor:
        """Copy the pixels of samples `[B,H,W,C]`, or of all slices of series `[V,H,W,C]`."""
        if strips is None:
            return torch.from_numpy(self.gather(index))
        gathered = torch.from_numpy(self.gather(strips.rows.reshape(-1)))
        return join_channels(gathered, strips.rows.shape[1])

    def batches(self, index: np.ndarray, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield unaugmented batches in the order of `index`.

        At most `size` samples, of series fewer where they would not fit into `BATCH_BYTES`.
        """
        for chosen in self._cut(index, size):
            strips = None if self.slices is None else self.slices.lay_out(chosen)
            batch = self.facts(chosen, strips)
            image = as_image(self.pixels(chosen, strips))
            yield self.finish(image, batch)

    def each_slice(self, size: int = 128) -> Iterator[Tensor]:
        """Yield `[V,C,H,W]` of all slices as they are numbered, at most `size` at once."""
        assert self.slices is not None
        rows = self.slices.rows.reshape(len(self.slices.rows), -1)
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            pixels = join_channels(torch.from_numpy(self.gather(some.reshape(-1))), some.shape[1])
            yield add_difference(as_image(pixels), self.slices.form)

    def spread(self, index: np.ndarray) -> np.ndarray:
        """Return all rows that samples are made of, ascending; an image is its own."""
        if self.slices is None:
            return index
        return np.unique(self.slices.lay_out(index).rows) if len(index) else index

    def finish(self, image: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put images into their batch; of slices `[V,C,H,W]` series `[B,S,C,H,W]` are made."""
        slot = batch.pop("slot", None)
        labels = {name: batch[name].long() for name in self.maps}
        if slot is None or self.slices is None:
            return batch | labels | {"image": image}
        shape, joined = batch["step"].shape, add_difference(image, self.slices.form)
        padded = {name: pad_labels(each, slot, shape, NONE) for name, each in labels.items()}
        return batch | padded | {"image": pad_series(joined, slot, shape)}

    def facts(self, index: np.ndarray, strips: SliceBatch | None = None) -> dict[str, Tensor]:
        """Return everything of a batch but its pixels; of series also where their slices go."""
        told = {"index": index} | _lay_flat(take(self.targets, index))
        if strips is not None:
            told |= {"length": strips.length, "step": strips.step, "slot": strips.slot}
            told |= self._slice_targets(strips)
        own = index if strips is None or self.slices is None else self.slices.own[strips.slices]
        told |= {name: self._gather_maps(name, own) for name in self.maps}
        return {key: torch.from_numpy(value) for key, value in told.items()}

    def known(self, index: np.ndarray) -> np.ndarray:
        """Return those of the samples `index` that may train and are scored."""
        return index[self.target.known(take(self.targets, index))]

    def count(self, index: np.ndarray) -> dict[str, Any]:
        """Return what the target counts of the samples `index`."""
        patients = patient_keys(self.table.loc[index]).tolist()
        return self.target.count(take(self.targets, index), patients)

    def seen(self, part: str) -> tuple[list[str], list[str]]:
        """Return the sorted patients and image digests of one part; of train, real ones."""
        rows = np.flatnonzero(self._held(part))
        patients = self.table["patient"].to_numpy()[rows]
        return sorted(set(patients)), sorted({self.digest[row] for row in rows} - {""})

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

    def slices_for(self, index: Sequence[int] | np.ndarray) -> pd.DataFrame:
        """Return the slices of series as served, series by series.

        `index` is the series', `slice` counts from 0 within it, `row` is the slice's own in the
        run's manifest (of several channels, the first); then comes its own truth in words.
        """
        assert self.slices is not None
        index = np.asarray(index)
        strips = self.slices.lay_out(index)
        count = strips.step.shape[1] if len(index) else 1
        rows = self.slices.own[strips.slices]
        said = take(self.row_targets, rows) or _forget(take(self.targets, rows))
        return pd.DataFrame({
            "index": np.repeat(index, strips.length), "slice": strips.slot % count, "row": rows,
            "position": self.slices.position[strips.slices], **self.target.decode(said),
        })  # fmt: skip

    @property
    def _first(self) -> np.ndarray:
        assert self.slices is not None
        return self.slices.first

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

    def _slice_targets(self, strips: SliceBatch) -> dict[str, Array]:
        """Return `slice_<entry>` `[B,S,…]` of each entry of the target, unknown in the padding."""
        assert self.slices is not None
        rows, shape = self.slices.own[strips.slices], strips.step.shape
        told: dict[str, Array] = {}
        for name, values in self.targets.items():
            own = self.row_targets.get(name)
            if isinstance(values, np.ndarray):
                filled = _unknown(values, strips.step.size)
                if isinstance(own, np.ndarray):
                    filled[strips.slot] = own[rows]
                told[f"slice_{name}"] = filled.reshape(*shape, *values.shape[1:])
            elif isinstance(own, Ragged):
                some = own[rows]
                told |= {f"slice_{name}": some.values, f"slice_{name}_row": strips.slot[some.row]}
        return told

    def _cut(self, index: np.ndarray, size: int) -> Iterator[np.ndarray]:
        """Cut into batches whose padded images are not too large; a single series may be."""
        if self.slices is None:
            yield from (index[start : start + size] for start in range(0, len(index), size))
            return
        height, width = self.stores[0].array.shape[1:3]
        slices = BATCH_BYTES // (4 * height * width * self.channels)
        start, longest = 0, 0
        for place, length in enumerate(self.slices.lengths(index)):
            longest, count = max(longest, length), place + 1 - start
            if count > 1 and (count > size or count * longest > slices):
                yield index[start:place]
                start, longest = place, length
        if start < len(index):
            yield index[start:]


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


def _unknown(values: Array, rows: int) -> Array:
    """Return as many rows like these of which nothing is known."""
    return np.full(
        (rows, *values.shape[1:]), np.nan if values.dtype.kind == "f" else -1, values.dtype
    )


def _forget(encoded: Encoded) -> Encoded:
    """Return the same entries of which nothing is known."""
    return {n: _unknown(v, len(v)) for n, v in encoded.items() if not isinstance(v, Ragged)}
