"""Stored DICOM values: the bits that count, padding, and the way to modality units."""

import numpy as np
from pydicom import Dataset

from medvision.data.formats.dicom_tables import look_up


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
