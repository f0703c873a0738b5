"""Decode the images of a store in parallel and write each where it belongs."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

import numpy as np
from rich.console import Console

from medvision.data.formats.decode import Decoded
from medvision.data.store.facts import Facts, FileFacts
from medvision.data.store.label_reader import LabelReader
from medvision.data.store.parallel import decode_all
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError
from medvision.files import Stamp, stamp

Shape = tuple[int, ...]
Describe = Callable[[int, Decoded], Facts]


@dataclass(frozen=True)
class Images:
    """A file and a frame a row.

    Attributes:
        files: absolute, links as named, one object a file: rows may be many times the files.
        frames: 0-based image inside the file.
        stamps: what tells that a file has changed since; taken before it is decoded.
    """

    files: list[Path]
    frames: list[int]
    stamps: dict[Path, Stamp]

    @classmethod
    def find(cls, files: Sequence[Path | str], frames: Sequence[int]) -> "Images":
        """Look at the files without opening them."""
        names = [str(file) for file in files]
        places = {name: Path(os.path.abspath(name)) for name in dict.fromkeys(names)}  # noqa: PTH100
        stamps = {place: stamp(place) for place in places.values()}
        return cls([places[name] for name in names], [int(frame) for frame in frames], stamps)

    def take(self, rows: Sequence[int]) -> "Images":
        """Return some rows, with the stamps as they are."""
        files = [self.files[row] for row in rows]
        return Images(files, [self.frames[row] for row in rows], self.stamps)


class Filled(NamedTuple):
    """What is kept of a row beside its pixels: "" and None where it does not apply."""

    digest: str
    reason: str
    native: FileFacts | None


@dataclass(frozen=True)
class FillRequest:
    """What is decoded into a store, and whether that is shown."""

    images: Images
    reader: Reader | LabelReader
    progress: bool

    def say(self, line: str) -> None:
        """Print one line for people, if progress is wanted."""
        if self.progress:
            Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)


def fill(
    path: Path, filling: FillRequest, describe: Describe, workers: int | None
) -> tuple[list[Filled], Shape]:
    """Write a npy file of all images; return what is kept of each row, and the shape `[N,H,W,C]`.

    Raises:
        MedvisionError: an image of another size than the first.
        OSError: the system refused to write.
    """
    files, frames = filling.images.files, filling.images.frames
    filled = [Filled("", "", None)] * len(files)
    first: Shape = ()
    with path.open("wb") as stream:
        writer = _Writer(stream, len(files))

        def use(row: int, image: Decoded) -> tuple[Filled, Shape]:
            facts = describe(row, image)
            try:
                levels = filling.reader.render(image)
            except MedvisionError as error:
                return Filled("", str(error), facts.native), ()
            writer.write(row, levels)
            return Filled(facts.digest, "", facts.native), levels.shape

        task = "decoding" if filling.progress else ""
        for row, result in decode_all(files, frames, use, workers=workers, task=task):
            if isinstance(result, MedvisionError):
                filled[row] = Filled("", str(result), None)
                continue
            filled[row], shape = result
            first = first or shape
            if shape and shape != first:
                raise _other_size(files[row], shape, first)
    return filled, (len(files), *first)


def copy_rows(path: Path, pixels: np.ndarray, rows: Sequence[int]) -> None:
    """Write a npy file of some rows of decoded pixels `[N,H,W,C]`."""
    with path.open("wb") as stream:
        writer = _Writer(stream, len(rows))
        for place, row in enumerate(rows):
            writer.write(place, pixels[row])


class _Writer:
    """Writes images of one size at their places, from many threads, without mapping the file.

    Those of another size than the first that comes are passed over. A full disk met through a
    memory map kills the process; met through write() it is an OSError.
    """

    def __init__(self, stream: BinaryIO, rows: int) -> None:
        self._stream, self._rows, self._lock = stream, rows, Lock()
        self._start = 0
        self._shape: Shape = ()

    def write(self, row: int, levels: np.ndarray) -> None:
        content = np.ascontiguousarray(levels)
        with self._lock:
            if not self._shape:
                self._begin(content)
            if content.shape == self._shape:
                self._stream.seek(self._start + row * content.nbytes)
                self._stream.write(content.data)

    def _begin(self, levels: np.ndarray) -> None:
        self._shape = levels.shape
        descr = np.lib.format.dtype_to_descr(levels.dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (self._rows, *self._shape)}
        np.lib.format.write_array_header_1_0(self._stream, header)
        self._start = self._stream.tell()
        self._stream.truncate(self._start + self._rows * levels.nbytes)


def _other_size(path: Path, found: Shape, first: Shape) -> MedvisionError:
    sides, others = (f"{H} x {W}" for H, W, _ in (found, first))
    fault = f"{path} is {sides} pixels and the first image {others}"
    return MedvisionError(f"{fault}; give all one size with data.reader.size=[H,W]")
