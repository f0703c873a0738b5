"""Windows: which grey values, at full depth, become black and white."""

from collections.abc import Sequence

import cv2
import numpy as np

# Level and width in Hounsfield units, as set on workstations (Radiopaedia, "Windowing (CT)").
WINDOWS_HU: dict[str, tuple[int, int]] = {
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "soft_tissue": (40, 400),
    "abdomen": (50, 400),
    "liver": (30, 150),
    "bone": (400, 1800),
    "brain": (40, 80),
    "stroke": (40, 40),
    "subdural": (75, 215),
    "angio": (300, 600),
}


def preset(name: str) -> tuple[float, float]:
    """Return the lowest and highest Hounsfield unit a preset shows."""
    level, width = WINDOWS_HU[name]
    return level - width / 2, level + width / 2


def full_range(pixels: np.ndarray) -> tuple[float, float]:
    """Return the range of the type for unsigned 8 and 16 bits, else that of this image."""
    if pixels.dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(pixels.dtype).max)
    return float(pixels.min()), float(pixels.max())


def percentile_range(pixels: np.ndarray, percentiles: Sequence[float]) -> tuple[float, float]:
    """Return the grey values at two percentiles (0..100) of this image."""
    low, high = np.percentile(pixels, percentiles)
    return float(low), float(high)


def quantise(pixels: np.ndarray, low: float, high: float, depth: int) -> np.ndarray:
    """Map [low, high] linearly onto 0..2^depth-1, clipped, rounded to the nearest level.

    An image without contrast (low = high) becomes 0 up to `low` and full above.
    """
    top = 2**depth - 1
    kind = np.uint8 if depth == 8 else np.uint16
    if pixels.dtype == kind and (low, high) == (0, top):
        return pixels
    if pixels.dtype == np.uint8:
        table = quantise(np.arange(256, dtype=np.uint16), low, high, depth)
        # cv2.LUT drops an axis of one channel.
        return np.asarray(table[pixels] if depth == 16 else cv2.LUT(pixels, table)).reshape(
            pixels.shape
        )
    # float32 is exact for 16 bits; 32-bit integers need more.
    exact = np.float64 if pixels.dtype == np.int32 else np.float32
    steepest = float(np.finfo(np.float32).max)
    slope = min(top / (high - low), steepest) if high > low else steepest
    with np.errstate(over="ignore"):  # what overflows lies outside the window and is clipped
        levels = np.subtract(pixels, low, dtype=exact)
        levels *= exact(slope)
    np.clip(levels, 0, top, out=levels)
    return np.asarray(np.rint(levels, out=levels), dtype=kind)
