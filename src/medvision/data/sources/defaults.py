"""How files are read where the user does not say: from what a few of them look like."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

import medvision.files as files
from medvision.data.formats.decode import holds_frames, load
from medvision.data.formats.listing import is_image, list_files, list_images
from medvision.data.manifest.csv_table import read_csv_table
from medvision.data.manifest.manifest import MANIFEST
from medvision.data.sources.table import choose_csv
from medvision.errors import MedvisionError

_LOOKED_AT = 9  # files, evenly apart
_VOLUMES = 3
_STEP, _MOST = 32, 128  # of the sides: nets halve them up to five times
_COLOURED = 0.01  # how far the channels must lie apart, as a share of the largest value
_SAFEST = "ct"  # no flip, little change of tone
_PRESETS = {"CT": "ct", "MR": "mr", "CR": "xray", "DX": "xray", "RG": "xray", "OP": "fundus",
            "SM": "microscopy", "GM": "microscopy", "US": "ultrasound"}  # fmt: skip
_IN_FOLDERS = ("folder", "dicom", "nifti", "video")
_PLAIN = ([_MOST, _MOST], 1)  # of what cannot be looked at so early


def choose_form(
    manifest: str | None, source: Mapping[str, Any] | None, columns: Mapping[str, Any] | None
) -> tuple[list[int], int]:
    """Choose `[H,W]` and channels for the files there are; colour is kept where files have it.

    The sides are those of the median file, rounded up to what nets can halve, at most 128.

    Args:
        manifest: a CSV; wins over the source.
        source: what `prepare` is called with.
        columns: ours → theirs, of the manifest.
    """
    held = dict(source or {})
    with suppress(MedvisionError):  # told where the files are read
        if (table := _find_table(manifest, held, columns)) is not None:
            return _look_at(*_list_table(*table))
        if held.get("input") is not None and held.get("name") in _IN_FOLDERS:
            return _look_at(*_list_folder(str(held["input"]), str(held["name"])))
    return _PLAIN


def choose_augment(
    manifest: str | None, source: Mapping[str, Any] | None, columns: Mapping[str, Any] | None
) -> str:
    """Name the preset for the modality; of what tells none, the one that changes least.

    The modality is what the headers of DICOM say, or the column `modality` of a table.

    Args:
        manifest: a CSV; wins over the source.
        source: what `prepare` is called with.
        columns: ours → theirs, of the manifest.
    """
    held = dict(source or {})
    with suppress(MedvisionError):  # told where the files are read
        if (table := _find_table(manifest, held, columns)) is not None:
            return _name_preset(_read_column(*table, "modality")[1])
        if held.get("input") is not None and held.get("name") == "dicom":
            top = files.find_input(str(held["input"]))
            return _name_preset(
                _read_modality(top / name) for name in islice(list_files(top), _LOOKED_AT)
            )
    return _SAFEST


def _find_table(
    manifest: str | None, held: Mapping[str, Any], columns: Mapping[str, Any] | None
) -> tuple[Path, Mapping[str, Any] | None] | None:
    """Return the table that rows come from and its names of columns; None where none is read."""
    if manifest is not None:
        return Path(manifest), columns
    if held.get("name") == "table" and held.get("input") is not None:
        return choose_csv(files.find_input(str(held["input"]))), held.get("columns")
    return None


def _name_preset(modalities: Iterable[str]) -> str:
    """Name the preset of the first modality that is told."""
    return _PRESETS.get(next(filter(None, modalities), "").upper(), _SAFEST)


def _read_modality(path: Path) -> str:
    try:
        return str(dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).Modality)
    except (InvalidDicomError, AttributeError, OSError, ValueError):
        return ""


@cache  # size and channels are asked for apart, each time the configuration is composed
def _list_folder(place: str, source: str) -> tuple[Path, ...]:
    """Choose files of a folder; of volumes few, each of which is unpacked whole."""
    top = files.find_input(place)
    if not top.is_dir():
        return _thin([top] if source in ("nifti", "video") else [])
    if source == "folder":
        return _thin([top / name for name in list_images(top)[0]])
    there = sorted(name for name in list_files(top) if is_image(name, ("",)))
    if source == "dicom":
        return _thin([top / name for name in there])
    return _thin([top / name for name in there if holds_frames(top / name)], most=_VOLUMES)


def _list_table(place: Path, columns: Mapping[str, Any] | None) -> tuple[Path, ...]:
    place, named = _read_column(place, columns, "path")
    return _thin([place.parent / name for name in named])


def _read_column(
    place: Path, columns: Mapping[str, Any] | None, name: str
) -> tuple[Path, list[str]]:
    """Read a column of a table, none where it lacks it, and say where the table lies."""
    place = files.find_input(place)
    place = place / MANIFEST if place.is_dir() else place
    column = str(dict(columns or {}).get(name) or name)
    table = read_csv_table(place)
    return place, table[column].astype(str).tolist() if column in table else []


def _thin(paths: Sequence[Path], most: int = _LOOKED_AT) -> tuple[Path, ...]:
    chosen = np.linspace(0, len(paths) - 1, min(len(paths), most)).round().astype(int)
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
