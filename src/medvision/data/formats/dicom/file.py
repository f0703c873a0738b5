"""Single DICOM files: stored values to modality units. The view they ask for is `dicom_view`."""

import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from medvision.data.formats.dicom.frames import count_frames, header_of_frame
from medvision.data.formats.dicom.values import (
    fill_padding,
    find_padding,
    look_up_palette,
    take_bits,
    to_units,
)
from medvision.data.formats.dicom.view import displayed, is_inverted
from medvision.data.formats.images import COPY_AGAIN, check_pixels, refuse
from medvision.data.formats.limits import most_bytes
from medvision.errors import MedvisionError

__all__ = ["DicomFile", "displayed", "is_inverted"]

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
BROKEN = ("has a header that breaks the standard", "mend it or remove the image")
_INSTALL = "install the decoders with `pip install 'medvision[dicom]'`"
_BUILT_IN = (RLELossless,)  # whatever pydicom cannot decode of these is damaged
GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")

# pydicom quotes what it finds in headers, which may be a name; what matters is told in our words.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", module=r"pydicom(\.|$)")


class DicomFile:
    """The frames of one DICOM file, whose header is read once.

    Raises:
        MedvisionError: not DICOM, no pixels, or a size nobody can train on.
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self.path = path
        with _told(path, "is not a readable DICOM file"):
            self.header = _read_header(content)
        with _told(path, *BROKEN):
            if not any(key in self.header for key in PIXELS) or "Rows" not in self.header:
                raise refuse(path, "is a DICOM file without pixels", "remove it from the manifest")
            check_pixels(path, int(self.header.Rows), int(self.header.Columns))
            self._count = max(0, count_frames(self.header))

    def __len__(self) -> int:
        return self._count

    def frame(self, number: int) -> tuple[np.ndarray, Dataset]:
        """Decode one frame in modality units (Hounsfield for CT), and its header.

        Rescaled values are float32; a file without rescale keeps its integers; padded pixels take
        the value that is shown darkest. The window and the inversion of MONOCHROME1 are not applied
        here: see `displayed` and `is_inverted`. The header is that of the frame.

        Returns:
            `[H,W]` or `[H,W,3]`, and the header as `header_of_frame` gives it.

        Raises:
            MedvisionError: truncated, no such frame or a missing decoder.
        """
        if not 0 <= number < len(self):
            way_out = f"it holds {len(self)} frames, counted from 0"
            raise refuse(self.path, f"has no frame {number}", way_out)
        with _told(self.path, *BROKEN):
            header = header_of_frame(self.header, number)
            decoder = _find_decoder(self.path, header)
            whole = _holds_whole_words(header)
            raw = _decode(self.path, header, decoder, number, correct=not whole)
            if header.PhotometricInterpretation == "PALETTE COLOR":
                return look_up_palette(take_bits(raw, header) if whole else raw, header), header
            return raw if raw.ndim == 3 else _measure(raw, header, whole), header


@contextmanager
def _told(path: Path, fault: str, way_out: str = COPY_AGAIN) -> Iterator[None]:
    """Turn whatever a broken file raises into one sentence.

    pydicom raises many kinds for damage, and their texts quote the header, so none is passed on.
    """
    try:
        yield
    except MedvisionError:
        raise
    except Exception:
        raise refuse(path, fault, way_out) from None


def _read_header(content: bytes) -> Dataset:
    check_inflated(content)
    # Files of older archives begin with their first element, without preamble and meta header.
    header = dcmread(BytesIO(content), force=content[:2] in (b"\x08\x00", b"\x00\x08"))
    if not header.file_meta.get("TransferSyntaxUID"):
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = _syntax_of(*header.original_encoding)
    return header


def check_inflated(content: bytes) -> None:
    """Inflate a deflated file piece by piece first: a small one may hold more than the memory.

    Raises:
        ValueError: it holds more than `most_bytes`.
    """
    if DeflatedExplicitVRLittleEndian.encode() not in content[:2048]:
        return
    start = 144 + int.from_bytes(content[140:144], "little")  # after the group length, PS3.10 7.1
    inflate, rest, total = zlib.decompressobj(-zlib.MAX_WBITS), content[start:], 0
    while rest and not inflate.eof:
        total += len(inflate.decompress(rest, 2**24))
        rest = inflate.unconsumed_tail
        if total > most_bytes():
            raise ValueError("a deflated file holds too much")


def _syntax_of(implicit: bool | None, little: bool | None) -> UID:
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _measure(raw: np.ndarray, header: Dataset, whole: bool) -> np.ndarray:
    stored = take_bits(raw, header) if whole else raw
    padding = find_padding(raw, stored, header) if stored.dtype.kind in "iu" else None
    return fill_padding(to_units(stored, header), padding, is_inverted(header))


def _holds_whole_words(header: Dataset) -> bool:
    """Tell whether stored words come as they were written: not packed bits, floats or a codec."""
    syntax = header.file_meta.TransferSyntaxUID
    written = syntax == RLELossless or not syntax.is_encapsulated
    integers = "PixelData" in header and int(header.BitsAllocated) > 1
    return bool(written and integers and header.SamplesPerPixel == 1)


def _find_decoder(path: Path, header: Dataset) -> Decoder:
    syntax = header.file_meta.TransferSyntaxUID
    known = syntax.type == "Transfer Syntax"  # else its name is whatever the header holds
    name = syntax.name if known else "in an unknown transfer syntax"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        fault = f"is stored as {name}, which is not read" if known else f"is stored {name}"
        raise refuse(path, fault, "convert it to uncompressed DICOM") from None
    if not decoder.is_available:
        fault = f"is compressed as {name}, which no installed package decodes"
        raise refuse(path, fault, _INSTALL)
    return decoder


def _decode(path: Path, header: Dataset, decoder: Decoder, frame: int, correct: bool) -> np.ndarray:
    _check_length(path, header, decoder)
    options = {} if correct else {"correct_unused_bits": False}
    try:
        pixels, facts = decoder.as_array(header, index=frame, **options)  # type: ignore[arg-type]
    except Exception as error:
        others = decoder.missing_dependencies and decoder.UID not in _BUILT_IN
        if others and isinstance(error, RuntimeError):  # those that are installed all failed
            fault = f"cannot be decoded as {decoder.UID.name} by the installed packages"
            raise refuse(path, fault, f"{_INSTALL}, or {COPY_AGAIN}") from None
        raise refuse(path, "is truncated or damaged", COPY_AGAIN) from None
    meaning = facts["photometric_interpretation"]  # after pydicom turned YBR into RGB
    if meaning not in (GREY if pixels.ndim == 2 else ("RGB",)):
        fault = f"holds {1 if pixels.ndim == 2 else 3} samples a pixel as {meaning}"
        raise refuse(path, f"{fault}, which is not read", "convert it to RGB or MONOCHROME2")
    return pixels


def _check_length(path: Path, header: Dataset, decoder: Decoder) -> None:
    """Refuse pixels that end early before memory is taken for them."""
    if decoder.is_encapsulated:
        return
    found = next(len(header[key].value or b"") for key in PIXELS if key in header)
    expected = get_expected_length(header)
    if found < expected:
        fault = f"is truncated or damaged ({found} of {expected} bytes of pixels)"
        raise refuse(path, fault, COPY_AGAIN)
