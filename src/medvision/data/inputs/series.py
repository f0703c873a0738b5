"""Series nobody labelled: a table that tells them, volumes, clips, or a tree of DICOM."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medvision.data.formats.nifti import SUFFIXES as VOLUMES
from medvision.data.formats.video import SUFFIXES as CLIPS
from medvision.data.inputs.files import TABLES, NewRows, list_all
from medvision.data.manifest.manifest import read_manifest
from medvision.data.sources import nifti, video
from medvision.data.sources.dicom import source as dicom
from medvision.data.units.unit import Unit
from medvision.errors import MedvisionError

WAY_OUT = "give a CSV with the columns path, series and position, and channel if there are several"


def find_series(
    source: Path, columns: Mapping[str, Any], unit: Unit, exclude: bool = False
) -> NewRows:
    """Find the series of a table, a folder or a file, as a model reads them.

    Args:
        source: a CSV with `path`, `series` and `position`; a volume, a clip, or a folder of those,
            a series each; or a folder of DICOM.
        columns: ours → theirs, for a CSV.
        unit: of the model.
        exclude: leave out what of a DICOM folder cannot be used.

    Returns:
        rows whose paths are absolute.

    Raises:
        MedvisionError: nothing that tells a series.
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
        table, others = _find_in_files(source, unit, exclude)
    return NewRows(source if source.is_dir() else source.parent, table, others)


def _find_in_files(source: Path, unit: Unit, exclude: bool) -> tuple[pd.DataFrame, int]:
    """Return the rows of all volumes and clips or, where there are none, of DICOM series."""
    if unit.form.channels:
        raise MedvisionError(
            f"this model reads the channels {', '.join(unit.form.channels)}, which files do not "
            f"tell; {WAY_OUT}, as medvision prepare writes it"
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
        series, left_out = _find_dicom(source, unit, exclude)
        parts, others = [series], others + left_out
    found = pd.concat(parts, ignore_index=True)
    texts = [name for name in ("series", "channel", "dataset", "label") if name in found]
    found[texts] = found[texts].fillna("")
    blank = {name: "" for name in ("channel", "dataset", "label") if name not in found}
    return found.assign(**blank), others


def _find_dicom(source: Path, unit: Unit, exclude: bool) -> tuple[pd.DataFrame, int]:
    """Return the rows of DICOM series, and how many files and series were left out.

    Gaps that the model may serve are left to its unit.
    """
    try:
        found = dicom.find(
            source,
            columns={"patient": "path"},
            on_gap="stop" if unit.form.on_gap == "error" else "keep",
            on_odd="exclude" if exclude else "stop",
        )
    except MedvisionError as error:
        raise MedvisionError(f"{error}; for images of other kinds {WAY_OUT}") from error
    return found.table, len(found.facts["excluded"])


def _tell_kind(name: str) -> str:
    lower = name.lower()
    return "clips" if lower.endswith(CLIPS) else "volumes" if lower.endswith(VOLUMES) else "images"
