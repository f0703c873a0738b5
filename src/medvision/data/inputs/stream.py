"""Images on their way to a net, decoded in threads a little ahead of it and never stored."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medvision.data.formats.decode import Decoded, pixel_digest
from medvision.data.inputs.profile import Mismatch, refuse_unlike_training
from medvision.data.store.facts import FileFacts, read_facts
from medvision.data.store.parallel import decode_all
from medvision.data.store.reader import Reader, ViewLevel, find_windows
from medvision.errors import MedvisionError, collect
from medvision.target import Array

WAY_OUT = "Mend or remove these files, or leave them out with on_unreadable=exclude"


class InputFacts(NamedTuple):
    """What is known of an image that was read: its file's own, its pixels' digest, its windows."""

    native: FileFacts
    digest: str
    windows: list[ViewLevel]


class ReadImage(NamedTuple):
    """An image in the model's form, `[H,W,C]`, and what is known of it."""

    levels: np.ndarray
    taken: InputFacts


@dataclass
class InputMonitor:
    """Looks at images while they are read, row by row.

    Attributes:
        find: what is foreign in an image.
        stop: whether that ends in an error.
        names: the row's file, for that error.
        taken: what is known of each image that could be read.
        foreign: of each image in which something is.
    """

    find: Callable[[FileFacts], list[Mismatch]]
    stop: bool
    names: Callable[[int], object]
    taken: dict[int, InputFacts] = field(default_factory=dict)
    foreign: dict[int, list[Mismatch]] = field(default_factory=dict)

    def note(self, row: int, taken: InputFacts) -> None:
        """Write down what was read."""
        self.taken[row] = taken
        if oddities := self.find(taken.native):
            self.foreign[row] = oddities

    @property
    def refuses(self) -> bool:
        return self.stop and bool(self.foreign)


def read_batches(
    paths: Sequence[Path],
    frames: Sequence[int],
    reader: Reader,
    sizes: Iterable[int],
    reasons: dict[int, str],
    stop: bool,
    monitors: Sequence[InputMonitor] = (),
) -> Iterator[Array]:
    """Yield all images in the model's form, some `[N,H,W,C]` at once; unreadable ones are black.

    Args:
        paths: rows of one file stand together.
        frames: of each row.
        reader: the model's own.
        sizes: how many rows at once, each time.
        reasons: filled with why a row cannot be read.
        stop: from the first fault on only look for more of them, and end with all in one error.
        monitors: look at what can be read; what one refuses is such a fault.

    Raises:
        MedvisionError: where `stop` or a monitor says so.
    """
    shape, results = _find_shape(reader, _read_ahead(paths, frames, reader))
    black, first = np.zeros(shape, np.uint8 if reader.depth == 8 else np.uint16), 0
    for size in sizes:
        pixels = np.stack([black] * size)
        for k, result in enumerate(islice(results, size)):
            fault = _find_fault(paths[first + k], result, shape)
            if fault:
                reasons.setdefault(first + k, fault)
            elif isinstance(result, ReadImage):
                pixels[k] = result.levels
                for monitor in monitors:
                    monitor.note(first + k, result.taken)
        first += size
        if not ((stop and reasons) or any(monitor.refuses for monitor in monitors)):
            yield pixels
    _refuse_faults(reasons if stop else {}, monitors, len(paths))


def _refuse_faults(
    reasons: Mapping[int, str], monitors: Sequence[InputMonitor], total: int
) -> None:
    """Raise all that was met in one error, if there is anything; of monitors the first speaks."""
    problems = [refuse_unreadable(reasons, total, WAY_OUT)] if reasons else []
    if monitor := next((each for each in monitors if each.refuses), None):
        problems.append(refuse_unlike_training(monitor.foreign, monitor.names, total))
    if problems:
        raise MedvisionError(". ".join(map(str, problems)))


def _find_fault(
    path: Path, result: ReadImage | MedvisionError, shape: tuple[int, ...]
) -> str | None:
    """Say why an image cannot stand in a batch of this shape `[H,W,C]`, or None."""
    if isinstance(result, MedvisionError):
        return str(result)
    found = result.levels.shape
    if found == shape:
        return None
    sides = " and the first image ".join(f"{H} x {W}" for H, W, _ in (found, shape))
    return f"{path} is {sides}, bring them to one size"


def refuse_unreadable(reasons: Mapping[int, str], total: int, way_out: str) -> MedvisionError:
    """Name the first unreadable images and count the rest."""
    what = f"cannot read {len(reasons)} of {total} images"
    return collect(what, [reasons[row] for row in sorted(reasons)], way_out)


def _read_ahead(
    paths: Sequence[Path], frames: Sequence[int], reader: Reader
) -> Iterator[ReadImage | MedvisionError]:
    """Read images in threads, a little ahead of who asks, in their order."""

    def render(_: int, image: Decoded) -> ReadImage:
        levels, native = reader.render(image), read_facts(image)
        digest, windows = pixel_digest(image.pixels), find_windows(reader, image)
        return ReadImage(levels, InputFacts(native, digest, windows))

    for _, result in decode_all(paths, frames, render, stream=True):
        yield result


def _find_shape(
    reader: Reader, results: Iterator[ReadImage | MedvisionError]
) -> tuple[tuple[int, ...], Iterator[ReadImage | MedvisionError]]:
    """Return `[H,W,C]`, the reader's or of the first image that can be read, and all results."""
    if isinstance(reader.size, tuple):
        return (*reader.size, reader.channels), results
    begun: list[ReadImage | MedvisionError] = []
    for result in results:
        begun.append(result)
        if isinstance(result, ReadImage):
            return result.levels.shape, chain(begun, results)
    return (1, 1, reader.channels), iter(begun)  # nothing can be read; who asked tells why
