"""Frames kept in NumPy files: npy and npz."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from medvision.data.images import COPY_AGAIN, refuse
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
        except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
            raise self._damaged(error) from error
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
            except (OSError, ValueError, EOFError, BadZipFile) as error:
                raise self._damaged(error) from error
        return self._loaded[1]

    def _read(self, name: str) -> np.ndarray:
        if self.path.suffix.lower() == ".npy":
            return np.asarray(np.load(self.path, mmap_mode="r", allow_pickle=False))
        with np.load(self.path, allow_pickle=False) as archive:
            return np.asarray(archive[name])

    def _read_shapes(self) -> dict[str, tuple[int, ...]]:
        if self.path.suffix.lower() == ".npy":
            return {".": shape} if len(shape := self._read(".").shape) in (2, 3, 4) else {}
        with np.load(self.path, allow_pickle=False) as archive:
            shapes = {}
            for name in archive.files:
                # The header alone: a label array or a later part need not be unpacked for it.
                with archive.zip.open(f"{name}.npy") as stream:
                    version = np.lib.format.read_magic(stream)
                    shapes[name] = _read_header(stream, version)
        images = {name: shape for name, shape in shapes.items() if len(shape) in (3, 4)}
        alone = len(shapes) == 1 and all(len(shape) == 2 for shape in shapes.values())
        return shapes if alone else images

    def _damaged(self, error: Exception) -> MedvisionError:
        if isinstance(error, FileNotFoundError):
            return refuse(self.path, "does not exist", "check the path")
        if isinstance(error, PermissionError):
            return refuse(self.path, "may not be read", "ask for permission to read it")
        if isinstance(error, EOFError) and self.path.stat().st_size == 0:
            return refuse(self.path, "is empty (0 bytes)", COPY_AGAIN)
        return refuse(self.path, f"is truncated or damaged ({error})", COPY_AGAIN)


def _read_header(stream: object, version: tuple[int, int]) -> tuple[int, ...]:
    if version == (1, 0):
        shape: tuple[int, ...] = np.lib.format.read_array_header_1_0(stream)[0]  # type: ignore[arg-type]
    else:
        shape = np.lib.format.read_array_header_2_0(stream)[0]  # type: ignore[arg-type]
    return shape


def _is_one(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] == 3)


def _count(shape: tuple[int, ...]) -> int:
    return 1 if _is_one(shape) else shape[0]
