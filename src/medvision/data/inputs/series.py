"""Series nobody labelled: a table that tells them, volumes, clips, or a tree of DICOM."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from medvision.data.formats.nifti import SUFFIXES as VOLUMES
from medvision.data.formats.video import SUFFIXES as CLIPS
from medvision.data.inputs.files import TABLES, list_all
from medvision.data.manifest.manifest import read_manifest
from medvision.data.manifest.path_map import reveal_paths
from medvision.data.sources import nifti, video
from medvision.data.sources.dicom import source as dicom
from medvision.data.units.series import Slices, add_difference, index_slices
from medvision.data.units.series_form import SeriesForm, check_series_alike
from medvision.errors import MedvisionError

WAY_OUT = "give a CSV with the columns path, series and position, and channel if there are several"


@dataclass(frozen=True)
class NewSeries:
    """Series to predict.

    Attributes:
        folder: what paths are told from.
        table: their rows, `path` absolute, counted from 0.
        slices: which rows show each slice.
        notes: what was left out or could not be known.
        others: number of files in the folder that belong to no series.
    """

    folder: Path
    table: pd.DataFrame
    slices: Slices
    notes: list[str]
    others: int = 0

    def rows(self, number: int) -> np.ndarray:
        """Return the rows of one series, ascending."""
        start, end = self.slices.start[number : number + 2]
        return np.unique(self.slices.rows[start:end])

    def facts(self) -> pd.DataFrame:
        """Return what is told of each series: its first file, its name, its number of slices."""
        first = self.table.loc[self.slices.first, ["path", "series"]].reset_index(drop=True)
        seen = [Path(os.path.relpath(path, self.folder)).as_posix() for path in first["path"]]
        return first.assign(path=seen, slices=np.diff(self.slices.start))


def find_series(
    source: Path, columns: Mapping[str, Any], form: SeriesForm, exclude: bool = False
) -> NewSeries:
    """Find the series of a table, a folder or a file, as a model reads them.

    Args:
        source: a CSV with `path`, `series` and `position`; a volume, a clip, or a folder of those,
            a series each; or a folder of DICOM.
        columns: ours → theirs, for a CSV.
        form: of the model.
        exclude: leave out what of a DICOM folder cannot be used.

    Raises:
        MedvisionError: nothing that tells a series, or faults of series (`settle_series`).
    """
    others = 0
    if source.suffix.lower() in TABLES and source.is_file():
        theirs = {name: None if word is None else str(word) for name, word in columns.items()}
        unread = dict.fromkeys(("label", "series_label", "split", "fold", "mask"))
        named = theirs.get("series") or "series"  # whose they are does not matter here
        manifest = read_manifest(source, {"patient": named} | unread | theirs)
        table = manifest.table.assign(path=[str(path) for path in manifest.files()])
    elif columns:
        raise MedvisionError(f"columns.… is for an input=FILE.csv, and {source} is none")
    else:
        table, others = _find_in_files(source, form, exclude)
    settled = check_series_alike(table, form)
    kept = settled.table.reset_index(drop=True)
    slices = index_slices(kept, settled.form)
    folder = source if source.is_dir() else source.parent
    return NewSeries(folder, kept, slices, settled.notes + slices.describe(), others)


def _find_in_files(source: Path, form: SeriesForm, exclude: bool) -> tuple[pd.DataFrame, int]:
    """Return the rows of all volumes and clips or, where there are none, of DICOM series."""
    if form.channels:
        raise MedvisionError(
            f"this model reads the channels {', '.join(form.channels)}, which files do not tell; "
            f"{WAY_OUT}, as medvision prepare writes it"
        )
    names, others = ([source.name], 0) if source.is_file() else list_all(source)
    kinds = Counter(map(_tell_kind, names))
    alone: dict[str, Any] = {"columns": {"patient": "path"}, "labels": "none"}
    parts = [video.find(source, **alone).table] if kinds["clips"] else []
    parts += [nifti.find(source, **alone).table] if kinds["volumes"] else []
    if parts:
        others += kinds["images"]
    elif source.is_file():
        raise MedvisionError(f"{source} does not tell which series it belongs to; {WAY_OUT}")
    else:
        series, left_out = _find_dicom(source, form, exclude)
        parts, others = [series], others + left_out
    found = pd.concat(parts, ignore_index=True)
    texts = [name for name in ("series", "channel", "dataset", "label") if name in found]
    found[texts] = found[texts].fillna("")
    blank = {name: "" for name in ("channel", "dataset", "label") if name not in found}
    return found.assign(**blank), others


def _find_dicom(source: Path, form: SeriesForm, exclude: bool) -> tuple[pd.DataFrame, int]:
    """Return the rows of DICOM series, and how many files and series were left out.

    Gaps that the model may serve are left to `settle_series`.
    """
    try:
        found = dicom.find(
            source,
            columns={"patient": "path"},
            on_gap="stop" if form.on_gap == "error" else "keep",
            on_odd="exclude" if exclude else "stop",
        )
    except MedvisionError as error:
        raise MedvisionError(f"{error}; for images of other kinds {WAY_OUT}") from error
    return found.table, len(found.facts["excluded"])


def _tell_kind(name: str) -> str:
    lower = name.lower()
    return "clips" if lower.endswith(CLIPS) else "volumes" if lower.endswith(VOLUMES) else "images"


def tell_files(found: NewSeries) -> tuple[list[np.ndarray], list[Path], list[int]]:
    """Return the rows of each series as they are best read, and file and frame of all of them.

    Rows of one file stand together, from front to back: it is then opened once a series.
    """
    place = found.table.assign(file=pd.factorize(found.table["path"])[0])[["file", "frame"]]
    rows = []
    for number in range(len(found.slices.first)):
        own = found.rows(number)
        rows.append(own[np.lexsort(place.loc[own, ["frame", "file"]].to_numpy().T)])
    order = np.concatenate(rows)
    paths = reveal_paths(found.table["path"].to_numpy()[order].tolist())
    return rows, [Path(path) for path in paths], found.table["frame"].to_numpy()[order].tolist()


def put_together(
    found: NewSeries, rows: Sequence[np.ndarray], images: Iterator[Tensor]
) -> Iterator[dict[str, Tensor]]:
    """Make a batch of each series out of its images.

    Args:
        found: the series.
        rows: of each series, as `tell_files` gives them.
        images: `[1,C,H,W]` in [0,1], one a row, in that order; they may end early, at a fault.

    Yields:
        `image` `[1,S,C,H,W]`, `length` `[1]` and `step` `[1,S]`.
    """
    for number, own in enumerate(rows):
        read = [image for _, image in zip(own, images, strict=False)]
        if len(read) < len(own):
            return
        strips = found.slices.lay_out(found.slices.first[number : number + 1])
        by_row = np.argsort(own)
        places = by_row[np.searchsorted(own[by_row], strips.rows)]  # [V,P]
        stacked = torch.cat(read)[torch.from_numpy(places)]  # [V,P,c,H,W]
        image = add_difference(stacked.flatten(1, 2), found.slices.form)
        yield {
            "image": image[None],
            "length": torch.from_numpy(strips.length),
            "step": torch.from_numpy(strips.step),
        }
