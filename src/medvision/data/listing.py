"""Which files of a folder are images, and how many images each of them holds."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydicom import dcmread

from medvision.data.arrays import SUFFIXES as ARRAYS
from medvision.data.arrays import ArrayFile
from medvision.errors import MedvisionError, collect

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", *ARRAYS)


def list_images(top: Path) -> tuple[list[str], int]:
    """Return the images below `top`, sorted, as seen from it with `/`, and the number of others.

    Raises:
        MedvisionError: there is no image, or a name that no CSV can hold.
    """
    listed = sorted(list_files(top))
    names = [name for name in listed if is_image(name)]
    if not names:
        raise MedvisionError(
            f"no image was found in {top} ({len(listed)} other files); "
            f"images are told by their endings: {' '.join(SUFFIXES)}"
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


def is_image(name: str) -> bool:
    """Tell images by their endings; hidden files are none, whatever they end in."""
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def count_frames(path: Path) -> int:
    """Count the images of an array or DICOM file; what is empty or broken is one, told later."""
    try:
        if path.suffix.lower() in ARRAYS:
            return len(ArrayFile(path)) or 1
        if path.suffix.lower() == ".dcm":
            header = dcmread(path, stop_before_pixels=True, specific_tags=["NumberOfFrames"])
            return int(header.get("NumberOfFrames") or 1)
    except Exception:  # a damaged file may raise anything; decoding it says what it is
        return 1
    return 1
