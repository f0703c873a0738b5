"""Label maps beside the images of a manifest, such as masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medvision.data.formats.decode import holds_frames
from medvision.data.formats.listing import count_frames
from medvision.data.formats.nifti import SUFFIXES
from medvision.data.store.facts import FileFacts
from medvision.data.store.label_reader import LabelReader
from medvision.data.store.store import Store, open_store
from medvision.errors import collect

NONE = -1  # what every pixel of an image without a label map is


@dataclass
class LabelMaps:
    """The label maps of one column, beside a store of images.

    Attributes:
        rows: of each image the row in `store`, −1 where it has none.
        store: None where no image has one.
    """

    rows: np.ndarray
    store: Store | None

    def gather(self, rows: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """Return those of some images, int16 `[B,H,W]`, −1 where there is none."""
        maps = np.full((len(rows), *size), NONE, np.int16)
        there = self.rows[rows] >= 0
        if self.store is not None and there.any():
            maps[there] = self.store.gather(self.rows[rows][there])[..., 0]
        return maps

    @property
    def unreadable(self) -> dict[int, str]:
        """Why those of some images cannot be read, by image."""
        reasons = {} if self.store is None else self.store.unreadable
        return {row: reasons[at] for row, at in enumerate(self.rows.tolist()) if at in reasons}


def open_label_maps(
    files: Sequence[str],
    frames: Sequence[int],
    images: Sequence[FileFacts | None],
    reader: LabelReader,
    *,
    on_unreadable: str,
    workers: int | None,
) -> LabelMaps:
    """Open the label maps of a column, and decode them first where that was not done.

    Args:
        files: an absolute path a row, "" = none.
        frames: of the images; a file of one label map serves all of them.
        images: what each is in its file.
        reader: of label maps.
        on_unreadable: as in `open_store`.
        workers: as in `open_store`.

    Raises:
        MedvisionError: label maps that cannot be read, or are not as large as their images.
    """
    there = np.array([bool(file) for file in files], dtype=bool)
    rows = np.where(there, np.cumsum(there) - 1, NONE)
    if not there.any():
        return LabelMaps(rows, None)
    held = np.flatnonzero(there).tolist()
    own = [Path(files[row]) for row in held]
    several = {file: _holds_several(file) for file in dict.fromkeys(own)}
    chosen = [frames[row] if several[file] else 0 for row, file in zip(held, own, strict=True)]
    store = open_store(own, chosen, reader, on_unreadable=on_unreadable, workers=workers)
    _refuse_other_sizes(own, store.natives, [images[row] for row in held])
    return LabelMaps(rows, store)


def _holds_several(file: Path) -> bool:
    """Tell a file that holds a label map an image; the slices of a volume are those of its mask."""
    if file.name.lower().endswith(SUFFIXES):
        return True
    return holds_frames(file) and count_frames(file) > 1


def _refuse_other_sizes(
    files: Sequence[Path], maps: Sequence[FileFacts | None], images: Sequence[FileFacts | None]
) -> None:
    problems = [
        f"{file} is {own.height} x {own.width} pixels and its image {image.height} x {image.width}"
        for file, own, image in zip(files, maps, images, strict=True)
        if own and image and (own.height, own.width) != (image.height, image.width)
    ]
    if problems:
        raise collect(
            f"{len(problems)} label maps do not fit", problems, "Draw or export them anew"
        )
