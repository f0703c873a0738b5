"""The rows of a run, their labels and their pixels: all a batch is gathered from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from medvision.data.classes import Classes
from medvision.data.store import Store


@dataclass
class Samples:
    """Rows and the store positions of their pixels.

    Attributes:
        table: the run's manifest rows; a row's position is its `index` everywhere.
        classes: names in order and what kind of question they ask.
        label: int64 `[N]`, −1 unlabelled; multi-label float32 `[N,K]`, nan unlabelled.
        digest: pixel digest of each row.
        stores: decoded arrays, one a manifest.
        where: int64 `[N,2]`: number of the store and row in it.
        manifests: digests of the manifests the rows come from.
    """

    table: pd.DataFrame
    classes: Classes
    label: np.ndarray
    digest: list[str]
    stores: list[Store]
    where: np.ndarray
    manifests: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, part: str) -> np.ndarray:
        """Return the indices of the rows of one part, in table order."""
        return np.flatnonzero(self.table["split"].to_numpy() == part)

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

    def batches(self, index: np.ndarray, size: int) -> Iterator[dict[str, Tensor]]:
        """Yield unaugmented batches in the order of `index`."""
        for start in range(0, len(index), size):
            chosen = index[start : start + size]
            yield self.facts(chosen) | {"image": as_image(torch.from_numpy(self.gather(chosen)))}

    def facts(self, index: np.ndarray) -> dict[str, Tensor]:
        """Return everything of a batch but its pixels."""
        return {"index": torch.from_numpy(index), "label": torch.from_numpy(self.label[index])}

    def seen(self, part: str) -> tuple[list[str], list[str]]:
        """Return the sorted patients and image digests of one part."""
        rows = self.rows(part)
        patients = self.table["patient"].to_numpy()[rows]
        return sorted(set(patients)), sorted({self.digest[row] for row in rows} - {""})

    def facts_for(self, index: Sequence[int] | np.ndarray) -> pd.DataFrame:
        """Return the identifying columns of rows, keyed by `index`, as predictions carry them."""
        names = ["dataset", "path", "frame", "patient", "series", "label"]
        facts: pd.DataFrame = self.table.loc[np.asarray(index), names]
        facts["label"] = self.classes.decode(self.label[np.asarray(index)])
        facts.insert(0, "index", np.asarray(index))
        return facts.reset_index(drop=True)


def as_image(pixels: Tensor) -> Tensor:
    """Turn stored integers `[B,H,W,C]` into float32 `[B,C,H,W]` in [0,1].

    The memory stays channels-last: the permutation is a view and the division keeps its strides.
    """
    top = 255.0 if pixels.dtype == torch.uint8 else 65535.0
    return pixels.permute(0, 3, 1, 2).float().div_(top)
