"""What happens to grey levels: tone, blur and noise, the same for both backends."""

from functools import lru_cache
from math import ceil
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
Values = TypeVar("Values", NDArray[np.float64], NDArray[np.float32], torch.Tensor)

# Starts in the noise tape; a power of two that float32 counts exactly.
NOISE_STARTS: Final = 2**20


def retouch(values: Values, tone: Values) -> Values:
    """Apply gamma, then contrast about mid-grey, then brightness, and clip to 0..1.

    Args:
        values: `[B, ...]` in 0..1.
        tone: `[B,3]` gamma, contrast, brightness.
    """
    shape = (3, len(tone), *[1] * (values.ndim - 1))
    gamma, contrast, brightness = tone.T.reshape(shape)
    toned: Values = ((values**gamma - 0.5) * contrast + (0.5 + brightness)).clip(0, 1)
    return toned


def blur_kernels(unit: Array, blur: float) -> Array:
    """Return `[B,T]` Gaussian weights, sigma up to `blur` pixels; T is the same for all."""
    radius = ceil(3 * blur)
    sigma = np.maximum(blur * unit, 1e-3)[:, None]
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def noise_place(unit: dict[str, Array], noise: float) -> Array:
    """Return `[B,2]`: standard deviation up to `noise`, and where in the tape it starts."""
    return np.stack([noise * unit["noise"], np.floor(NOISE_STARTS * unit["noise_offset"])], axis=1)


@lru_cache(maxsize=2)
def noise_tape(pixels: int) -> NDArray[np.float32]:
    """Return fixed white Gaussian noise to cut images of `pixels` values from, `[C,H,W]` order.

    Cutting costs a copy where fresh noise would cost more than all other changes together, and
    both backends cut the same values. A longer tape begins with the shorter one.
    """
    stream = np.random.Generator(np.random.Philox(key=0))
    return stream.standard_normal(NOISE_STARTS + pixels, dtype=np.float32)
