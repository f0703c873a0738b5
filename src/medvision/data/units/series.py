"""A sample is a series: its slices in order, which differ in number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from medvision.augment.sequence import SequenceAugment
from medvision.data.units.grouped import Grouped
from medvision.data.units.series_form import OnGap, SeriesForm
from medvision.data.units.unit import Batch, Draw, Layout
from medvision.target import Array, Encoded, Ints, Ragged, Target, take


@dataclass(frozen=True)
class Series(Grouped):
    """Series slice after slice.

    A batch holds `image` `[B,S,C,H,W]`, 0 in the padding, `length` `[B]` and `step` `[B,S]`; of
    what slices are annotated with themselves `slice_<entry>` `[B,S,…]`.

    Attributes:
        sequence: random change of the order of training series.
    """

    sequence: SequenceAugment = field(default_factory=SequenceAugment)

    varies = True
    of_rows = "slice_"
    on_host = ("length",)  # packed sequences want it there

    def plain(self) -> dict[str, Any] | None:
        return self.form.contract()

    def lay_out(self, index: Ints, draw: Draw | None = None) -> Layout:
        kept = None
        if draw is not None and self.sequence.changes:
            lengths = self.slices.lengths(index)
            kept = self.sequence.draw(draw.seed, draw.epoch, draw.number, lengths)
        return self.slices.lay_out(index, kept)

    def lengths(self, index: Ints) -> Ints | None:
        return self.sequence.shorten(self.slices.lengths(index))

    def cut(self, index: Ints, size: int, images: int) -> Iterator[Ints]:
        """Cut into batches whose padded images are not too many; a single series may have more."""
        start, longest = 0, 0
        for place, length in enumerate(self.slices.lengths(index)):
            longest, count = max(longest, length), place + 1 - start
            if count > 1 and (count > size or count * longest > images):
                yield index[start:place]
                start, longest = place, length
        if start < len(index):
            yield index[start:]

    def row_entries(self, layout: Layout, targets: Encoded, of_rows: Encoded) -> dict[str, Array]:
        """Return `slice_<entry>` of each entry of the target, unknown in the padding."""
        step, slot = layout.entries["step"], layout.slots["slot"]
        told: dict[str, Array] = {}
        for name, values in targets.items():
            own = of_rows.get(name)
            if isinstance(values, np.ndarray):
                filled = _unknown(values, step.size)
                if isinstance(own, np.ndarray):
                    filled[slot] = own[layout.own]
                told[f"slice_{name}"] = filled.reshape(*step.shape, *values.shape[1:])
            elif isinstance(own, Ragged):
                some = own[layout.own]
                told |= {f"slice_{name}": some.values, f"slice_{name}_row": slot[some.row]}
        return told

    def find_images(self, place: Ints, layout: Layout) -> Ints:
        return np.searchsorted(layout.slots["slot"], place)

    def tables(
        self, index: Ints, target: Target, targets: Encoded, of_rows: Encoded
    ) -> dict[str, pd.DataFrame]:
        """Return the `slices` as served, series by series.

        `index` is the series', `slice` counts from 0 within it, `row` is the slice's own in the
        run's manifest (of several channels, the first); then comes its own truth in words.
        """
        layout = self.lay_out(index)
        said = take(of_rows, layout.own) or _forget(take(targets, layout.own))
        return {"slices": pd.DataFrame({
            "index": index[layout.sample], "slice": self._place(layout), "row": layout.own,
            "position": self.slices.position[layout.number], **target.decode(said),
        })}  # fmt: skip

    def tables_of_new(
        self, table: pd.DataFrame, index: Ints, folder: Path
    ) -> dict[str, pd.DataFrame]:
        tables, layout = super().tables_of_new(table, index, folder), self.lay_out(index)
        slices = tables[""].loc[layout.sample, ["path", "series"]].reset_index(drop=True)
        position = self.slices.position[layout.number]
        return tables | {"slices": slices.assign(slice=self._place(layout), position=position)}

    def channels(self, stored: int) -> int:
        return self.form.width(stored)

    def complete(self, image: Tensor) -> Tensor:
        return add_difference(image, self.form)

    def finish(self, image: Tensor, batch: Batch, maps: Sequence[str] = ()) -> Batch:
        slot, shape = batch.pop("slot"), batch["step"].shape
        padded = {name: _pad_labels(batch[name], slot, shape) for name in maps}
        return batch | padded | {"image": pad_series(self.complete(image), slot, shape)}

    def take_apart(self, batch: Batch) -> tuple[Tensor, Ints, Batch]:
        image, valid = batch["image"], _find_valid(batch)
        sample = np.repeat(np.arange(len(image)), batch["length"].cpu().numpy())
        slot = valid.flatten().nonzero()[:, 0]
        return drop_difference(image[valid], self.form), sample, {"slot": slot}

    def pictures(self, image: Tensor, stored: int) -> Tensor:
        """Return the slices' own channels, the first of them."""
        first = self.form.neighbours * self.form.width(stored) // (2 * self.form.neighbours + 1)
        return image[:, first : first + stored]

    def unpad(self, answer: Batch, batch: Batch) -> Batch:
        valid = _find_valid(batch)
        sample = valid.nonzero()[:, 0]
        of_slices = [name for name in answer if name == "attention" or name.startswith("slice_")]
        for name in of_slices:
            answer |= {name: answer[name][valid], f"{name}_row": sample}
        return answer

    def _place(self, layout: Layout) -> Ints:
        """Return the place of each slice in its series."""
        count = layout.entries["step"].shape[1]
        return np.asarray(layout.slots["slot"] % count)


