"""A tree of any files: which of them are DICOM images, read with the fewest tags."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medvision.data.formats.dicom.file import check_inflated
from medvision.data.formats.dicom.frames import count_frames
from medvision.data.formats.listing import list_files
from medvision.data.sources.dicom.header import KEYWORDS, Slice, read_slices
from medvision.errors import collect

SUFFIXES = (".dcm", ".dicom", ".ima")  # such a file must be DICOM; any other may be
PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
_DEFLATE_BEST = 1032  # bytes that one can hold
_ITEM_BITS = 64  # what stands before each compressed frame


@dataclass(frozen=True)
class Tree:
    """What lies in a tree.

    Attributes:
        slices: one a frame, in the order of the file names.
        others: kind of file → number of those that are no images.
        broken: names of files that should be images and are not.
    """

    slices: list[Slice] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def read_tree(top: Path) -> Tree:
    """Read the header of every DICOM file below `top`; names and suffixes decide nothing.

    Raises:
        MedvisionError: a name that no CSV can hold.
    """
    names = sorted(list_files(top))
    odd = [ascii(name) for name in names if name != name.encode(errors="replace").decode()]
    if odd:
        raise collect("file names that are not UTF-8", odd, "Rename these files, or unpack them "
                      "again with the encoding they were packed with")  # fmt: skip
    tree = Tree()
    with _silenced(), ThreadPoolExecutor() as pool:
        for name, found in zip(names, pool.map(lambda n: _read_file(top, n), names), strict=True):
            if isinstance(found, list):
                tree.slices.extend(found)
            elif found == "broken":
                tree.broken.append(name)
            else:
                tree.others[found] += 1
    return tree


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep pydicom's warnings back: they quote what stands in a header."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = before


def _read_file(top: Path, name: str) -> list[Slice] | str:
    """Return the slices of a file, or what else it is; `broken` where it should be an image."""
    hidden = any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    claims = PurePosixPath(name).suffix.lower() in SUFFIXES
    if hidden:
        return "not DICOM"
    try:
        with (top / name).open("rb") as stream:
            start = stream.read(132)
            # Files of older archives begin with their first element.
            bare = claims and start[:2] in (b"\x08\x00", b"\x00\x08")
            if start[128:] != b"DICM" and not bare:
                return "broken" if claims else "not DICOM"
            if DeflatedExplicitVRLittleEndian.encode() in start + stream.read(2048):
                check_inflated((top / name).read_bytes())
            stream.seek(0)
            header = dcmread(stream, None, True, force=bare, specific_tags=KEYWORDS)
        kind = _kind(header)
        if kind == "image" and not _can_hold(header, (top / name).stat().st_size):
            return "broken"
        return read_slices(name, header) if kind == "image" else kind
    except Exception:  # pydicom raises many kinds for damaged headers, and their texts quote them
        return "broken"


def _can_hold(header: Dataset, size: int) -> bool:
    """Tell whether a file of so many bytes can hold its frames, of a bit a pixel or an item each.

    A header that tells of millions is not listed, and one that tells of none is no image.
    """
    syntax = header.file_meta.get("TransferSyntaxUID", ExplicitVRLittleEndian)
    plain = syntax in PLAIN or syntax == DeflatedExplicitVRLittleEndian
    bits = 8 * size * (_DEFLATE_BEST if syntax == DeflatedExplicitVRLittleEndian else 1)
    least = int(header.Rows) * int(header.Columns) if plain else _ITEM_BITS
    return 1 <= count_frames(header) <= max(1, bits // least)


def _kind(header: Dataset) -> str:
    """Tell images from other objects by the name of their class, as the standard gives it."""
    uid = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or ""
    name = str(getattr(uid, "name", uid))
    sized = bool(header.get("Rows") and header.get("Columns"))
    if name == "Media Storage Directory Storage":
        return "DICOMDIR"
    if name == uid:  # a private class, or none
        return "image" if sized else "private object" if uid else "broken"
    if "Image Storage" not in name:
        return name
    return "image" if sized else "broken"
