"""The corruption ladder: real images spoilt in known ways, to learn what a judge is blind to."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

FEW = 20  # images a class that a collapsed generator repeats
NOISE = 0.1  # deviation, of intensities in 0..1
BLUR = 2.0  # deviation of the Gaussian in pixels at 32 pixels a side


def corrupt(image: Tensor, label: Tensor, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the rungs but those that need other parts: name and images of the same labels.

    Args:
        image: real images `[N,C,H,W]` in [0,1].
        label: `[N]`.
        seed: of the noise.
    """
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(image.shape, generator=draw) * NOISE
    yield "noise", (image + noise).clamp(0, 1)
    yield "blur", blur(image, BLUR * image.shape[-1] / 32)
    yield "mirrored", image.flip(3)
    if len(set(label.tolist())) > 1:
        yield "one class only", image[_repeat(label, FEW, only=True)]
    yield f"{FEW} images repeated", image[_repeat(label, FEW, only=False)]


def blur(image: Tensor, deviation: float) -> Tensor:
    """Blur with a Gaussian; the border is continued."""
    reach = max(1, min(round(3 * deviation), min(image.shape[-2:]) - 1))
    places = torch.arange(-reach, reach + 1, dtype=image.dtype)
    kernel = torch.exp(-(places**2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).repeat(image.shape[1], 1, 1, 1)
    padded = functional.pad(image, (reach,) * 4, mode="replicate")
    across = functional.conv2d(padded, kernel, groups=image.shape[1])
    return functional.conv2d(across, kernel.transpose(2, 3), groups=image.shape[1])


def _repeat(label: Tensor, few: int, only: bool) -> Tensor:
    """Return rows that stand for all rows: of the commonest class only, or a few of each class."""
    rows = torch.arange(len(label))
    if only:
        own = rows[label == label.mode().values]
        return own[rows % len(own)]
    for number in set(label.tolist()):
        own = rows[label == number]
        rows[label == number] = own[torch.arange(len(own)) % few]
    return rows
