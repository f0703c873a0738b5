"""The reader: how decoded images are made alike before they are stored."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from medvision.data import dicom, windows
from medvision.data.decoding import Decoded, decode, load, pixel_digest
from medvision.data.images import refuse
from medvision.data.resizing import resize
from medvision.errors import MedvisionError, did_you_mean
from medvision.files import digest

__all__ = ["Reader", "decode", "pixel_digest"]


@dataclass(frozen=True)
class Reader:
    """How images are made alike before they are stored.

    Attributes:
        size: `[H,W]`, or one number for both; None keeps images as they are (all must agree).
        channels: 1 or 3. Colour becomes luminance; grey is repeated.
        fit: keep the aspect and fill with black ("pad"), keep it and cut ("crop"), or "stretch".
        window: which values become black and white. "full": the range of the type for unsigned 8
            and 16 bits (8 bits stay as they are), else lowest to highest of each image.
            "percentile": two percentiles of each image. "dicom": the first window or table of the
            DICOM header, "full" without one. A preset in Hounsfield units (lung, brain, …), or
            [low, high] in the units of the file. MONOCHROME1 is inverted after it.
        depth: bits of the result, 8 or 16.
        percentiles: 0..100, used by "percentile" only.

    Raises:
        MedvisionError: a setting that cannot be.
    """

    size: tuple[int, int] | int | None
    channels: int = 1
    fit: Literal["pad", "crop", "stretch"] = "pad"
    window: str | tuple[float, float] = "full"
    depth: int = 8
    percentiles: tuple[float, float] = (0.5, 99.5)

    def __post_init__(self) -> None:
        sides = (self.size, self.size) if isinstance(self.size, int) else self.size
        # YAML has lists; tuples keep the settings hashable and comparable.
        object.__setattr__(self, "size", None if sides is None else tuple(map(int, sides)))
        if not isinstance(self.window, str):
            object.__setattr__(self, "window", tuple(map(float, self.window)))
        object.__setattr__(self, "percentiles", tuple(map(float, self.percentiles)))
        _check_settings(self)

    def read(self, path: Path, frame: int = 0) -> np.ndarray:
        """Decode one image and bring it to the reader's form: uint8 or uint16 `[H,W,C]`.

        Raises:
            MedvisionError: see `decode`; a preset in Hounsfield units on unsigned values.
        """
        return self.render(load(path, frame))

    def render(self, image: Decoded) -> np.ndarray:
        """Window, invert, resize and set the channels of a decoded image."""
        levels = self._apply_window(image)
        if image.header is not None and dicom.is_inverted(image.header):
            levels = np.asarray(2**self.depth - 1 - levels, dtype=levels.dtype)
        if self.channels == 1 and levels.shape[-1] == 3:
            levels = cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY)[..., None]
        if isinstance(self.size, tuple) and levels.shape[:2] != self.size:
            levels = resize(levels, self.size, self.fit)
        return levels if levels.shape[-1] == self.channels else np.repeat(levels, 3, axis=-1)

    def contract(self) -> dict[str, Any]:
        """Return the settings as plain types, for `model.pt` and the key of a store."""
        fields = asdict(self)
        return {key: [*v] if isinstance(v, tuple) else v for key, v in fields.items()}

    @classmethod
    def from_contract(cls, contract: Mapping[str, Any]) -> "Reader":
        """Build the reader whose `contract` this is."""
        return cls(**contract)

    def digest(self) -> str:
        """Return a digest that changes with any setting."""
        return digest(json.dumps(self.contract(), sort_keys=True))

    def _apply_window(self, image: Decoded) -> np.ndarray:
        pixels = image.pixels
        shown = _displayed(image) if self.window == "dicom" else None
        if shown is not None:
            return windows.quantise(shown, 0, 1, self.depth)
        if self.window == "percentile":
            low, high = windows.percentile_range(pixels, self.percentiles)
        elif not isinstance(self.window, str):
            low, high = self.window
        elif self.window in windows.WINDOWS_HU:
            low, high = _preset(image, self.window)
        else:
            low, high = windows.full_range(pixels)
        return windows.quantise(pixels, low, high, self.depth)


def _displayed(image: Decoded) -> np.ndarray | None:
    if image.header is None or image.pixels.shape[-1] == 3:  # colour has no window
        return None
    try:
        return dicom.displayed(image.pixels, image.header)
    except Exception as error:  # a header may hold anything
        fault = f"asks for a window that cannot be applied ({error})"
        raise refuse(image.path, fault, "choose a window=[low, high] yourself") from error


def _preset(image: Decoded, name: str) -> tuple[float, float]:
    if image.pixels.dtype.kind == "u":
        fault = f"holds unsigned values, which are not Hounsfield units as window={name} needs"
        raise refuse(image.path, fault, "choose window=full, percentile or [low, high]")
    return windows.preset(name)


def _check_settings(reader: Reader) -> None:
    """Refuse settings that cannot be, each with what can."""
    known = ["full", "percentile", "dicom", *windows.WINDOWS_HU]
    window, size = reader.window, reader.size
    if isinstance(window, str) and window not in known:
        allowed = f"choose one of {', '.join(known)} or [low, high]"
        raise MedvisionError(
            f"window={window!r} is unknown{did_you_mean(window, known)}; {allowed}"
        )
    if not isinstance(window, str) and (len(window) != 2 or window[0] >= window[1]):
        raise MedvisionError(f"window={[*window]} is not a range; give [low, high], low first")
    if isinstance(size, tuple) and (len(size) != 2 or min(size) < 2):
        raise MedvisionError(f"size={[*size]} is not a size; give [H, W], each at least 2, or null")
    for key, choices in (
        ("channels", (1, 3)),
        ("depth", (8, 16)),
        ("fit", ("pad", "crop", "stretch")),
    ):
        value = getattr(reader, key)
        if value not in choices:
            allowed = " or ".join(map(str, choices))
            raise MedvisionError(f"{key}={value} cannot be; choose {allowed}")
    low, high = reader.percentiles
    if not 0 <= low < high <= 100:
        raise MedvisionError(f"percentiles=[{low}, {high}] cannot be; give 0 ≤ low < high ≤ 100")
