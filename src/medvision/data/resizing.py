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
