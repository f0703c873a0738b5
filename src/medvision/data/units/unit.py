"""What one sample is, and how rows of the store become its part of a batch.

A unit is a module with a function `build(**settings) -> Unit`, known by the module's name: one of
ours beside this one, or the dotted path of another (`data.unit=mypackage.volume`). Of the settings
`data.channels`, `neighbours`, `difference`, `max_slices`, `on_gap` and `sequence` it is given those
that it names.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import medvision.files as files
from medvision.data.store.facts import FileFacts
from medvision.data.units.series_form import OnGap, SeriesForm
from medvision.errors import MedvisionError, did_you_mean
from medvision.target import Array, Encoded, Ints, Target

PACKAGE = "medvision.data.units"
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """The images of some samples, end to end.

    Attributes:
        rows: int64 `[V,P]`, the rows whose pixels are the channels of each image.
        sample: int64 `[V]`, the place of the sample of each, from 0 to B − 1.
        number: int64 `[V]`, of each among the images of all samples.
        own: int64 `[V]`, the row that each is annotated by.
        entries: what the batch holds beside its pixels.
        slots: what `Unit.finish` needs beside them, and takes out of the batch again.
    """

    rows: Ints
    sample: Ints
    number: Ints
    own: Ints
    entries: Mapping[str, Array] = field(default_factory=dict)
    slots: Mapping[str, Array] = field(default_factory=dict)


class Draw(NamedTuple):
    """What the random change of training samples follows from: `number` is one a sample."""

    seed: int
    epoch: int
    number: Ints


@dataclass(frozen=True)
class Unit(ABC):
    """What one sample is: made of settings alone, until `index` tells it the rows of a table.

    A sample is known by one of its rows, its `index` everywhere. Units are equal if their settings
    are. `targets` is what the target encodes of each row, that of its sample; `of_rows` what rows
    are annotated with themselves, {} = nothing.

    Attributes:
        form: how rows belong together.
        alone: every row is a sample of its own.
        varies: samples differ in size, so batches do.
        on_host: entries of a batch that stay on the host.
        of_rows: begins the names of entries that say what rows are annotated with (`row_entries`);
            "" where that is what their sample is annotated with.
        counted: how tables call so many samples.
        taken, given, lost: what a model takes, what is to be given to it, what could not be scored.
        unlike: how many hold images unlike those of the training, and in which `ways`.
    """

    form: SeriesForm = field(default_factory=SeriesForm)

    alone: ClassVar[bool] = False
    varies: ClassVar[bool] = False
    on_host: ClassVar[tuple[str, ...]] = ()
    of_rows: ClassVar[str] = ""
    counted: ClassVar[Literal["images", "series"]]
    taken: ClassVar[str]
    given: ClassVar[str]
    lost: ClassVar[str]
    unlike: ClassVar[str]

    def plain(self) -> dict[str, Any] | None:
        """Return what `model.pt` holds: the name of the unit, and what `build` makes it of."""
        return {"name": type(self).__module__.removeprefix(f"{PACKAGE}."), **self.form.contract()}

    # From rows to samples

    def allow_gaps(self, on_gap: OnGap | None) -> Self:
        """Return the same with another `on_gap`; None changes nothing.

        Raises:
            MedvisionError: it is no choice, or there are no gaps.
        """
        if on_gap is not None:
            raise MedvisionError(
                f"on_gap is for models of series, and this one takes {self.taken}; omit it"
            )
        return self

    def keep_whole(
        self, table: pd.DataFrame, whole: pd.DataFrame | None = None,
        facts: Sequence[FileFacts | None] = (), *, frozen: bool = False,
    ) -> "Whole":  # fmt: skip
        """Check rows, and leave out those that make no whole sample.

        Args:
            table: rows of a manifest.
            whole: the rows before unreadable ones left.
            facts: of the file of each row, by the index of `table`; (): not known yet.
            frozen: the unit is that of a model, whose channels are settled.

        Raises:
            MedvisionError: all that is wrong with them.
        """
        return Whole(table, self, [])

    def refuse_torn(self, before: pd.DataFrame, after: pd.DataFrame) -> None:  # noqa: B027
        """Refuse a split that kept only some rows of a sample."""

    def annotate(self, table: pd.DataFrame, target: Target | type[Target]) -> pd.DataFrame:
        """Return the rows under what their sample is annotated with."""
        return table

    def encode_rows(self, table: pd.DataFrame, target: Target) -> Encoded:
        """Encode what rows are annotated with themselves."""
        return {}

    def count(self, table: pd.DataFrame) -> int:
        """Count the samples that rows of a manifest would make."""
        return len(table)

    @abstractmethod
    def index(self, table: pd.DataFrame) -> Self:
        """Return the unit of these rows, which `keep_whole` has passed and count from 0."""

    def describe(self, targets: Encoded, of_rows: Encoded) -> list[str]:
        """Return what a report should say of the samples."""
        return []

    def add_counts(self, counts: dict[str, Any], table: pd.DataFrame, target: Target) -> None:  # noqa: B027
        """Add to each part of an audit how many samples it has, where they are not its rows."""

    # Samples of an indexed table

    @abstractmethod
    def samples(self, held: Array) -> Ints:
        """Return the samples, ascending, of the rows that are `held` `[N]`."""

    @abstractmethod
    def lay_out(self, index: Ints, draw: Draw | None = None) -> Layout:
        """Line up the images of the samples `index`, with random change where it is drawn."""

    def rows(self, index: Ints) -> Ints:
        """Return all rows that samples are made of, ascending."""
        return np.unique(self.lay_out(index).rows) if len(index) else index

    def lengths(self, index: Ints) -> Ints | None:
        """Return how many images training samples have at most; None: all as many.

        Batches then hold samples of like length, and an epoch each of them.
        """
        return None

    def cut(self, index: Ints, size: int, images: int) -> Iterator[Ints]:
        """Cut into batches of at most `size` samples and, where these are larger, `images`."""
        yield from (index[start : start + size] for start in range(0, len(index), size))

    def row_entries(self, layout: Layout, targets: Encoded, of_rows: Encoded) -> dict[str, Array]:
        """Return the entries of a batch that say what its rows are annotated with."""
        return {}

    def find_images(self, place: Ints, layout: Layout) -> Ints:
        """Return which image, from 0 to V − 1, stands at places that `<entry>_row` tells."""
        return place

    def tables(
        self, index: Ints, target: Target, targets: Encoded, of_rows: Encoded
    ) -> dict[str, pd.DataFrame]:
        """Return what is told of the images of samples, a row each: name → table."""
        return {}

    def tables_of_new(
        self, table: pd.DataFrame, index: Ints, folder: Path
    ) -> dict[str, pd.DataFrame]:
        """Return "", what is told of samples nobody annotated, and of their images, a row each."""
        return {"": table.loc[index, ["path", "frame"]].reset_index(drop=True)}

    @abstractmethod
    def preview(self, index: Ints, most: int) -> tuple[Ints, Ints, list[str]]:
        """Choose images to look at: a row of each, its sample, and its caption, "" = the label."""

    def join_digests(self, digests: Sequence[str]) -> str:
        """Return the digest of a sample from those of its rows."""
        return files.digest(*digests)

    # Tensors

    @abstractmethod
    def channels(self, stored: int) -> int:
        """Return the channels a net sees where the reader stores so many."""

    def complete(self, image: Tensor) -> Tensor:
        """Add to images `[V,C,H,W]` the channels that follow from others."""
        return image

    @abstractmethod
    def finish(self, image: Tensor, batch: Batch, maps: Sequence[str] = ()) -> Batch:
        """Make a batch of its images `[V,C,H,W]` and of its entries and slots.

        Args:
            image: of all samples, end to end.
            batch: beside it.
            maps: entries that are label maps `[V,H,W]`, −1 = not known, one an image.
        """

    @abstractmethod
    def take_apart(self, batch: Batch) -> tuple[Tensor, Ints, Batch]:
        """Undo `finish`: return the images `[V,C,H,W]`, the sample of each, and slots."""

    @abstractmethod
    def pictures(self, image: Tensor, stored: int) -> Tensor:
        """Return `[V,C,H,W]` of one sample of a batch, of the channels that a person looks at."""

    def unpad(self, answer: Batch, batch: Batch) -> Batch:
        """Take what is said of the images of samples out of its padding.

        Beside each such entry `[V,…]`, of all samples end to end, stands `<entry>_row` `[V]`, the
        sample of each.
        """
        return answer


class Whole(NamedTuple):
    """Rows that make whole samples, under their own index, the unit settled, and what to report."""

    table: pd.DataFrame
    unit: Unit
    notes: list[str]


def join_channels(pixels: Tensor, count: int) -> Tensor:
    """Make one image of every `count` rows: `[V*P,H,W,c]` → `[V,H,W,P*c]`."""
    if count == 1:
        return pixels
    parted = pixels.reshape(-1, count, *pixels.shape[1:])
    return parted.permute(0, 2, 3, 1, 4).flatten(3).contiguous()


def to_tensors(arrays: Mapping[str, Array]) -> Batch:
    """Return all entries as tensors, without a copy."""
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


def list_units() -> list[str]:
    """Return the names of our own units."""
    names = [each.name for each in iter_modules([str(Path(__file__).parent)])]
    return [name for name in names if hasattr(import_module(f"{PACKAGE}.{name}"), "build")]


def find_unit(name: str) -> Callable[..., Unit]:
    """Return the `build` of a unit: one of ours by its module's name, another by its dotted path.

    Raises:
        MedvisionError: there is none.
    """
    path = name if "." in name else f"{PACKAGE}.{name}"
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not path.startswith(error.name):
            raise  # of a package it needs
        module = None
    if module is None or not hasattr(module, "build"):
        known = list_units()
        raise MedvisionError(
            f"data.unit={name} cannot be{did_you_mean(name, known)}; choose {' or '.join(known)}"
        )
    build: Callable[..., Unit] = module.build
    return build


def make_unit(name: str, settings: Mapping[str, Any]) -> Unit:
    """Make a unit of those settings that its `build` names."""
    build = find_unit(name)
    takes = inspect.signature(build).parameters
    return build(**{key: value for key, value in settings.items() if key in takes})


def read_unit(plain: Mapping[str, Any] | None) -> Unit:
    """Open the unit of a model: of images it holds None, of series the settings without a name."""
    name = "image" if plain is None else plain.get("name", "series")
    return make_unit(name, plain or {})
