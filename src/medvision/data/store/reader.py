"""The reader: how decoded images are made alike, and the window it used for each."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard, cast

import cv2
import numpy as np
from pydicom import Dataset

from medvision.data.formats.decode import Decoded, decode, load, pixel_digest
from medvision.data.formats.dicom import view
from medvision.data.formats.images import refuse
from medvision.data.store import pixels
from medvision.data.store.pixels import cut_center, resize
from medvision.errors import MedvisionError, did_you_mean
from medvision.files import digest

Level = str | tuple[float, float]


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
        center: share of height and width that is kept, around the middle: what is looked at, such
            as a heart in its chest, then has more of the pixels.
        depth: bits of the result, 8 or 16.
        percentiles: 0..100, used by "percentile" only.

    Raises:
        MedvisionError: a setting that cannot be.
    """

    size: tuple[int, int] | int | None
    channels: int = 1
    center: float = 1.0
    fit: Literal["pad", "crop", "stretch"] = "pad"
    window: Level | tuple[str, str, str] = "full"
    depth: int = 8
    percentiles: tuple[float, float] = (0.5, 99.5)

    def __post_init__(self) -> None:
        sides = (self.size, self.size) if isinstance(self.size, int) else self.size
        # YAML has lists; tuples keep the settings hashable and comparable.
        object.__setattr__(self, "size", None if sides is None else tuple(map(int, sides)))
        if not isinstance(self.window, str):
            named = all(isinstance(part, str) for part in self.window)
            object.__setattr__(self, "window", tuple(map(str if named else float, self.window)))
        object.__setattr__(self, "percentiles", tuple(map(float, self.percentiles)))
        _check_settings(self)

    def read(self, path: Path, frame: int = 0) -> np.ndarray:
        """Decode one image and bring it to the reader's form: uint8 or uint16 `[H,W,C]`.

        Raises:
            MedvisionError: see `decode`; a preset in Hounsfield units on unsigned values.
        """
        return self.render(load(path, frame))

    def render(self, image: Decoded) -> np.ndarray:
        """Window, invert, cut, resize and set the channels of a decoded image."""
        levels = self._apply_windows(image)
        if image.header is not None and view.is_inverted(image.header):
            levels = np.asarray(2**self.depth - 1 - levels, dtype=levels.dtype)
        levels = cut_center(levels, self.center)
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

    def _apply_windows(self, image: Decoded) -> np.ndarray:
        window = self.window
        if not _are_names(window):
            return self._apply_window(image, cast(Level, window))
        if image.pixels.shape[-1] == 3:
            fault = "is a colour image, which has no windows to make channels of"
            raise refuse(image.path, fault, "choose one window, or remove it from the manifest")
        views = [window[:place].count("dicom") for place in range(3)]
        levels = [self._apply_window(image, *of) for of in zip(window, views, strict=True)]
        return np.concatenate(levels, axis=-1)

    def _apply_window(self, image: Decoded, window: Level, number: int = 0) -> np.ndarray:
        shown = _displayed(image, number) if window == "dicom" else None
        if shown is not None:
            return pixels.quantise(shown, 0, 1, self.depth)
        if window == "percentile":
            low, high = pixels.percentile_range(image.pixels, self.percentiles)
        elif not isinstance(window, str):
            low, high = window
        elif window in pixels.WINDOWS_HU:
            low, high = _preset(image, window)
        else:
            low, high = _full_range(image)
        return pixels.quantise(image.pixels, low, high, self.depth)


__all__ = ["Reader", "decode", "pixel_digest"]


def _are_names(window: object) -> TypeGuard[tuple[str, str, str]]:
    return isinstance(window, tuple) and all(isinstance(part, str) for part in window)


def _displayed(image: Decoded, number: int) -> np.ndarray | None:
    if image.header is None or image.pixels.shape[-1] == 3:  # colour has no window
        return None
    way_out = "choose a window=[low, high] yourself"
    try:
        shown = view.displayed(image.pixels, image.header, number)
    except Exception:  # a header may hold anything, and its text stays out of messages
        raise refuse(image.path, "asks for a window that cannot be applied", way_out) from None
    if shown is None and number > 0:
        fault = f"asks for no more than {number} windows"
        raise refuse(image.path, fault, "choose presets instead")
    return shown


