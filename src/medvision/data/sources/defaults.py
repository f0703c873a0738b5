"""How files are read where the user does not say: from what a few of them look like."""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

import medvision.files as files
from medvision.data.formats.decode import load
from medvision.data.formats.listing import list_files, list_images
from medvision.data.manifest.csv_table import read_csv_table
from medvision.data.manifest.manifest import MANIFEST
from medvision.data.sources.table import choose_csv
from medvision.errors import MedvisionError

_LOOKED_AT = 9  # files, evenly apart
_STEP, _MOST = 32, 128  # of the sides: nets halve them up to five times
_COLOURED = 0.01  # how far the channels must lie apart, as a share of the largest value
_SAFEST = "ct"  # no flip, little change of tone
_PRESETS = {"CT": "ct", "MR": "mr", "CR": "xray", "DX": "xray", "RG": "xray", "OP": "fundus",
            "SM": "microscopy", "GM": "microscopy"}  # fmt: skip
_PLAIN = ([_MOST, _MOST], 1)  # of what cannot be looked at so early


def choose_form(
    manifest: str | None, source: Mapping[str, Any] | None, columns: Mapping[str, Any] | None
) -> tuple[list[int], int]:
    """Choose `[H,W]` and channels for class folders or a table; colour is kept where files have it.

    The sides are those of the median file, rounded up to what nets can halve, at most 128.

    Args:
        manifest: a CSV; wins over the source.
        source: what `prepare` is called with.
        columns: ours → theirs, of the manifest.
    """
    held = dict(source or {})
    try:
        if manifest is not None:
            return _look_at(*_list_table(Path(manifest), columns))
        if held.get("input") is None:
            return _PLAIN
        if held.get("name") == "folder":
            return _look_at(*_list_folder(str(held["input"])))
        if held.get("name") == "table":
            place = choose_csv(files.find_input(str(held["input"])))
            return _look_at(*_list_table(place, held.get("columns")))
    except MedvisionError:  # told where the files are read
        pass
    return _PLAIN


def choose_augment(source: Mapping[str, Any] | None) -> str:
    """Name the preset for the modality of DICOM; of what tells none, the one that changes least."""
    held = dict(source or {})
    if held.get("name") != "dicom" or held.get("input") is None:
        return _SAFEST
    try:
        top = files.find_input(str(held["input"]))
    except MedvisionError:  # told where the files are read
        return _SAFEST
    told = (_read_modality(top / name) for name in islice(list_files(top), _LOOKED_AT))
    return _PRESETS.get(next(filter(None, told), ""), _SAFEST)


def _read_modality(path: Path) -> str:
    try:
        return str(dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).Modality)
    except (InvalidDicomError, AttributeError, OSError, ValueError):
        return ""


def _list_folder(place: str) -> tuple[Path, ...]:
    top = files.find_input(place)
    return _thin([top / name for name in list_images(top)[0]] if top.is_dir() else [])


def _list_table(place: Path, columns: Mapping[str, Any] | None) -> tuple[Path, ...]:
    place = files.find_input(place)
    place = place / MANIFEST if place.is_dir() else place
    column = str(dict(columns or {}).get("path") or "path")
    table = read_csv_table(place)
    named = table[column].tolist() if column in table else []
    return _thin([place.parent / name for name in named])


def _thin(paths: Sequence[Path]) -> tuple[Path, ...]:
    chosen = np.linspace(0, len(paths) - 1, min(len(paths), _LOOKED_AT)).round().astype(int)
    return tuple(paths[number] for number in chosen)


@cache
def _look_at(*paths: Path) -> tuple[list[int], int]:
    seen = [_measure(path) for path in paths]
    shapes = [(height, width) for height, width, _ in filter(None, seen)]
    if not shapes:
        return _PLAIN
    median = np.median(np.array(shapes), axis=0)
    sides = np.minimum(np.ceil(median / _STEP) * _STEP, _MOST).astype(int)
    coloured = sum(colour for _, _, colour in filter(None, seen))
    return sides.tolist(), 3 if 2 * coloured > len(shapes) else 1


def _measure(path: Path) -> tuple[int, int, bool] | None:
    """Return height, width and whether a file shows colours, not only holds three channels."""
    try:
        pixels = load(path, 0).pixels
    except MedvisionError:  # told when it is decoded
        return None
    height, width, channels = pixels.shape
    if channels != 3:
        return height, width, False
    apart = (pixels.max(axis=-1) - pixels.min(axis=-1)).mean()
    return height, width, bool(apart > _COLOURED * max(float(pixels.max()), 1.0))
