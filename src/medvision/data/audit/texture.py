"""The structure of an image at 64 x 64: what is left of it whatever its brightness, and a frame."""

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 64
_FINE, _COARSE = 1.0, 2.5  # widths of two blurs; their difference is what is looked at
_EVEN = 0.05  # of an image's range: a frame is of one value up to this
_STEP = 0.1  # of the range: where a frame ends, the picture begins at once
_WIDEST = 8  # a frame is at most an eighth of a side
_FLAT = 0.1  # of the mean: below, there is nothing, as beside a body

Texture = NDArray[np.int8]


def draw_texture(grey: np.ndarray) -> Texture:
    """Describe an image `[H,W]` of values from 0 to 1: int8 `[64,64]`, all 0 where it is plain.

    Each value is the difference of two blurs, in units of its own median, and squashed: neither
    contrast nor a bright letter outweighs the rest. A mirrored or turned image has a mirrored or
    turned texture.
    """
    small = cv2.resize(_leave_out_frame(grey), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    detail = _blur(small, _FINE) - _blur(small, _COARSE)
    strength = np.abs(detail)
    told = strength[strength > _FLAT * strength.mean()]
    if not len(told):
        return np.zeros((SIDE, SIDE), np.int8)
    squashed = detail / np.sqrt(detail**2 + np.median(told) ** 2)
    return np.asarray(np.round(squashed * np.iinfo(np.int8).max), dtype=np.int8)


def _blur(image: np.ndarray, width: float) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), width, borderType=cv2.BORDER_REFLECT))


def _leave_out_frame(grey: np.ndarray) -> np.ndarray:
    high = grey[_measure_frame(grey) : len(grey) - _measure_frame(grey[::-1])]
    wide = high.T
    return wide[_measure_frame(wide) : len(wide) - _measure_frame(wide[::-1])].T


def _measure_frame(grey: np.ndarray) -> int:
    """Return how many rows a frame has, from the first on; a background that fades is none."""
    apart = np.abs(grey[: len(grey) // _WIDEST + 4] - np.median(grey[0]))
    inside = np.flatnonzero(apart.max(axis=1) > _EVEN)
    rows = int(inside[0]) if len(inside) else 0
    ends_at_once = apart[rows : rows + 3].mean(axis=1).max() >= _STEP
    return rows if 0 < rows <= len(grey) // _WIDEST and ends_at_once else 0
