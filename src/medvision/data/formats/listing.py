"""Which files of a folder are images, and how many images each of them holds."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydicom.encaps import parse_fragments
from pydicom.filereader import read_file_meta_info
from pydicom.pixels.utils import get_expected_length

from medvision.data.formats.arrays import SUFFIXES as ARRAYS
from medvision.data.formats.decode import holds_frames, is_dicom, open_frames
from medvision.data.formats.dicom.file import DicomFile
from medvision.errors import MedvisionError, collect

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", *ARRAYS)


def list_images(top: Path, endings: tuple[str, ...] = SUFFIXES) -> tuple[list[str], int]:
    """Return the images below `top`, sorted, as seen from it with `/`, and the number of others.

    Args:
        top: a folder.
        endings: what an image's name ends in, in lower case.

    Raises:
        MedvisionError: there is no image, or a name that no CSV can hold.
    """
    listed = sorted(list_files(top))
    names = [name for name in listed if is_image(name, endings)]
    return check_names(top, names, listed, " ".join(endings))


def check_names(top: Path, names: list[str], listed: list[str], told: str) -> tuple[list[str], int]:
    """Return the names and the number of other files.

    Raises:
        MedvisionError: there is no image, or a name that no CSV can hold.
    """
    if not names:
        raise MedvisionError(
            f"no image was found in {top} ({len(listed)} other files); "
            f"images are told by their endings: {told}"
        )
    odd = [ascii(name) for name in names if name != name.encode(errors="replace").decode()]
    if odd:
        raise collect("file names that are not UTF-8", odd, "Rename these files, or unpack them "
                      "again with the encoding they were packed with")  # fmt: skip
    return names, len(listed) - len(names)


def list_files(top: Path) -> Iterator[str]:
    """Yield all files as seen from `top`, with `/`; links to folders are followed once."""
    seen: set[str] = set()
    for place, folders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()  # so that of two links to one folder the same one counts each time
        yield from (Path(place, file).relative_to(top).as_posix() for file in files)


def is_image(name: str, endings: tuple[str, ...] = SUFFIXES) -> bool:
    """Tell images by their endings; hidden files are none, whatever they end in."""
    hidden = any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    return name.lower().endswith(endings) and not hidden


def is_dicom_image(path: Path) -> bool:
    """Tell DICOM by its mark, and images from the directories, reports and plans beside them.

    What a header does not say clearly is taken for an image, whose faults are told later.
    """
    try:
        if _read_start(path)[128:] != b"DICM":
            return False
        kind = read_file_meta_info(path).MediaStorageSOPClassUID
        return kind.type != "SOP Class" or "Image Storage" in kind.name
    except Exception:  # a damaged header may raise anything
        return path.is_file()


def _read_start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(132)


def count_frames(path: Path) -> int:
    """Count the images of a file; what is empty or broken is one, told later."""
    try:
        if holds_frames(path):
            return len(open_frames(path)) or 1
        if is_dicom(path, _read_start(path)):
            return _count_dicom(path)
    except Exception:  # a damaged file may raise anything; decoding it says what it is
        return 1
    return 1


def _count_dicom(path: Path) -> int:
    """Count the frames a header tells of, but no more than its pixels can be.

    Where it tells of more, one of them is missing, and so the damage is told by name.
    """
    opened = DicomFile(path, path.read_bytes())
    told, header = len(opened) or 1, opened.header
    if told == 1 or "PixelData" not in header:
        return told
    if not header.file_meta.TransferSyntaxUID.is_encapsulated:
        whole = len(header.PixelData) >= get_expected_length(header)
        return told if whole else 1  # of a truncated file no frame is read
    items, _ = parse_fragments(header.PixelData)  # a frame is one at least; the first is a table
    return min(told, items)
