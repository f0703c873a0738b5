"""Decode the images of a store in parallel and write each where it belongs."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from medvision.data.formats.decode import Decoded, load_frames, pixel_digest
from medvision.data.store.facts import FileFacts, Pair, read_facts, read_spacings
from medvision.data.store.label_reader import LabelReader
from medvision.data.store.pixels import cut_sides
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError

BATCH = 32  # images a task: enough to hide what a task costs, few enough to share out

Shape = tuple[int, int, int, int]
Group = tuple[Path, list[int]]


class Filled(NamedTuple):
    """What is kept of a row beside its pixels: "" and None where it does not apply."""

    digest: str
    reason: str
    native: FileFacts | None


@dataclass(frozen=True)
class FillRequest:
    """What is decoded into a store, a file and a frame a row, and whether that is shown."""

    files: Sequence[Path]
    frames: Sequence[int]
    reader: Reader | LabelReader
    progress: bool

    def say(self, line: str) -> None:
        """Print one line for people, if progress is wanted."""
        if self.progress:
            Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)


def find_shape(filling: FillRequest) -> Shape:
    """Return `[N,H,W,C]`: the reader's size, else that of the first image that can be read."""
    rows, reader = len(filling.files), filling.reader
    if isinstance(reader.size, tuple):
        return (rows, *reader.size, reader.channels)
    for file, frame in zip(filling.files, filling.frames, strict=True):
        (image,) = load_frames(file, [frame])
        if isinstance(image, Decoded):
            size = (image.pixels.shape[0], image.pixels.shape[1])
            return (rows, *cut_sides(size, reader.center), reader.channels)
    return (rows, 1, 1, reader.channels)  # nothing can be read; filling tells why


def fill(path: Path, shape: Shape, filling: FillRequest, workers: int) -> list[Filled]:
    """Write a npy file of all images; return what is kept of each row.

    Raises:
        MedvisionError: an image of another size than `shape`.
        OSError: the system refused to write.
    """
    with path.open("wb") as stream, _bar(filling.progress) as bar:
        task = bar.add_task("decoding", total=shape[0])
        writer = _Writer(stream, shape, filling)
        pool = ThreadPoolExecutor(workers)
        try:
            submitted = [pool.submit(writer.write, batch, bar, task) for batch in _batch(filling)]
            for done in as_completed(submitted):
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return writer.results


def _batch(filling: FillRequest) -> Iterator[list[Group]]:
    """Group rows by file, in order of frames, so that each file is opened once."""
    groups: dict[Path, list[int]] = {}
    for row, file in enumerate(filling.files):
        groups.setdefault(file, []).append(row)
    batch: list[Group] = []
    size = 0
    for file, rows in groups.items():
        batch.append((file, sorted(rows, key=filling.frames.__getitem__)))
        size += len(rows)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Writer:
    """Writes images at their places, from many threads, without mapping the file.

    A full disk met through a memory map kills the process; met through write() it is an OSError.
    """

    def __init__(self, stream: BinaryIO, shape: Shape, filling: FillRequest) -> None:
        kind = np.dtype(np.uint8 if filling.reader.depth == 8 else np.uint16)
        descr = np.lib.format.dtype_to_descr(kind)
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        self._stream, self._start, self._lock = stream, stream.tell(), Lock()
        self._shape, self._bytes = shape[1:], int(np.prod(shape[1:])) * kind.itemsize
        stream.truncate(self._start + shape[0] * self._bytes)
        self._filling = filling
        self.results = [Filled("", "", None)] * shape[0]

    def write(self, batch: list[Group], bar: Progress, task: TaskID) -> None:
        """Decode and write the rows of some files."""
        done = 0
        for file, rows in batch:
            frames = [self._filling.frames[row] for row in rows]
            images, spacings = load_frames(file, frames), read_spacings(file, frames)
            for row, image, spacing_mm in zip(rows, images, spacings, strict=True):
                kept = self._write_row(row, image)
                self.results[row] = Filled(*kept, _describe(image, spacing_mm))
                done += 1
                if done % BATCH == 0:
                    bar.advance(task, BATCH)
        bar.advance(task, done % BATCH)

    def _write_row(self, row: int, image: Decoded | MedvisionError) -> tuple[str, str]:
        if isinstance(image, MedvisionError):
            return ("", str(image))
        try:
            levels = self._filling.reader.render(image)
        except MedvisionError as error:
            return ("", str(error))
        if levels.shape != self._shape:
            raise _other_size(image.path, levels, self._shape)
        with self._lock:
            self._stream.seek(self._start + row * self._bytes)
            self._stream.write(np.ascontiguousarray(levels).data)
        return (pixel_digest(image.pixels), "")


def _describe(image: Decoded | MedvisionError, spacing_mm: Pair | None) -> FileFacts | None:
    return read_facts(image, spacing_mm) if isinstance(image, Decoded) else None


def _other_size(path: Path, levels: np.ndarray, shape: tuple[int, ...]) -> MedvisionError:
    found, first = (f"{H} x {W}" for H, W, _ in (levels.shape, shape))
    fault = f"{path} is {found} pixels and the first image {first}"
    return MedvisionError(f"{fault}; give all one size with data.reader.size=[H,W]")


def _bar(progress: bool) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shown = progress and console.is_terminal
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not shown)
