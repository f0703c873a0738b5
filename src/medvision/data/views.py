"""Which window a reader looks at an image through, for the books."""

from typing import Any

from pydicom import Dataset

from medvision.data import windows
from medvision.data.decoding import Decoded
from medvision.data.formats import dicom_view
from medvision.data.readers import Reader

Level = str | list[float]


def find_windows(reader: Reader, image: Decoded) -> list[Level]:
    """Return [low, high] of each window as `Reader.render` applies it; one, or one a channel.

    What a DICOM header asks for need not be a range: it is told in words, see `tell_view`.
    """
    window = (reader.window,) if isinstance(reader.window, str) else reader.window
    names = [part for part in window if isinstance(part, str)]
    if not names:
        return [[float(end) for end in window]]
    views = [names[:place].count("dicom") for place in range(len(names))]
    return [_find(reader, image, name, of) for name, of in zip(names, views, strict=True)]


def _find(reader: Reader, image: Decoded, name: str, view: int) -> Level:
    if name in windows.WINDOWS_HU:
        return [*windows.preset(name)]
    if name == "percentile":
        return [*windows.percentile_range(image.pixels, reader.percentiles)]
    colour = image.pixels.shape[-1] == 3
    if name == "dicom" and image.header is not None and not colour:
        told = tell_view(image.header, view)
        if told:
            return told
    low, high = windows.full_range(image.pixels)
    if image.header is not None and image.pixels.dtype.kind == "u":
        top = dicom_view.stored_top(image.header)
        high = high if top is None or top < image.pixels.max() else float(top)
    return [low, high]


def tell_view(header: Dataset, view: int) -> str:
    """Return "table 1" or "center 40, width 400" for a view of a header, "" where it has none."""
    items = header.get("VOILUTSequence") or []
    tables = sum("LUTData" in item and "LUTDescriptor" in item for item in items)
    if view < tables:
        return f"table {view + 1}"
    ends = [_listed(header.get(name)) for name in ("WindowCenter", "WindowWidth")]
    pairs = [pair for pair in zip(*ends, strict=False) if float(pair[1]) != 0]
    if view - tables >= len(pairs):
        return ""
    center, width = map(float, pairs[view - tables])
    return f"center {center:g}, width {width:g}"


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | float | int) else list(value)
