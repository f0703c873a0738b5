"""Image files to pixels at full depth (PNG, JPEG, TIFF, BMP and whatever else OpenCV decodes)."""

import warnings
from io import BytesIO
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from medvision.errors import MedvisionError

MAX_PIXELS = 2**28
COPY_AGAIN = "copy it again from its source"
PNG, JPEG, _TIFFS = b"\x89PNG", b"\xff\xd8\xff", (b"II*\0", b"MM\0*")
_JPEG_END = b"\xff\xd9"
_STRIP_OFFSETS, _ROWS_PER_STRIP = 273, 278
HEADERS: dict[bytes, type[ImageFile]] = {
    PNG: PngImageFile,
    JPEG: JpegImageFile,
    **dict.fromkeys(_TIFFS, TiffImageFile),
    b"BM": BmpImageFile,
}

# A broken file is told once, in our words, with its name; OpenCV's own lines have no name in them.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
warnings.filterwarnings("ignore", module=r"PIL(\.|$)")


def refuse(path: Path, fault: str, way_out: str) -> MedvisionError:
    """Say what is wrong with one file and what to do; many of them join into one sentence."""
    return MedvisionError(f"{path} {fault}, {way_out}")


def decode_image(path: Path, content: bytes) -> np.ndarray:
    """Decode the bytes of an image file, `[H,W]` or `[H,W,3]` in RGB order.

    Alpha is dropped, palettes are looked up and a camera's orientation mark is obeyed, so that
    the pixels are those a viewer shows.

    Raises:
        MedvisionError: truncated, damaged, huge or not an image.
    """
    magic = next((start for start in HEADERS if content.startswith(start)), None)
    if magic is not None:
        _check_whole(path, content, magic)
        # Below this size no compression can hide a huge image, and small files must stay fast.
        if len(content) > 2**14:
            _check_size(path, content, magic)
    data = np.frombuffer(content, np.uint8)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    except (cv2.error, MemoryError):
        pixels = None
    if pixels is None and magic is None:
        raise refuse(path, "is not an image", "give PNG, JPEG, TIFF, BMP, npy, npz or DICOM files")
    if pixels is None or (magic in _TIFFS and not _is_whole_tiff(content)):
        raise refuse(path, "is truncated or damaged", COPY_AGAIN)
    return pixels if pixels.ndim == 2 else _to_rgb(pixels)


def _to_rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype in (np.uint8, np.uint16, np.float32):  # a hundred times faster, where it can
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    return np.ascontiguousarray(pixels[..., ::-1])


def _check_whole(path: Path, content: bytes, magic: bytes) -> None:
    """Look for the end of a PNG or JPEG: without it a decoder may fill up with grey."""
    if magic == JPEG and content.rfind(_JPEG_END) < 0:
        raise refuse(path, "is truncated", COPY_AGAIN)
    if magic == PNG and not _is_whole_png(content):
        raise refuse(path, "is truncated or damaged", COPY_AGAIN)


def _is_whole_png(content: bytes) -> bool:
    """Walk to the last chunk, checking sums; OpenCV would take memory for whatever length is told.

    Reference: PNG (third edition) 5.3.
    """
    view, place = memoryview(content), 8
    while (end := place + 12 + int.from_bytes(view[place : place + 4])) <= len(view):
        if crc32(view[place + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            return False
        if content.startswith(b"IEND", place + 4):
            return True
        place = end
    return False


def _is_whole_tiff(content: bytes) -> bool:
    """Decode a TIFF once more: OpenCV goes on, blank, after a strip that cannot be decoded."""
    try:
        image = TiffImageFile(BytesIO(content))
    except Exception:
        return True  # of a kind PIL does not read; nothing is known against it
    try:
        strips = len(image.tag_v2.get(_STRIP_OFFSETS, ()))
        rows = image.tag_v2.get(_ROWS_PER_STRIP, image.height)
        image.load()
        return strips == 0 or strips * rows >= image.height
    except Exception:  # a damaged file may raise anything
        return False


def _check_size(path: Path, content: bytes, magic: bytes) -> None:
    """Read the size from the header, before memory is taken for it.

    The plug-ins are asked directly because `PIL.Image.open` has a lower limit of its own.
    """
    try:
        width, height = HEADERS[magic](BytesIO(content)).size
    except Exception:
        return  # a header PIL cannot read is left to OpenCV
    check_pixels(path, height, width)


def check_pixels(path: Path, height: int, width: int) -> None:
    """Refuse images nobody can train on: under 2 pixels a side, or over `MAX_PIXELS`."""
    if height < 2 or width < 2:
        fault = f"is only {height} x {width} pixels"
        raise refuse(path, fault, "an image has at least 2 pixels a side, replace or remove it")
    if height * width > MAX_PIXELS:
        fault = f"is {height} x {width} pixels, over the limit of {MAX_PIXELS}"
        raise refuse(path, fault, "cut or shrink it first")
