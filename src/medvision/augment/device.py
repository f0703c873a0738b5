"""Apply what was drawn to float images where they lie: whole batch at once, no synchronisation."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from medvision.augment import intensity, spatial
from medvision.augment.draw import Draws

_PADDINGS = {"background": "zeros", "nearest": "border", "reflect": "reflection"}


def augment(images: Tensor, draws: Draws) -> Tensor:
    """Return the batch changed as drawn, in the type of `images`.

    Args:
        images: Floating point `[B,C,H,W]` in 0..1, on any device.
        draws: Of the same B and size.
    """
    draws.check(len(images), tuple(images.shape[2:]))
    if not draws.changed.any():
        return images
    parts = _upload(draws, images.device)
    background = parts["background"][:, None]
    pixels = images.float()
    if draws.tone is not None:
        pixels = intensity.retouch(pixels, parts["tone"])
    if draws.kernel is not None:
        pixels = _blur(pixels, parts["kernel"])
    if draws.matrix is not None:
        # Sampling sees zeros outside; the background is made zero for as long as that takes.
        pixels = _warp(pixels - background, parts["matrix"], draws.fill) + background
    if draws.noise is not None:
        pixels = (pixels + _noise(parts["noise"], pixels.shape)).clip(0, 1)
    if draws.box is not None:
        pixels = torch.where(_inside(parts["box"], draws.size), background, pixels)
    changed = parts["changed"][:, None] > 0
    return torch.where(changed, pixels.to(images.dtype), images)


def move_labels(labels: Tensor, draws: Draws) -> Tensor:
    """Return label maps `[B,H,W]` moved as their images are, each pixel the nearest one."""
    draws.check(len(labels), tuple(labels.shape[1:]))
    if draws.matrix is None or not draws.changed.any():
        return labels
    parts = _upload(draws, labels.device)
    moved = _warp(labels[:, None].float(), parts["matrix"], draws.fill, "nearest")[:, 0]
    return torch.where(parts["changed"] > 0, moved.to(labels.dtype), labels)


def _upload(draws: Draws, device: torch.device) -> dict[str, Tensor]:
    """Send all numbers in one copy; each part comes out as `[B, n, 1]`, the tone as `[B, 3]`."""
    matrix = None if draws.matrix is None else spatial.unit_matrix(draws.matrix, draws.size)
    given = {
        "changed": draws.changed,
        "background": draws.background(),
        "matrix": matrix,
        "tone": draws.tone,
        "kernel": draws.kernel,
        "noise": draws.noise,
        "box": draws.box,
    }
    rows = len(draws.changed)
    flat = {key: part.reshape(rows, -1) for key, part in given.items() if part is not None}
    packed = torch.from_numpy(np.concatenate(list(flat.values()), axis=1).astype(np.float32))
    parts = torch.split(
        packed.to(device, non_blocking=True), [part.shape[1] for part in flat.values()], dim=1
    )
    return {
        key: part if key == "tone" else part[:, :, None]
        for key, part in zip(flat, parts, strict=True)
    }


def _blur(pixels: Tensor, kernel: Tensor) -> Tensor:
    """Filter rows, then columns; sums of shifted images, because a convolution may use TF32."""
    taps = kernel.shape[1]
    for dim, sides in ((3, (taps // 2, taps // 2, 0, 0)), (2, (0, 0, taps // 2, taps // 2))):
        wide, length = pad(pixels, sides, mode="replicate"), pixels.shape[dim]
        pixels = wide.narrow(dim, 0, length) * kernel[:, 0, :, None, None]
        for tap in range(1, taps):
            pixels = pixels + wide.narrow(dim, tap, length) * kernel[:, tap, :, None, None]
    return pixels


def _warp(pixels: Tensor, matrix: Tensor, fill: str, mode: str = "bilinear") -> Tensor:
    """Resample by `[B,6,1]` matrices; not `affine_grid`, whose matrix product may use TF32."""
    height, width = pixels.shape[2:]
    x = _centres(width, pixels.device)[None, None, :]
    y = _centres(height, pixels.device)[None, :, None]
    a, b, c, d, e, f = matrix[..., None].unbind(dim=1)
    grid = torch.stack([a * x + b * y + c, d * x + e * y + f], dim=-1)
    return grid_sample(pixels, grid, mode, _PADDINGS[fill], align_corners=False)


def _centres(length: int, device: torch.device) -> Tensor:
    return (2 * torch.arange(length, device=device) + 1) / length - 1


def _noise(place: Tensor, shape: torch.Size) -> Tensor:
    std, start = place.unbind(dim=1)
    pixels = shape[1:].numel()
    cuts = _tape(pixels, place.device).unfold(0, pixels, 1)
    return std[:, :, None, None] * cuts[start[:, 0].long()].view(shape)


@lru_cache(maxsize=2)
def _tape(pixels: int, device: torch.device) -> Tensor:
    return torch.from_numpy(intensity.noise_tape(pixels)).to(device)


def _inside(box: Tensor, size: tuple[int, int]) -> Tensor:
    """Tell the pixels `[B,1,H,W]` within the boxes `[B,4,1]` (y0, y1, x0, x1)."""
    y0, y1, x0, x1 = box[..., None].unbind(dim=1)
    y = torch.arange(size[0], device=box.device)[None, :, None]
    x = torch.arange(size[1], device=box.device)[None, None, :]
    return ((y >= y0) & (y < y1) & (x >= x0) & (x < x1))[:, None]
