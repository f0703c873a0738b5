"""Any image a manifest row can name, decoded at full depth."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from pydicom import Dataset

from medvision.data.formats import arrays, nifti, video
from medvision.data.formats.dicom.file import DicomFile
from medvision.data.formats.images import COPY_AGAIN, check_pixels, decode_image, refuse
from medvision.errors import MedvisionError


@dataclass(frozen=True)
class Decoded:
    """Pixels `[H,W,C]` at full depth, with what their file says of them.

    Attributes:
        header: of DICOM.
        spacing_mm: of NIfTI, between rows and between columns.
    """

    path: Path
    pixels: np.ndarray
    header: Dataset | None = None
    spacing_mm: tuple[float, float] | None = None


class FrameFile(Protocol):
    """A file of many frames, opened once for all of them."""

    path: Path

    def __len__(self) -> int: ...

    def frame(self, number: int) -> np.ndarray: ...


_OPENERS: dict[tuple[str, ...], Callable[[Path], FrameFile]] = {
    arrays.SUFFIXES: arrays.ArrayFile,
    (*nifti.SUFFIXES, *nifti.PAIRS): nifti.VolumeFile,
    video.SUFFIXES: video.Clip,
}


def holds_frames(path: Path) -> bool:
    """Tell by its ending whether a file is opened once for all its frames: see `open_frames`."""
    return path.name.lower().endswith(tuple(ending for endings in _OPENERS for ending in endings))


def open_frames(path: Path) -> FrameFile:
    """Open an npy, npz, NIfTI or video file.

    Raises:
        MedvisionError: the file is missing or damaged.
    """
    name = path.name.lower()
    return next(opener for endings, opener in _OPENERS.items() if name.endswith(endings))(path)


def decode(path: Path, frame: int = 0) -> np.ndarray:
    """Decode one image at full depth, `[H,W,C]`, C 1 or 3 (RGB); three equal channels become one.

    The type is uint8, uint16, int16, int32 or float32. DICOM comes in modality units, not inverted.

    Raises:
        MedvisionError: missing, empty, truncated, not an image, too small or huge, NaN or infinite
            pixels, or no such frame.
    """
    return load(path, frame).pixels


def load(path: Path, frame: int = 0) -> Decoded:
    """Decode one image with its header; see `decode`."""
    (found,) = load_frames(path, [frame])
    if isinstance(found, MedvisionError):
        raise found
    return found


def load_frames(path: Path, frames: Sequence[int]) -> Iterator[Decoded | MedvisionError]:
    """Decode frames of one file, opened once; what cannot be read comes as its error."""
    try:
        read = _open(Path(path))
    except MedvisionError as error:
        yield from [error] * len(frames)
        return
    for frame in frames:
        try:
            yield read(frame)
        except MedvisionError as error:
            yield error


def _open(path: Path) -> Callable[[int], Decoded]:
    """Return what decodes a frame of the file."""
    if holds_frames(path):
        return partial(_load_frame, open_frames(path))
    content = _read_bytes(path)
    if is_dicom(path, content):
        return partial(_load_dicom, DicomFile(path, content))
    return partial(_load_image, path, content)


def is_dicom(path: Path, content: bytes) -> bool:
    """Tell DICOM by its preamble, by its ending, or by a first group 0002 or 0008 without one."""
    named = path.suffix.lower() in (".dcm", ".dicom", ".ima")
    return named or content[128:132] == b"DICM" or content[:2] in (b"\x02\x00", b"\x08\x00")


def _load_frame(file: FrameFile, frame: int) -> Decoded:
    pixels = tidy(file.path, file.frame(frame))
    spacing_mm = file.frame_mm(frame) if isinstance(file, nifti.VolumeFile) else None
    return Decoded(file.path, pixels, spacing_mm=spacing_mm)


def _load_dicom(file: DicomFile, frame: int) -> Decoded:
    pixels, header = file.frame(frame)
    return Decoded(file.path, tidy(file.path, pixels), header)


def _load_image(path: Path, content: bytes, frame: int) -> Decoded:
    if frame != 0:
        raise refuse(path, f"has no frame {frame}", "only frame 0 is read from an image file")
    return Decoded(path, tidy(path, decode_image(path, content)))


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise refuse(path, "does not exist", "check the path") from None
    except OSError as error:
        fault = f"cannot be opened ({error.strerror})"
        raise refuse(path, fault, "check what it is and that you may read it") from error
    if not content:
        raise refuse(path, "is empty (0 bytes)", COPY_AGAIN)
    return content


def tidy(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Check the pixels and bring them to `[H,W,1 or 3]` of a type we carry."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise refuse(
            path, f"has frames of shape {pixels.shape}", "store frames as [H,W] or [H,W,3]"
        )
    check_pixels(path, *pixels.shape[:2])
    pixels = _carried(path, pixels)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        count = int((~np.isfinite(pixels)).sum())
        fault = f"has {count} pixels that are NaN or infinite"
        raise refuse(path, fault, "replace them by a grey value or remove the image")
    if pixels.shape[-1] == 3 and _is_grey(pixels):
        pixels = pixels[..., :1]
    return np.ascontiguousarray(pixels)


def _carried(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Bring any number type to uint8, uint16, int16, int32 or float32."""
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype in (np.uint8, np.uint16, np.int16, np.int32, np.float32):
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.int8:
        return pixels.astype(np.int16)
    if pixels.dtype.kind not in "iuf":
        raise refuse(path, f"holds values of type {pixels.dtype}", "store integers or floats")
    limits = np.iinfo(np.int32)
    if pixels.dtype.kind in "iu" and pixels.min() >= limits.min and pixels.max() <= limits.max:
        return pixels.astype(np.int32)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
        return pixels.astype(np.float32)


def _is_grey(pixels: np.ndarray) -> bool:
    first, second, third = (pixels[..., channel] for channel in range(3))
    row = len(pixels) // 2  # one row tells nearly every colour image apart
    if (first[row] != second[row]).any():
        return False
    return bool((first == second).all() and (first == third).all())


def pixel_digest(image: np.ndarray) -> str:
    """Return the SHA-256 of a decoded image; equal digests are copies, whatever their files."""
    sha = hashlib.sha256(f"{image.dtype.kind}{image.shape}".encode())
    sha.update(np.ascontiguousarray(image).data)
    return sha.hexdigest()
