"""Images on their way to a net, decoded in threads a little ahead of it and never stored."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medvision.data.arrays import SUFFIXES as ARRAYS
from medvision.data.decoding import Decoded, load_frames
from medvision.data.filling import Filling, find_shape
from medvision.data.readers import Reader
from medvision.data.samples import as_image
from medvision.errors import MedvisionError, collect

AHEAD = 256  # images decoded before they are asked for: what bounds the memory


def read_batches(
    paths: Sequence[Path],
    frames: Sequence[int],
    reader: Reader,
    batch_size: int,
    reasons: dict[int, str],
    stop: bool,
) -> Iterator[Tensor]:
    """Yield all images as batches `[B,C,H,W]` in [0,1]; unreadable ones are black.

    Args:
        paths: rows of one file stand together.
        frames: of each row.
        reader: the model's own.
        batch_size: of all batches but the last.
        reasons: filled with why a row cannot be read.
        stop: from the first fault on only look for more of them, and end with all in one error.
    """
    shape = find_shape(Filling(paths, frames, reader, progress=False))[1:]
    black = np.zeros(shape, np.uint8 if reader.depth == 8 else np.uint16)
    results, first = read_ahead(paths, frames, reader), 0
    while batch := list(islice(results, batch_size)):
        pixels = np.stack([black] * len(batch))
        for k, result in enumerate(batch):
            fault = find_fault(paths[first + k], result, shape)
            if fault:
                reasons.setdefault(first + k, fault)
            else:
                pixels[k] = result
        first += len(batch)
        if not (stop and reasons):
            yield as_image(torch.from_numpy(pixels))
    if stop and reasons:
        way_out = "Mend or remove these files, or leave them out with on_unreadable=exclude"
        raise refuse_unreadable(reasons, len(paths), way_out)


def find_fault(
    path: Path, result: np.ndarray | MedvisionError, shape: tuple[int, ...]
) -> str | None:
    """Say why an image cannot stand in a batch of this shape `[H,W,C]`, or None."""
    if isinstance(result, MedvisionError):
        return str(result)
    if result.shape == shape:
        return None
    sides = " and the first image ".join(f"{H} x {W}" for H, W, _ in (result.shape, shape))
    return f"{path} is {sides}, bring them to one size"


def refuse_unreadable(reasons: Mapping[int, str], total: int, way_out: str) -> MedvisionError:
    """Name the first unreadable images and count the rest."""
    what = f"cannot read {len(reasons)} of {total} images"
    return collect(what, [reasons[row] for row in sorted(reasons)], way_out)


def read_ahead(
    paths: Sequence[Path], frames: Sequence[int], reader: Reader
) -> Iterator[np.ndarray | MedvisionError]:
    """Read images in threads, a little ahead of who asks, in their order."""
    with ThreadPoolExecutor() as pool:
        coming: deque[Future[np.ndarray | MedvisionError]] = deque()
        for future in submit(pool, paths, frames, reader):
            coming.append(future)
            if len(coming) > AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def submit(
    pool: ThreadPoolExecutor, paths: Sequence[Path], frames: Sequence[int], reader: Reader
) -> Iterator[Future[np.ndarray | MedvisionError]]:
    """Hand out the reading as it is asked for; an array file is opened once for all its frames."""
    for path, group in groupby(zip(paths, frames, strict=True), key=lambda row: row[0]):
        numbers = [frame for _, frame in group]
        if path.suffix.lower() in ARRAYS:
            for image in load_frames(path, numbers):
                yield pool.submit(render, reader, image)
        else:
            for frame in numbers:
                yield pool.submit(read, reader, path, frame)


def read(reader: Reader, path: Path, frame: int) -> np.ndarray | MedvisionError:
    """Read one image, or return why that fails."""
    (image,) = load_frames(path, [frame])
    return render(reader, image)


def render(reader: Reader, image: Decoded | MedvisionError) -> np.ndarray | MedvisionError:
    """Bring a decoded image to the model's form, or return why that fails."""
    if isinstance(image, MedvisionError):
        return image
    try:
        return reader.render(image)
    except MedvisionError as error:
        return error
