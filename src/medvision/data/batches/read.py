"""The rows of a manifest with their decoded pixels."""

from collections.abc import Collection
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from medvision.data.audit.scanned import find_changed, recall_facts
from medvision.data.batches.label_maps import LabelMaps, open_label_maps
from medvision.data.manifest.manifest import Manifest
from medvision.data.store.fill import Images
from medvision.data.store.label_reader import LabelReader
from medvision.data.store.reader import Reader
from medvision.data.store.store import Store, open_store
from medvision.data.units.unit import Unit
from medvision.target import is_among

OnUnreadable = Literal["stop", "exclude"]


class DecodedRows(NamedTuple):
    """Rows that could be read, under their row of `store`, and their manifest's digest.

    Attributes:
        maps: column → label maps, of a target that has files.
        changed: how many images are not those that their manifest was made of.
    """

    table: pd.DataFrame
    store: Store
    manifest: str
    maps: dict[str, LabelMaps]
    changed: int = 0

    @property
    def notes(self) -> list[str]:
        """What a reader of scores should know of the files."""
        if not self.changed:
            return []
        return [
            f"the pixels of {self.changed} of {len(self.store.digests)} images are not those that "
            "`medvision prepare` saw: copies, findings and splits were told from others; prepare "
            "again"
        ]

    @property
    def unreadable(self) -> dict[int, str]:
        """Why some rows of the store cannot be used."""
        reasons = [each.unreadable for each in self.maps.values()]
        return dict(item for some in (*reasons, self.store.unreadable) for item in some.items())

    @property
    def digest(self) -> np.ndarray:
        """Return the pixel digests; "" where all pixels are one value, which is no copy."""
        digests, natives = self.store.digests, self.store.natives
        told = ["" if n and n.low == n.high else d for d, n in zip(digests, natives, strict=True)]
        return np.asarray(np.array(told, dtype=object)[self.table.index])

    def where(self, number: int) -> np.ndarray:
        """Return `[N,2]`: the store's number and the row in it."""
        rows = self.table.index.to_numpy()
        return np.stack([np.full(len(rows), number), rows], axis=1)


def decode_rows(
    manifest: Manifest,
    reader: Reader,
    on_unreadable: OnUnreadable,
    workers: int | None = None,
    files: Collection[str] = (),
) -> DecodedRows:
    """Open the store of a manifest, and of its columns `files`; paths become absolute."""
    paths, frames = manifest.files(), manifest.table["frame"].tolist()
    table, folder = manifest.table.copy(), manifest.path.parent
    store = open_store(
        paths, frames, reader, on_unreadable=on_unreadable, workers=workers,
        describe=partial(recall_facts, folder),
    )  # fmt: skip
    for name in manifest.file_columns:
        table[name] = [str(folder / place) if place else "" for place in table[name]]
    maps = {
        name: open_label_maps(
            table[name].tolist(), frames, store.natives, LabelReader.beside(reader),
            on_unreadable=on_unreadable, workers=workers,
        )
        for name in manifest.file_columns if is_among(name, files)
    }  # fmt: skip
    changed = find_changed(folder, Images.find(paths, frames), store.digests)
    read = DecodedRows(table, store, manifest.digest, maps, len(changed))
    return read._replace(table=table.drop(index=list(read.unreadable)))


def keep_whole(
    read: DecodedRows, unit: Unit, whole: pd.DataFrame
) -> tuple[DecodedRows, Unit, list[str]]:
    """Leave out rows that make no whole sample; `whole` has the unreadable ones as well."""
    table, unit, notes = unit.keep_whole(read.table, whole, read.store.natives)
    return read._replace(table=table), unit, notes
