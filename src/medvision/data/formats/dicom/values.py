"""Stored DICOM values: the bits that count, padding, modality and palette tables."""

import numpy as np
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut


def take_bits(raw: np.ndarray, header: Dataset) -> np.ndarray:
    """Keep the stored bits of each word, sign-extended; overlays and junk beside them fall away.

    Reference: DICOM PS3.5 8.1.1, and its retired HighBit above BitsStored - 1.
    """
    allocated, stored = raw.dtype.itemsize * 8, int(header.BitsStored)
    high = int(header.get("HighBit") or 0)
    if not stored <= high + 1 <= allocated:
        high = stored - 1
    raised = np.left_shift(raw, allocated - 1 - high)
    return np.asarray(np.right_shift(raised, allocated - stored))


def find_padding(raw: np.ndarray, stored: np.ndarray, header: Dataset) -> np.ndarray | None:
    """Mark the pixels that PixelPaddingValue, or the range to its limit, says are no measurement.

    A padding value that the stored bits cannot hold is looked for in the whole words.

    Reference: DICOM PS3.3 C.7.5.1.1.2.
    """
    value = header.get("PixelPaddingValue")
    if value is None or value == "":
        return None
    limit = header.get("PixelPaddingRangeLimit")
    ends = [_as_stored(end, raw.dtype) for end in (value, value if limit in (None, "") else limit)]
    bits, signed = int(header.BitsStored), raw.dtype.kind == "i"
    lowest, highest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    searched = stored if all(lowest <= end <= highest for end in ends) else raw
    return np.asarray((searched >= min(ends)) & (searched <= max(ends)))


def _as_stored(value: int, kind: np.dtype) -> int:
    """Read a value as a word of the pixels: a signed one may have come as unsigned, or back."""
    bits = int(kind.itemsize) * 8
    word: int = int(value) % 2**bits
    wraps = kind.kind == "i" and word >= 2 ** (bits - 1)
    return int(word - 2**bits) if wraps else word


def to_units(stored: np.ndarray, header: Dataset) -> np.ndarray:
    """Apply the modality table or the rescale; float32 after a rescale, else integers.

    Raises:
        ValueError: a slope of 0, which would make all pixels equal.

    Reference: DICOM PS3.3 C.11.1.1.
    """
    tables = header.get("ModalityLUTSequence")
    if tables:
        return look_up(stored, header, tables[0])
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    if slope in (None, "") and intercept in (None, ""):
        return stored.astype(np.float32) if stored.dtype.kind == "f" else stored
    factor = 1.0 if slope in (None, "") else float(slope)
    if factor == 0:
        raise ValueError("a rescale slope of 0 makes all pixels equal")
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is refused later
        return (stored.astype(np.float64) * factor + float(intercept or 0)).astype(np.float32)


def fill_padding(units: np.ndarray, padding: np.ndarray | None, inverted: bool) -> np.ndarray:
    """Give padded pixels the value of the image that is shown darkest: they are background."""
    if padding is None or not padding.any() or padding.all():
        return units
    real = units[~padding]
    units[padding] = real.max() if inverted else real.min()
    return units


_COLOURS = ("Red", "Green", "Blue")


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
    tables = [header[f"{colour}PaletteColorLookupTableData"].value for colour in _COLOURS]
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