def _full_range(image: Decoded) -> tuple[float, float]:
    low, high = pixels.full_range(image.pixels)
    if image.header is None or image.pixels.dtype.kind != "u":
        return low, high
    top = view.stored_top(image.header)
    return (low, high) if top is None or top < image.pixels.max() else (low, float(top))


def _preset(image: Decoded, name: str) -> tuple[float, float]:
    if image.pixels.dtype.kind == "u":
        fault = f"holds unsigned values, which are not Hounsfield units as window={name} needs"
        raise refuse(image.path, fault, "choose window=full, percentile or [low, high]")
    return pixels.preset(name)


def _check_settings(reader: Reader) -> None:
    """Refuse settings that cannot be, each with what can."""
    _check_window(reader)
    size = reader.size
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
    if not 0 < reader.center <= 1:
        raise MedvisionError(f"center={reader.center} cannot be; give a share above 0, at most 1")
    low, high = reader.percentiles
    if not 0 <= low < high <= 100:
        raise MedvisionError(f"percentiles=[{low}, {high}] cannot be; give 0 ≤ low < high ≤ 100")


def _check_window(reader: Reader) -> None:
    known = ["full", "percentile", "dicom", *pixels.WINDOWS_HU]
    window = reader.window
    names = (window,) if isinstance(window, str) else window if _are_names(window) else ()
    for name in names:
        if name not in known:
            allowed = f"choose one of {', '.join(known)} or [low, high]"
            raise MedvisionError(
                f"window={name!r} is unknown{did_you_mean(name, known)}; {allowed}"
            )
    if _are_names(window) and (len(window) != 3 or reader.channels != 3):
        raise MedvisionError(
            f"window=[{', '.join(window)}] are the channels of an image; "
            "give three names and channels=3"
        )
    if names:
        return
    ends = cast(tuple[float, ...], window)
    if len(ends) != 2 or ends[0] >= ends[1]:
        raise MedvisionError(f"window={[*ends]} is not a range; give [low, high], low first")


ViewLevel = str | list[float]


def find_windows(reader: Reader, image: Decoded) -> list[ViewLevel]:
    """Return [low, high] of each window as `Reader.render` applies it; one, or one a channel.

    What a DICOM header asks for need not be a range: it is told in words, see `_tell_view`.
    """
    window = (reader.window,) if isinstance(reader.window, str) else reader.window
    names = [part for part in window if isinstance(part, str)]
    if not names:
        return [[float(end) for end in window]]
    views = [names[:place].count("dicom") for place in range(len(names))]
    return [_find(reader, image, name, of) for name, of in zip(names, views, strict=True)]


def _find(reader: Reader, image: Decoded, name: str, number: int) -> ViewLevel:
    if name in pixels.WINDOWS_HU:
        return [*pixels.preset(name)]
    if name == "percentile":
        return [*pixels.percentile_range(image.pixels, reader.percentiles)]
    colour = image.pixels.shape[-1] == 3
    if name == "dicom" and image.header is not None and not colour:
        told = _tell_view(image.header, number)
        if told:
            return told
    low, high = pixels.full_range(image.pixels)
    if image.header is not None and image.pixels.dtype.kind == "u":
        top = view.stored_top(image.header)
        high = high if top is None or top < image.pixels.max() else float(top)
    return [low, high]


def _tell_view(header: Dataset, number: int) -> str:
    """Return "table 1" or "center 40, width 400" for a view of a header, "" where it has none."""
    items = header.get("VOILUTSequence") or []
    tables = sum("LUTData" in item and "LUTDescriptor" in item for item in items)
    if number < tables:
        return f"table {number + 1}"
    ends = [_listed(header.get(name)) for name in ("WindowCenter", "WindowWidth")]
    pairs = [pair for pair in zip(*ends, strict=False) if float(pair[1]) != 0]
    if number - tables >= len(pairs):
        return ""
    center, width = map(float, pairs[number - tables])
    return f"center {center:g}, width {width:g}"


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | float | int) else list(value)
