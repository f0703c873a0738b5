"""Images in class folders, with or without split folders."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pandas as pd

from medvision.data.arrays import SUFFIXES as ARRAY_SUFFIXES
from medvision.data.arrays import ArrayFile
from medvision.data.patients import NO_RULE, describe_rule, patients_from_names
from medvision.data.rows import SPLITS
from medvision.data.sources.found import Found
from medvision.errors import MedvisionError, collect

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", *ARRAY_SUFFIXES)


def find_folder(input: Path, *, patient: str | None = None) -> Found:  # noqa: A002 -- the command's own word
    """Find images by folder: `[split/]class/…/image`, or `class/split/…/image`.

    Split folders are called train, val or test in the usual spellings; images in no class folder
    are unlabelled. An npy or npz file gives a row a frame.

    Args:
        input: the folder on top.
        patient: `path` (each image is its own patient) or a pattern with one group, searched in
            the file name as seen from `input`.

    Raises:
        MedvisionError: no folder, no image, no patient rule or one that does not fit, images
            outside split folders.
    """
    top = Path(input).absolute()
    if not top.is_dir():
        raise MedvisionError(f"{top} is no folder; source=folder needs input=DIR")
    listed = sorted(list_files(top))
    names = [name for name in listed if _is_image(name)]
    if not names:
        raise MedvisionError(
            f"no image was found in {top} ({len(listed)} other files); "
            f"images are told by their endings: {' '.join(SUFFIXES)}"
        )
    _refuse_unprintable(names)
    if patient is None:
        raise MedvisionError(
            f"no patient rule was given for {top}, where files are called {names[0]!r}; {NO_RULE}"
        )
    table = _tabulate(top, names)
    table["patient"] = patients_from_names(list(table.pop("name")), list(table["frame"]), patient)
    facts = {"skipped": len(listed) - len(names)}
    return Found(table, top.name, describe_rule(patient), facts=facts)


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


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def _refuse_unprintable(names: list[str]) -> None:
    """Refuse names a UTF-8 table cannot hold: archives from other systems leave them behind."""
    odd = [ascii(name) for name in names if name != name.encode(errors="replace").decode()]
    if odd:
        raise collect("file names that are not UTF-8", odd, "Rename these files, or unpack them "
                      "again with the encoding they were packed with")  # fmt: skip


def _tabulate(top: Path, names: list[str]) -> pd.DataFrame:
    rows = [
        (str(top / name), name, label, split, frame)
        for name, (split, label) in zip(names, _place(names, top), strict=True)
        for frame in range(_count_frames(top / name))
    ]
    return pd.DataFrame(rows, columns=["path", "name", "label", "split", "frame"])


def _place(names: list[str], top: Path) -> list[tuple[str, str]]:
    """Read split and label of each image from its folders; "" where there is none."""
    places = [PurePosixPath(name).parts[:-1] for name in names]
    if all(len(place) > 1 and place[1].lower() in SPLITS for place in places):
        wrapped = len({place[0] for place in places}) == 1
        places = [place[1:] if wrapped else (place[1], place[0]) for place in places]
    inside = [bool(place) and place[0].lower() in SPLITS for place in places]
    if any(inside) and not all(inside):
        outside = dict.fromkeys(
            (place or (".",))[0] for place, held in zip(places, inside, strict=True) if not held
        )
        raise collect(
            f"some images of {top} lie in split folders, these do not", list(outside),
            "Name the folders train, val or test, or move them out",
        )  # fmt: skip
    if any(inside):
        return [(SPLITS[place[0].lower()], "".join(place[1:2])) for place in places]
    return [("", "".join(place[:1])) for place in places]


def _count_frames(path: Path) -> int:
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        return 1
    try:
        return len(ArrayFile(path))
    except MedvisionError:
        return 1  # decoding will name it, with all other unreadable files
