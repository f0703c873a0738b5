"""Look-up tables of DICOM headers: modality, VOI and palette tables share one form."""

import numpy as np
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

COLOURS = ("Red", "Green", "Blue")


def look_up(values: np.ndarray, header: Dataset, item: Dataset) -> np.ndarray:
    """Map values through the LUT Descriptor and LUT Data of `item`, uint8 or uint16.

    What lies outside the table takes its first or last entry.

    Raises:
        ValueError: the table is shorter than its descriptor says.

    Reference: DICOM PS3.3 C.11.1.1 and C.11.2.1.1.
    """
    count, first, bits = _describe(item["LUTDescriptor"].value)
    # A writer that knows one type for all descriptors stores -1024 as 64512.
    if first > 32767 and _reaches_below_zero(header):
        first -= 65536
    entries = _entries(item["LUTData"].value, count, bits, _is_little(header))
    return np.asarray(entries[_indices(values, first, count)])


def table_top(item: Dataset) -> int:
    """Return the highest value the entries of a table can have."""
    bits = _describe(item["LUTDescriptor"].value)[2]
    return int(2**bits - 1)


def look_up_palette(stored: np.ndarray, header: Dataset) -> np.ndarray:
    """Map stored values to `[H,W,3]` RGB, uint8 or uint16.

    Raises:
        ValueError: the table is shorter than its descriptor says.

    Reference: DICOM PS3.3 C.7.6.3.1.5 and C.7.9 (segmented tables).
    """
    count, first, bits = _describe(header["RedPaletteColorLookupTableDescriptor"].value)
    if "RedPaletteColorLookupTableData" not in header:
        # Clipped here, because pydicom's index wraps where its table has 8 bits.
        inside = np.clip(stored.astype(np.int32), first, first + count - 1)
        return apply_color_lut(inside, header)[..., :3]
    little = _is_little(header)
    tables = [header[f"{colour}PaletteColorLookupTableData"].value for colour in COLOURS]
    indices = _indices(stored, first, count)
    return np.stack([_entries(data, count, bits, little)[indices] for data in tables], axis=-1)


def _describe(descriptor: list[int]) -> tuple[int, int, int]:
    """Return number of entries, first value mapped and bits of an entry."""
    count, first, bits = (int(value) for value in descriptor)
    if not 8 <= bits <= 16:
        raise ValueError("a table has entries of 8 to 16 bits")
    return count % 65536 or 65536, first, bits


def _entries(data: object, count: int, bits: int, little: bool) -> np.ndarray:
    """Read table data; entries of 8 bits come one to a byte, or one to a word of 16 bits."""
    words = "<u2" if little else ">u2"
    if not isinstance(data, bytes):
        listed = data if isinstance(data, int) else list(data)  # type: ignore[call-overload]
        data = (np.atleast_1d(listed) & 0xFFFF).astype(words).tobytes()
    kind = np.uint8 if bits == 8 else np.uint16
    if len(data) >= 2 * count:
        return np.frombuffer(data, words, count).astype(kind)
    if bits > 8:
        raise ValueError("the table is shorter than its descriptor says")
    if not little:  # 8-bit entries, packed in pairs into words that are swapped
        data = np.frombuffer(data, words).astype("<u2").tobytes()
    return np.frombuffer(data, np.uint8, count)


def _indices(values: np.ndarray, first: int, count: int) -> np.ndarray:
    exact = values if values.dtype.kind in "iu" else np.rint(values)
    return np.asarray(np.clip(exact.astype(np.int64) - first, 0, count - 1))


def _is_little(header: Dataset) -> bool:
    return header.original_encoding[1] is not False  # a header made in memory has no encoding


def _reaches_below_zero(header: Dataset) -> bool:
    return header.get("PixelRepresentation") == 1 or float(header.get("RescaleIntercept") or 0) < 0
