"""Frames kept in NumPy files: npy and npz."""

import math
from pathlib import Path
from typing import IO

import numpy as np

from medvision.data.formats.images import COPY_AGAIN, refuse
from medvision.data.formats.limits import check_unpacked
from medvision.errors import MedvisionError

SUFFIXES = (".npy", ".npz")


class ArrayFile:
    """The frames of an npy or npz file, counted through its image arrays in stored order.

    `[H,W]` and `[H,W,3]` are one frame, `[N,H,W]` and `[N,H,W,1 or 3]` are N. In an npz the arrays
    of fewer than three axes are labels and the like, unless one is all there is. One array is in
    memory at a time, so frames are best asked for in order.

    Raises:
        MedvisionError: the file is missing, damaged, or holds no image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded: tuple[str, np.ndarray] = ("", np.empty(0))
        try:
            self._shapes = self._read_shapes()
        except MedvisionError:
            raise
        except Exception as error:  # NumPy raises many kinds, in several lines
            raise tell_damage(path, error, "no array can be read") from error
        if not self._shapes:
            expected = "[H,W], [N,H,W] or [N,H,W,3]"
            raise refuse(path, "holds no image array", f"store images as {expected}")
        self._counts = {name: _count(shape) for name, shape in self._shapes.items()}

    def __len__(self) -> int:
        return sum(self._counts.values())

    def frame(self, number: int) -> np.ndarray:
        """Return one frame, `[H,W]` or `[H,W,C]`.

        Raises:
            MedvisionError: no such frame, or its bytes are damaged.
        """
        first = 0
        for name, count in self._counts.items():
            if 0 <= number - first < count:
                array = self._load(name)
                return array if _is_one(self._shapes[name]) else array[number - first]
            first += count
        fault = f"has no frame {number}"
        raise refuse(self.path, fault, f"it holds {first} frames, counted from 0")

    def _load(self, name: str) -> np.ndarray:
        if self._loaded[0] != name:
            self._loaded = ("", np.empty(0))  # free the last array before the next comes in
            try:
                self._loaded = (name, self._read(name))
            except Exception as error:
                raise tell_damage(self.path, error, "an array cannot be read") from error
        return self._loaded[1]

    def _read(self, name: str) -> np.ndarray:
        if self.path.suffix.lower() == ".npy":
            return np.asarray(np.load(self.path, mmap_mode="r", allow_pickle=False))
        with np.load(self.path, allow_pickle=False) as archive:
            return np.asarray(archive[name])

    def _read_shapes(self) -> dict[str, tuple[int, ...]]:
        if self.path.suffix.lower() == ".npy":
            with self.path.open("rb") as stream:
                shape = _read_header(stream, self.path.stat().st_size)
            return {".": shape} if len(shape) in (2, 3, 4) else {}
        with np.load(self.path, allow_pickle=False) as archive:
            shapes = {}
            for name in archive.files:
                # The header alone: a label array or a later part need not be unpacked for it.
                packed = archive.zip.getinfo(f"{name}.npy")
                with archive.zip.open(packed) as stream:
                    shapes[name] = _read_header(stream, packed.file_size)
                check_unpacked(self.path, packed.file_size)
        images = {name: shape for name, shape in shapes.items() if len(shape) in (3, 4)}
        alone = len(shapes) == 1 and all(len(shape) == 2 for shape in shapes.values())
        return shapes if alone else images


def tell_damage(path: Path, error: Exception, reason: str) -> MedvisionError:
    """Say why a file cannot be opened or read; `reason` is for what only its format knows."""
    if isinstance(error, FileNotFoundError):
        return refuse(path, "does not exist", "check the path")
    if isinstance(error, PermissionError):
        return refuse(path, "may not be read", "ask for permission to read it")
    if path.is_file() and path.stat().st_size == 0:
        return refuse(path, "is empty (0 bytes)", COPY_AGAIN)
    return refuse(path, f"is truncated or damaged ({reason})", COPY_AGAIN)


def _read_header(stream: IO[bytes], size: int) -> tuple[int, ...]:
    """Return the shape of an array.

    Raises:
        ValueError: it does not fill the `size` bytes, so that memory for it would be taken in vain,
            or pixels would be missing, or shifted.
    """
    first = np.lib.format.read_magic(stream) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, kind = read(stream)
    if not kind.hasobject and stream.tell() + math.prod(shape) * kind.itemsize != size:
        raise ValueError("header and size differ")
    return tuple(shape)


def _is_one(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] == 3)


def _count(shape: tuple[int, ...]) -> int:
    return 1 if _is_one(shape) else shape[0]
