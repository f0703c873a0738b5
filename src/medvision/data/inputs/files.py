"""Images nobody labelled: one file, a folder, or a table that names them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from medvision.data.formats.listing import (
    SUFFIXES,
    check_names,
    count_frames,
    is_dicom_image,
    is_image,
    list_files,
)
from medvision.data.formats.nifti import SUFFIXES as VOLUMES
from medvision.data.formats.video import SUFFIXES as CLIPS
from medvision.data.manifest.columns import COLUMNS, choose_columns
from medvision.data.manifest.csv_table import format_lines, read_csv_table
from medvision.data.manifest.path_map import reveal_paths
from medvision.data.manifest.rules import normalise
from medvision.errors import MedvisionError, collect

TABLES = (".csv", ".tsv")
ENDINGS = (*SUFFIXES, *CLIPS, *VOLUMES, ".hdr")  # of a pair, which is refused by name


class NewRows(NamedTuple):
    """Rows that nobody annotated.

    Attributes:
        folder: what the paths are seen from.
        table: `path` and `frame`, in the order of the output.
        others: number of files in the folder that are none of them.
    """

    folder: Path
    table: pd.DataFrame
    others: int = 0


def find_images(source: Path, columns: Mapping[str, Any]) -> NewRows:
    """Find the images of a file, a folder or a table.

    Raises:
        MedvisionError: no images, a broken table, or names a CSV cannot hold.
    """
    if source.suffix.lower() in TABLES and source.is_file():
        return _read_table(source, columns)
    if columns:
        raise MedvisionError(f"columns.… is for an input=FILE.csv, and {source} is none")
    if not source.is_dir():
        return NewRows(source.parent, _list_frames(source.parent, [source.name]))
    names, others = list_all(source)
    return NewRows(source, _list_frames(source, names), others)


def list_all(top: Path) -> tuple[list[str], int]:
    """Return images, volumes, clips and DICOM of any name below `top`, and the number of others.

    Raises:
        MedvisionError: there is none, or a name that no CSV can hold.
    """
    listed = sorted(list_files(top))
    names = [name for name in listed if is_image(name, ENDINGS) or _is_nameless(top, name)]
    return check_names(top, names, listed, f"{' '.join(ENDINGS)} and DICOM of any name")


def _is_nameless(top: Path, name: str) -> bool:
    """Tell DICOM images of any name; hidden files are none."""
    return is_image(name, ("",)) and is_dicom_image(top / name)


def _read_table(path: Path, columns: Mapping[str, Any]) -> NewRows:
    """Read `path` and `frame` of a CSV; missing files are told when they are read."""
    unread: dict[str, str | None] = dict.fromkeys(set(COLUMNS) - {"path", "frame"})
    wanted = {ours: None if name is None else str(name) for ours, name in columns.items()}
    foreign = [f"columns.{ours}" for ours in wanted if ours not in ("path", "frame")]
    if foreign:
        raise MedvisionError(f"{', '.join(foreign)}: predict reads columns.path and columns.frame")
    given, _, problems = choose_columns(read_csv_table(path), unread | {"patient": "path"} | wanted)
    if not problems:
        table, problems = normalise(given, path.parent)
        empty = table.loc[table["path"] == "", "path"]
        problems += format_lines("`path` is empty", empty.items())
    if problems:
        raise collect(str(path), problems, "Mend this and run again", show=30)
    if "frame" in given and (given["frame"] != "").any():
        return NewRows(path.parent, table[["path", "frame"]].reset_index(drop=True))
    return NewRows(path.parent, _list_frames(path.parent, list(table["path"])))


def _list_frames(folder: Path, names: Sequence[str]) -> pd.DataFrame:
    """Give every frame of every file a row."""
    with ThreadPoolExecutor() as pool:
        counts = list(pool.map(count_frames, [folder / name for name in reveal_paths(names)]))
    rows = [(name, frame) for name, n in zip(names, counts, strict=True) for frame in range(n)]
    return pd.DataFrame(rows, columns=["path", "frame"])
