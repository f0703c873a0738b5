"""Files of many images each, volumes and clips: whose each is, its class and its part."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

import medvision.files as files
from medvision.data.formats.listing import list_images
from medvision.data.manifest.csv_table import read_csv_table
from medvision.data.manifest.pseudonyms import NO_RULE, describe_rule, is_rule, patients_from_names
from medvision.data.sources.folder import read_places
from medvision.data.sources.found import Found
from medvision.data.sources.label_table import Sidecar, join_labels, read_sidecar
from medvision.errors import MedvisionError

IDS = ("series", "patient")
_UNLABELLED = "none"


def find_recordings(
    place: Path, endings: tuple[str, ...], kind: str
) -> tuple[Path, list[str], int]:
    """Return the folder, the files below it, sorted, as seen from it, and the number of others.

    A file alone is the only one of its folder.

    Raises:
        MedvisionError: no folder, or no such file in it.
    """
    if place.is_file() and place.name.lower().endswith(endings):
        return place.parent, [place.name], 0
    if not place.is_dir():
        raise MedvisionError(f"{place} is no folder; source={kind} needs input=DIR")
    return place, *list_images(place, endings)


def describe_recordings(
    top: Path,
    names: Sequence[str],
    columns: Mapping[str, str | None],
    labels: str | Path | None,
    noun: str,
) -> Found:
    """Make a row a file, with its `name`, patient, label and split.

    Args:
        top: what names are seen from.
        names: of the files.
        columns: `patient` is a rule; `label` and `series` name columns of the table of labels.
        labels: None takes the class folders, as source=folder does; `none` leaves all unlabelled;
            else a CSV with the columns `label` and `path`, `series` (file names, with or without
            their endings) or `patient`. Paths are seen from `top` or from the CSV.
        noun: what a file is called.

    Raises:
        MedvisionError: no patient rule or one that does not fit, folders that are no classes, a
            CSV that does not fit.
    """
    rule, theirs = _tell_rule(top, names, dict(columns), labels)
    table = pd.DataFrame({"name": names, "path": [str(top / name) for name in names]})
    table["patient"] = patients_from_names(names, [0] * len(names), rule)
    facts: dict[str, Any] = {}
    if labels is None:
        split, label = zip(*read_places(list(names), top), strict=True)
        table["label"], table["split"] = list(label), list(split)
        _check_classes(top, table)
    elif labels == _UNLABELLED:
        table["label"] = ""
    else:
        table["label"], facts["labels"] = _read_labels(table, Path(labels), theirs)
    told = describe_rule(rule).replace("each image", f"each {noun}")
    return Found(table, top.name, told, facts=facts)


def _tell_rule(
    top: Path, names: Sequence[str], columns: dict[str, str | None], labels: object
) -> tuple[str, dict[str, str | None]]:
    """Part the patient rule from the names of the columns of a table of labels."""
    rule = columns.pop("patient", None)
    read = {"label", "series"} if labels not in (None, _UNLABELLED) else set()
    if unread := sorted(set(columns) - read):
        raise MedvisionError(
            f"columns.{unread[0]} means nothing here; columns.patient is a rule, and with "
            "labels=FILE.csv columns.label and columns.series name columns of it"
        )
    if rule is None or not is_rule(rule):
        told = "no patient rule was given" if rule is None else f"columns.patient={rule} is no rule"
        raise MedvisionError(f"{told} for {top}, where files are called {names[0]!r}; {NO_RULE}")
    return rule, columns


def _check_classes(top: Path, table: pd.DataFrame) -> None:
    """Refuse folders that are patients: as labels they would be learnt, and name people."""
    held = table[table["label"] != ""].groupby("label")["patient"].nunique()
    if len(held) > 2 and (held == 1).all():
        raise MedvisionError(
            f"each of the {len(held)} folders in {top} holds one patient only, so they are no "
            "classes; say labels=FILE.csv, or labels=none to leave all unlabelled"
        )


def _read_labels(
    table: pd.DataFrame, path: Path, columns: Mapping[str, str | None]
) -> tuple[pd.Series, dict[str, Any]]:
    place = files.find_input(path)
    named = read_csv_table(place).columns
    by_path = "path" in named and not {"series", columns.get("series", "series")} & {*named}
    sidecar = read_sidecar(place, {"series": "path", **columns} if by_path else columns)
    if by_path:
        sidecar = _place_names(sidecar, place.parent, Path(table["path"].iloc[0]), table["name"])
    if sidecar.key not in IDS:
        raise MedvisionError(
            f"labels={path} goes by {sidecar.key}, which these files do not tell; "
            f"give it a column {' or '.join(IDS)}"
        )
    known = table["name"]
    if not set(known) & set(sidecar.ids.values()):  # named without their endings
        known = known.map(bare_name)
    return join_labels(sidecar, table.assign(series=known))


def _place_names(sidecar: Sidecar, folder: Path, first: Path, names: pd.Series) -> Sidecar:
    """Turn paths, absolute or seen from the folder of their table, into names seen from the top.

    Args:
        sidecar: whose ids are paths.
        folder: of the table.
        first: the path of the first recording.
        names: of all recordings; what is one already stays.
    """
    top = first.parents[len(PurePosixPath(names.iloc[0]).parts) - 1]
    known = {*names, *names.map(bare_name)}

    def place(path: str) -> str:
        if path in known:
            return path
        seen = Path(os.path.normpath(folder / path))
        return seen.relative_to(top).as_posix() if seen.is_relative_to(top) else path

    ids = {line: place(path) for line, path in sidecar.ids.items()}
    return replace(sidecar, ids=ids, labels={place(k): v for k, v in sidecar.labels.items()})


def bare_name(name: str) -> str:
    """Return a file's name without its ending, `.nii.gz` counting as one."""
    whole = name[: -len(".gz")] if name.lower().endswith(".nii.gz") else name
    return whole.rpartition(".")[0]
