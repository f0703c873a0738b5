"""Images out of a generator, each of them reproducible alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from medvision.errors import MedvisionError
from medvision.nets.dcgan import draw_noise


@dataclass(frozen=True)
class GeneratedImages:
    """Generated images.

    Attributes:
        images: uint8 `[N,H,W,C]`.
        label: class number of each.
        index: number of each within its class.
    """

    images: np.ndarray
    label: np.ndarray
    index: np.ndarray

    def as_tensor(self) -> Tensor:
        """Return the images `[N,C,H,W]` in [0,1]."""
        return torch.from_numpy(self.images).permute(0, 3, 1, 2).float().div_(255.0)


def make_images(
    generator: nn.Module, seed: int, label: Sequence[int], index: Sequence[int]
) -> GeneratedImages:
    """Make an image of each class number and index, as 8-bit levels of [-1,1].

    One at a time and on the CPU: how many are asked for, and where, then changes no pixel.

    Raises:
        MedvisionError: the generator gives no numbers.
    """
    latent = generator.latent
    assert isinstance(latent, int)
    images, console = [], Console(stderr=True)
    pairs = track(
        zip(label, index, strict=True), "generating", len(label), console=console,
        disable=not console.is_terminal,
    )  # fmt: skip
    with torch.inference_mode():
        for pair in pairs:
            numbers = torch.tensor(pair)
            noise = draw_noise(seed, numbers[:1], numbers[1:], latent)
            images.append(as_levels(generator(noise, numbers[:1])))
    return GeneratedImages(np.concatenate(images), np.asarray(label), np.asarray(index))


def as_levels(image: Tensor) -> np.ndarray:
    """Turn `[B,C,H,W]` in [-1,1] into uint8 `[B,H,W,C]`."""
    if not image.isfinite().all():
        raise MedvisionError("the generator gives NaN or infinity; its training failed: repeat it")
    levels = ((image.float() + 1) / 2).clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().numpy()
