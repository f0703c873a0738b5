"""What an image is recognised by, whatever its size, type or range of values."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from medvision.data.audit.texture import Texture, draw_texture

SMALLEST = 64  # pixels a side; below, images of one kind differ too little
SIDE = 32

Thumbnail = NDArray[np.float16]


class Descriptor(NamedTuple):
    """What an image is recognised by.

    Attributes:
        thumbnail: float16 `[32 * 32]`, mean 0, length 1; whatever its brightness and contrast.
        texture: int8 `[64,64]`, all 0 where it is plain.
    """

    thumbnail: Thumbnail
    texture: Texture


def describe_look(pixels: np.ndarray) -> Descriptor | None:
    """Describe an image `[H,W,C]`.

    Returns:
        None for images of less than 64 pixels a side, or of one value.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if min(pixels.shape[:2]) < SMALLEST or low == high:
        return None
    grey = pixels[..., 0] if pixels.shape[-1] == 1 else pixels.mean(axis=-1)
    unit = ((grey.astype(np.float64) - low) / (high - low)).astype(np.float32)
    small = cv2.resize(unit, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return Descriptor((small / length).astype(np.float16), draw_texture(unit)) if length else None
