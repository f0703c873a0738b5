"""Images in class folders, with or without split folders."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pandas as pd

from medvision.data.formats.listing import count_frames, list_images
from medvision.data.manifest.pseudonyms import NO_RULE, describe_rule, patients_from_names
from medvision.data.manifest.rules import SPLITS
from medvision.data.sources.found import Found, read_patient_rule
from medvision.errors import MedvisionError, collect


def find(
    input: Path,  # noqa: A002 -- the command's own word
    *,
    columns: Mapping[str, str | None] | None = None,
) -> Found:
    """Find images by folder: `[split/]class/…/image`, or `class/split/…/image`.

    Split folders are called train, val or test in the usual spellings; images in no class folder
    are unlabelled. An npy or npz file gives a row a frame.

    Args:
        input: the folder on top.
        columns: `patient` alone: `path` (each image is its own patient) or a pattern with one
            group, searched in the file name as seen from `input`.

    Raises:
        MedvisionError: no folder, no image, no patient rule or one that does not fit, images
            outside split folders.
    """
    patient = read_patient_rule(columns, "folder")
    top = Path(input).absolute()
    if not top.is_dir():
        raise MedvisionError(f"{top} is no folder; source=folder needs input=DIR")
    names, others = list_images(top)
    if patient is None:
        raise MedvisionError(
            f"no patient rule was given for {top}, where files are called {names[0]!r}; {NO_RULE}"
        )
    table = _tabulate(top, names)
    table["patient"] = patients_from_names(list(table.pop("name")), list(table["frame"]), patient)
    facts = {"skipped": others}
    return Found(table, top.name, describe_rule(patient), facts=facts)


def _tabulate(top: Path, names: list[str]) -> pd.DataFrame:
    rows = [
        (str(top / name), name, label, split, frame)
        for name, (split, label) in zip(names, read_places(names, top), strict=True)
        for frame in range(count_frames(top / name))
    ]
    return pd.DataFrame(rows, columns=["path", "name", "label", "split", "frame"])


def read_places(names: list[str], top: Path) -> list[tuple[str, str]]:
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
