"""How what is drawn on images is made alike as they are: label maps, and boxes."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medvision.data.formats.decode import Decoded
from medvision.data.formats.images import refuse
from medvision.data.store.pixels import cut_center, cut_sides, place, resize
from medvision.data.store.reader import Reader
from medvision.files import digest

HIGHEST = 2**15 - 1


@dataclass(frozen=True)
class LabelReader:
    """Brings label maps and boxes to where a reader brings the images beneath them.

    Attributes:
        size, center, fit: as in `Reader`.
    """

    size: tuple[int, int] | None
    center: float
    fit: str
    channels: int = 1
    depth: int = 16

    @classmethod
    def beside(cls, reader: Reader) -> "LabelReader":
        """Build what goes with a reader of images."""
        size = reader.size if isinstance(reader.size, tuple) else None
        return cls(size, reader.center, reader.fit)

    def render(self, image: Decoded) -> np.ndarray:
        """Cut and resize a label map, each pixel the nearest one: uint16 `[H,W,1]`.

        Raises:
            MedvisionError: colours, or values that are no whole numbers from 0 to `HIGHEST`.
        """
        pixels = image.pixels
        if pixels.shape[-1] != 1:
            raise refuse(image.path, "is a colour image and no label map", "number its structures")
        labels = np.rint(pixels).astype(np.int64)
        if (labels != pixels).any() or labels.min() < 0 or labels.max() > HIGHEST:
            fault = f"holds {pixels.min():g} to {pixels.max():g} and is no label map"
            raise refuse(image.path, fault, f"number its structures from 0 to {HIGHEST}")
        kept = cut_center(labels.astype(np.uint16), self.center)
        if self.size is None or kept.shape[:2] == self.size:
            return kept
        return resize(kept, self.size, self.fit, nearest=True)

    def move(self, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Move boxes `[M,D]` from pixels of files of `sizes` `[M,2]` to those of the images."""
        moved = boxes.astype(np.float32)
        for height, width in {(int(h), int(w)) for h, w in sizes}:
            own = (sizes == (height, width)).all(axis=1)
            h, w = cut_sides((height, width), self.center)
            scaled, top, left = ((h, w), 0, 0) if self.size is None else place(
                (h, w), self.size, self.fit
            )  # fmt: skip
            for axis, start, side, length, shift in (
                (0, (width - w) // 2, w, scaled[1], left),
                (1, (height - h) // 2, h, scaled[0], top),
            ):
                edges = moved[own, axis:4:2]
                moved[own, axis:4:2] = (edges - start) * (length / side) + shift
        return moved

    def contract(self) -> dict[str, Any]:
        """Return the settings as plain types."""
        return asdict(self)

    def digest(self) -> str:
        """Return a digest that changes with any setting."""
        return digest("label map", json.dumps(self.contract(), sort_keys=True))
