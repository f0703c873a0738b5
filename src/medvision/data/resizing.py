"""Bring images to one size."""

import cv2
import numpy as np


def resize(levels: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    """Bring `[h,w,C]` to `[H,W,C]`: area averages when it shrinks, linear when it grows."""
    (h, w), (H, W) = levels.shape[:2], size
    scales = (H / h, W / w)
    if fit == "stretch":
        return _scale(levels, H, W)
    scale = min(scales) if fit == "pad" else max(scales)
    scaled = _scale(levels, max(1, round(h * scale)), max(1, round(w * scale)))
    if fit == "crop":
        top, left = (scaled.shape[0] - H) // 2, (scaled.shape[1] - W) // 2
        return np.ascontiguousarray(scaled[top : top + H, left : left + W])
    canvas = np.zeros((H, W, levels.shape[-1]), levels.dtype)
    top, left = (H - scaled.shape[0]) // 2, (W - scaled.shape[1]) // 2
    canvas[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return canvas


def _scale(levels: np.ndarray, H: int, W: int) -> np.ndarray:
    h, w = levels.shape[:2]
    if (h, w) == (H, W):
        return levels
    method = cv2.INTER_AREA if h >= H and w >= W else cv2.INTER_LINEAR
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
