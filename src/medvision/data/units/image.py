"""A sample is a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from torch import Tensor

from medvision.data.units.unit import Batch, Draw, Layout, Unit
from medvision.target import Array, Ints


@dataclass(frozen=True)
class Images(Unit):
    """Rows one by one; a batch holds `image` `[B,C,H,W]`."""

    alone = True
    counted, taken, given, lost = "images", "single images", "files", "unreadable images"
    unlike = "{found} of {total} images are unlike those the model was trained on ({ways})"

    def plain(self) -> dict[str, Any] | None:
        return None

    def index(self, table: pd.DataFrame) -> Self:
        return self

    def samples(self, held: Array) -> Ints:
        return np.flatnonzero(held)

    def rows(self, index: Ints) -> Ints:
        return index

    def lay_out(self, index: Ints, draw: Draw | None = None) -> Layout:
        return Layout(index[:, None], np.arange(len(index)), index, index)

    def preview(self, index: Ints, most: int) -> tuple[Ints, Ints, list[str]]:
        """Choose samples, evenly spread."""
        chosen = index[np.linspace(0, len(index) - 1, min(most, len(index)), dtype=int)]
        return chosen, chosen, [""] * len(chosen)

    def join_digests(self, digests: Sequence[str]) -> str:
        return digests[0]

    def channels(self, stored: int) -> int:
        return stored

    def finish(self, image: Tensor, batch: Batch, maps: Sequence[str] = ()) -> Batch:
        return batch | {"image": image}

    def take_apart(self, batch: Batch) -> tuple[Tensor, Ints, Batch]:
        return batch["image"], np.arange(len(batch["image"])), {}

    def pictures(self, image: Tensor, stored: int) -> Tensor:
        return image[None]


def build() -> Images:
    """Make the unit, which has no settings."""
    return Images()
