"""Labels that come in a table of their own, by patient, study or series."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medvision.data.manifest.csv_table import read_csv_table
from medvision.errors import MedvisionError, collect, did_you_mean

KEYS = ("series", "study", "patient")  # the finest first
SHOWN = 20


@dataclass(frozen=True)
class Sidecar:
    """What a table of labels says.

    Attributes:
        name: the file's own.
        key: what its ids are of, one of `KEYS`.
        ids: line number → id, as in the headers.
        labels: id → class name, "" = unlabelled.
    """

    name: str
    key: str
    ids: dict[int, str]
    labels: dict[str, str]


def read_sidecar(path: Path, columns: Mapping[str, str | None] | None = None) -> Sidecar:
    """Read a CSV with the columns `label` and `series`, `study` or `patient`; the finest counts.

    Args:
        path: the CSV.
        columns: ours → theirs.

    Raises:
        MedvisionError: no such columns, or an id with two labels; ids are named by their lines.
    """
    sheet = read_csv_table(Path(path))
    given = {ours: theirs for ours, theirs in (columns or {}).items() if theirs is not None}
    label = _choose(path, sheet, ("label",), given)
    key = _choose(path, sheet, [k for k in KEYS if k in given] or KEYS, given)
    ids = sheet[given.get(key, key)].str.strip()
    labels = sheet[given.get(label, label)].str.strip()
    _check_once(path, key, ids, labels)
    return Sidecar(
        Path(path).name, key, dict(zip(sheet.index, ids, strict=True)),
        dict(zip(ids[ids != ""], labels[ids != ""], strict=True)),
    )  # fmt: skip


def _choose(path: Path, sheet: pd.DataFrame, ours: Any, given: Mapping[str, str]) -> str:
    """Return the first of our columns that the sheet has."""
    for name in ours:
        if given.get(name, name) in sheet:
            return str(name)
    wanted = " or ".join(repr(given.get(name, name)) for name in ours)
    hint = did_you_mean(given.get(ours[0], ours[0]), sheet.columns)
    raise MedvisionError(
        f"labels={path} has no column {wanted}{hint}; say columns.{ours[0]}=NAME of the column"
    )


def _check_once(path: Path, key: str, ids: pd.Series, labels: pd.Series) -> None:
    seen: dict[str, int] = {}
    problems = []
    for line, each in ids[ids != ""].items():
        first = seen.setdefault(each, line)
        if labels[first] != labels[line]:
            problems.append(f"lines {first} and {line} give one {key} two labels")
    if problems:
        raise collect(f"labels={path}", problems, "Keep one line of each")


def join_labels(sidecar: Sidecar, table: pd.DataFrame) -> tuple[pd.Series, dict[str, Any]]:
    """Look the label of each row up by its raw id.

    Args:
        sidecar: as read.
        table: rows in the order of the manifest, with the column `sidecar.key`.

    Returns:
        Labels ("" = none) and what did not meet, by number: lines of the sidecar, and rows
        counted from 1.

    Raises:
        MedvisionError: no row meets.
    """
    ids = table[sidecar.key]
    labels = ids.map(sidecar.labels).fillna("").astype(str)
    known = set(ids) - {""}
    strays = [line for line, each in sidecar.ids.items() if each not in known]
    if len(strays) == len(sidecar.ids):
        raise MedvisionError(
            f"none of the {len(strays)} {sidecar.key} ids in labels={sidecar.name} stands in a "
            "header; give them as they are there, before hashing, leading zeros included"
        )
    bare = [number for number, label in enumerate(labels, start=1) if not label]
    facts = {
        "file": sidecar.name, "by": sidecar.key, "lines": len(sidecar.ids),
        "lines_without_images": len(strays), "such_lines": strays[:SHOWN],
        "images_without_label": len(bare), "such_images": bare[:SHOWN],
    }  # fmt: skip
    return labels, facts
