"""Windows and resizing: pixels on their way into the store."""

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


def resize(
    levels: np.ndarray, size: tuple[int, int], fit: str, *, nearest: bool = False
) -> np.ndarray:
    """Bring `[h,w,C]` to `[H,W,C]`: area averages when it shrinks, linear when it grows.

    Args:
        levels: pixels.
        size: `[H,W]`.
        fit: as in `Reader`.
        nearest: each pixel is the nearest one instead.
    """
    (H, W), (scaled_size, top, left) = size, place((levels.shape[0], levels.shape[1]), size, fit)
    scaled = _scale(levels, *scaled_size, nearest)
    if fit == "stretch":
        return scaled
    if fit == "crop":
        return np.ascontiguousarray(scaled[-top : H - top, -left : W - left])
    canvas = np.zeros((H, W, levels.shape[-1]), levels.dtype)
    canvas[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return canvas


def place(
    size: tuple[int, int], within: tuple[int, int], fit: str
) -> tuple[tuple[int, int], int, int]:
    """Return the size an image is scaled to, and the row and column where it begins then."""
    (h, w), (H, W) = size, within
    if fit == "stretch":
        return within, 0, 0
    scale = (min if fit == "pad" else max)(H / h, W / w)
    scaled = max(1, round(h * scale)), max(1, round(w * scale))
    if fit == "crop":
        return scaled, -((scaled[0] - H) // 2), -((scaled[1] - W) // 2)
    return scaled, (H - scaled[0]) // 2, (W - scaled[1]) // 2


def _scale(levels: np.ndarray, H: int, W: int, nearest: bool) -> np.ndarray:
    h, w = levels.shape[:2]
    if (h, w) == (H, W):
        return levels
    method = cv2.INTER_AREA if h >= H and w >= W else cv2.INTER_LINEAR
    if nearest:
        method = cv2.INTER_NEAREST_EXACT
    return np.asarray(cv2.resize(levels, (W, H), interpolation=method)).reshape(H, W, -1)


def cut_center(levels: np.ndarray, share: float) -> np.ndarray:
    """Keep this share of height and width of `[H,W,C]`, around the middle."""
    if share == 1:
        return levels
    H, W = levels.shape[:2]
    h, w = cut_sides((H, W), share)
    top, left = (H - h) // 2, (W - w) // 2
    return np.ascontiguousarray(levels[top : top + h, left : left + w])


def cut_sides(size: tuple[int, int], share: float) -> tuple[int, int]:
    """Return the height and width that `cut_center` leaves, at least one pixel each."""
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))