def build(
    channels: Sequence[str] | None = None,
    neighbours: int = 0,
    difference: bool = False,
    max_slices: int | None = None,
    on_gap: OnGap = "error",
    sequence: SequenceAugment | None = None,
) -> Series:
    """Make the unit of its settings: see `SeriesForm`."""
    form = SeriesForm(channels, neighbours, difference, max_slices, on_gap)
    return Series(form, sequence=sequence or SequenceAugment())


def _find_valid(batch: Batch) -> Tensor:
    """Tell the slices `[B,S]` of a batch from its padding."""
    image = batch["image"]
    return torch.arange(image.shape[1], device=image.device) < batch["length"][:, None]


def add_difference(image: Tensor, form: SeriesForm) -> Tensor:
    """Put |a − b| behind the two channels of each neighbour, if that is wished: `[V,C,H,W]`."""
    if not form.difference:
        return image
    pairs = image.reshape(len(image), 2 * form.neighbours + 1, 2, -1, *image.shape[2:])
    apart = (pairs[:, :, :1] - pairs[:, :, 1:]).abs()
    joined = torch.cat([pairs, apart], dim=2).flatten(1, 3)
    return joined.contiguous(memory_format=torch.channels_last)


def drop_difference(image: Tensor, form: SeriesForm) -> Tensor:
    """Return the channels `[V,C,H,W]` that `add_difference` was given."""
    if not form.difference:
        return image
    triples = image.reshape(len(image), 2 * form.neighbours + 1, 3, -1, *image.shape[2:])
    return triples[:, :, :2].flatten(1, 3).contiguous(memory_format=torch.channels_last)


def pad_series(image: Tensor, slot: Tensor, shape: Sequence[int]) -> Tensor:
    """Put slices `[V,C,H,W]` in their places in `[B,S,C,H,W]`, zeros in the padding."""
    series, longest = shape
    if len(image) != series * longest:
        padded = torch.empty(
            (series * longest, *image.shape[1:]), dtype=image.dtype, device=image.device,
            memory_format=torch.channels_last,
        )  # fmt: skip
        padded.zero_()[slot] = image
        image = padded
    return image.view(series, longest, *image.shape[1:])


def _pad_labels(labels: Tensor, slot: Tensor, shape: Sequence[int]) -> Tensor:
    """Put label maps of slices `[V,H,W]` in their places in `[B,S,H,W]`, −1 in the padding."""
    series, longest = shape
    padded = labels.new_full((series * longest, *labels.shape[1:]), -1)
    padded[slot] = labels
    return padded.view(series, longest, *labels.shape[1:])


def _unknown(values: Array, rows: int) -> Array:
    """Return as many rows like these of which nothing is known."""
    return np.full(
        (rows, *values.shape[1:]), np.nan if values.dtype.kind == "f" else -1, values.dtype
    )


def _forget(encoded: Encoded) -> Encoded:
    """Return the same entries of which nothing is known."""
    return {n: _unknown(v, len(v)) for n, v in encoded.items() if not isinstance(v, Ragged)}
