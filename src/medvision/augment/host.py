"""Apply what was drawn to integer images on a processor: OpenCV, one image in cache at a time."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from medvision.augment import intensity, spatial
from medvision.augment.draw import Draws

Image = NDArray[Any]
Pixels = NDArray[np.float32]

_BORDERS = {
    "background": cv2.BORDER_CONSTANT,
    "nearest": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT,
}
# OpenCV interpolates these numbers of channels in floating point, others on a grid of 1/32 pixel.
_EXACT_CHANNELS = (1, 3, 4)


def augment(images: Image, draws: Draws, out: Image | None = None) -> Image:
    """Return the batch changed as drawn.

    One image at a time becomes float, and is rounded once, at the end: the result lies within half
    a grey level of the exact one, and a floating-point warp is faster here than an integer one.

    Args:
        images: uint8 or uint16 `[B,H,W,C]`.
        draws: Of the same B and size.
        out: Where to write, of the same shape and type; may be `images` itself.
    """
    draws.check(len(images), images.shape[1:3])
    out = np.empty_like(images) if out is None else out
    if out is not images:
        out[~draws.changed] = images[~draws.changed]
    rows = np.flatnonzero(draws.changed)
    if images.shape[-1] in _EXACT_CHANNELS:
        _augment_rows(images, draws, rows, out, 0)
        return out
    for channel in range(images.shape[-1]):
        plane = np.ascontiguousarray(images[..., channel : channel + 1])
        _augment_rows(plane, draws, rows, plane, channel)
        out[rows, ..., channel] = plane[rows, ..., 0]
    return out


def move_labels(labels: Image, draws: Draws) -> Image:
    """Return label maps `[B,H,W]`, int16, moved as their images are, each pixel the nearest one."""
    draws.check(len(labels), labels.shape[1:])
    moved = labels.copy()
    if draws.matrix is not None:
        for row in np.flatnonzero(draws.changed):
            cv2.warpAffine(
                labels[row],
                draws.matrix[row],
                draws.size[::-1],
                dst=moved[row],
                flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
                borderMode=_BORDERS[draws.fill],
            )
    return moved


def move_boxes(
    boxes: NDArray[np.float32], image: NDArray[np.int64], draws: Draws
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return boxes moved as their images are, and which of them stay inside.

    Args:
        boxes: `[M,D]`; the first four numbers are x0, y0, x1, y1 from the image's outer edges.
        image: `[M]`, their places in the batch.
        draws: of the batch.
    """
    if draws.matrix is None:
        return boxes, np.ones(len(boxes), bool)
    moved, kept = spatial.move_boxes(boxes, draws.matrix[image], draws.size)
    changed = draws.changed[image]
    return np.where(changed[:, None], moved, boxes), kept | ~changed


def _augment_rows(
    images: Image, draws: Draws, rows: NDArray[np.intp], out: Image, channel: int
) -> None:
    """Change `rows` of contiguous images; `channel` is the place of their first one."""
    if images.shape[-1] == 1:
        images, out = images[..., 0], out[..., 0]
    top = float(np.iinfo(images.dtype).max)
    tables = _tables(draws) * top if images.dtype == np.uint8 else None
    background = draws.background() * top
    scratch = np.empty((2, *images.shape[1:]), np.float32)
    for row in rows:
        pixels = _lift(images[row], tables, draws, row, scratch[0])
        pixels = _move(pixels, draws, row, background[row], scratch[1])
        _add_noise(pixels, draws, row, top, channel)
        _erase(pixels, draws, row, background[row])
        _lower(pixels, out[row])


def _tables(draws: Draws) -> Pixels:
    """Return `[B,256]`: what each 8-bit grey becomes, in 0..1."""
    greys = np.linspace(0, 1, 256)[None]
    table = greys if draws.tone is None else intensity.retouch(greys, draws.tone)
    return np.broadcast_to(table, (len(draws.changed), 256)).astype(np.float32)


def _lift(image: Image, tables: Pixels | None, draws: Draws, row: int, pixels: Pixels) -> Pixels:
    """Bring one image to float, in its own grey levels, with its new tone."""
    if draws.tone is None:
        np.copyto(pixels, image)
    elif tables is not None:
        cv2.LUT(image, tables[row], dst=pixels)
    else:
        top = np.float32(np.iinfo(image.dtype).max)
        scaled: Pixels = np.divide(image[None], top, dtype=np.float32)
        tone: Pixels = draws.tone[row : row + 1].astype(np.float32)
        np.multiply(intensity.retouch(scaled, tone)[0], top, out=pixels)
    return pixels


def _move(pixels: Pixels, draws: Draws, row: int, background: float, spare: Pixels) -> Pixels:
    """Blur, then warp, each from one scratch image into the other."""
    if draws.kernel is not None:
        kernel = draws.kernel[row]
        cv2.sepFilter2D(
            pixels, cv2.CV_32F, kernel, kernel, dst=spare, borderType=cv2.BORDER_REPLICATE
        )
        pixels, spare = spare, pixels
    if draws.matrix is None:
        return pixels
    cv2.warpAffine(
        pixels,
        draws.matrix[row],
        draws.size[::-1],
        dst=spare,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=_BORDERS[draws.fill],
        borderValue=(background,) * 4,
    )
    return spare


def _add_noise(pixels: Pixels, draws: Draws, row: int, top: float, channel: int) -> None:
    if draws.noise is None:
        return
    height, width = draws.size
    std, start = draws.noise[row]
    first = int(start) + channel * height * width
    tape = intensity.noise_tape((channel + pixels.size // (height * width)) * height * width)
    noise = tape[first : first + pixels.size]
    if pixels.ndim == 3:
        noise = np.ascontiguousarray(noise.reshape(-1, height, width).transpose(1, 2, 0))
    cv2.scaleAdd(noise.reshape(pixels.shape), std * top, pixels, dst=pixels)
    np.maximum(pixels, 0, out=pixels)


def _erase(pixels: Pixels, draws: Draws, row: int, background: float) -> None:
    if draws.box is not None:
        y0, y1, x0, x1 = draws.box[row]
        pixels[y0:y1, x0:x1] = background


def _lower(pixels: Pixels, out: Image) -> None:
    """Round numbers ≥ 0 to the nearest grey level, and saturate."""
    if out.dtype == np.uint8:
        cv2.convertScaleAbs(pixels, dst=out)
    else:
        cv2.addWeighted(pixels, 1, pixels, 0, 0, dst=out, dtype=cv2.CV_16U)
