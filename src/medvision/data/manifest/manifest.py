"""The manifest: one table, one row an image, and its card; read, checked and written."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

import medvision.files as files
from medvision.cells import guard_cells
from medvision.data.manifest.card import Card, read_card
from medvision.data.manifest.columns import (
    COLUMNS,
    choose_columns,
    find_file_columns,
    find_readers,
    is_ours,
    names_files,
)
from medvision.data.manifest.csv_table import read_csv_table
from medvision.data.manifest.path_map import reveal_paths
from medvision.data.manifest.patient_ids import normalise_id, note_ids, take_normalise
from medvision.data.manifest.pseudonyms import describe_rule, patients_from_names
from medvision.data.manifest.rules import check, normalise
from medvision.errors import MedvisionError, collect
from medvision.target import Target

__all__ = ["Card", "Manifest", "read_manifest", "write_manifest"]

MANIFEST, CARD = "manifest.csv", "card.json"


@dataclass
class Manifest:
    """A checked table and its card.

    Attributes:
        path: the CSV.
        table: one row an image. Always there: text `path` (relative to the CSV, with `/`),
            `patient`, `label`, `split`, `dataset`, `series`, `channel`, `origin` ("" = missing)
            and int64 `frame`; where the file has them: `fold`, `position` (Int64, may be missing),
            `position_mm`, `time_s`, `time`, `event` (float64, nan = missing), the rest text.
        carried: columns that are none of ours and stay unread.
        digest: SHA-256 of the columns of ours and the classes, wherever the file lies.
        notes: what a reader of the report should know.
        file_columns: those that name files, `path` first.
    """

    path: Path
    table: pd.DataFrame
    card: Card
    carried: list[str]
    digest: str
    notes: list[str] = field(default_factory=list)
    file_columns: list[str] = field(default_factory=lambda: ["path"])

    def files(self) -> list[Path]:
        """Return the image file of each row, absolute."""
        folder = self.path.parent
        return [folder / path for path in self.table["path"]]


def read_manifest(
    path: Path,
    columns: Mapping[str, str | None] | None = None,
    target: type[Target] | None = None,
) -> Manifest:
    """Read and check a manifest; all problems are told at once, with their lines.

    Args:
        path: the CSV, or the folder of a `manifest.csv`.
        columns: ours → theirs, for a foreign table; None leaves out a column of the file;
            `patient` may also be `path` or a pattern (`patients_from_names`); and
            `patient_normalise`, whether ids that differ only in writing are one.
        target: whose columns are read as well.

    Raises:
        MedvisionError: the file, its card, or any of its lines breaks a rule of the manifest.
    """
    path = Path(path).absolute()
    path = path / MANIFEST if path.is_dir() else path
    columns, joins = take_normalise(columns or {})
    given, rule, problems = choose_columns(read_csv_table(path), columns, target)
    place = path.with_name(CARD)
    own_card = place.exists()
    card = read_card(place)
    for name in {*find_file_columns(given, target), *find_readers(given)}:
        given[name] = reveal_paths(given[name].tolist())  # what a run wrote names no file
    table, found = normalise(given, path.parent, target)
    problems += found
    if rule and "path" in given:
        problems += _tell_patients(table, rule)
    if joins:
        table["patient"] = table["patient"].map(normalise_id)
    problems += check(table, given, path.parent, target)
    if problems:
        way_out = "Lines are counted from the header, line 1; mend this and run again"
        raise collect(str(path), problems, way_out, show=30)
    if columns.get("patient"):
        told = describe_rule(rule) if rule else f"the column {columns['patient']!r}"
        card = replace(card, patient_rule=told, key=None)
    if card.key is None:  # nobody's pseudonym stands there, perhaps a name
        table = table.drop(columns="person_key", errors="ignore")
    if columns.get("label") and not _fits(table["label"], card):
        card = replace(card, classes=None)
    carried = [str(name) for name in table if not is_ours(str(name), target)]
    # A folder's name is no content: a manifest that was moved keeps its digest.
    code = _digest(table.drop(columns=carried), card, card.dataset if own_card else "")
    for name, value in (("dataset", card.dataset), ("origin", card.origin)):
        table[name] = table[name].mask(table[name] == "", value)
    table = table.reset_index(drop=True)
    notes, named = _note_equal_ids(table), find_file_columns(table, target)
    readers = (name for name in find_readers(table) if name not in named)
    named += [name for name in readers if names_files(table[name], path.parent)]
    notes += note_ids(table) if card.key is None else []  # pseudonyms differ as a whole
    return Manifest(path, table, card, carried, code, notes, named)


def _fits(labels: pd.Series, card: Card) -> bool:
    """Tell whether a column the user chose holds any of the card's classes; else it has its own."""
    found = {name for label in labels.unique() for name in str(label).split("|")}
    return not card.classes or not found.isdisjoint(card.classes)


def _tell_patients(table: pd.DataFrame, rule: str) -> list[str]:
    """Fill in the patients by rule; return what is wrong with it."""
    try:
        table["patient"] = patients_from_names(list(table["path"]), list(table["frame"]), rule)
    except MedvisionError as error:
        return [str(error)]
    return []


def write_manifest(
    folder: Path, table: pd.DataFrame, card: Card, named: Collection[str] = ()
) -> Path:
    """Write `manifest.csv` and `card.json`; columns that say nothing are left out.

    Args:
        folder: made where it is missing.
        table: columns of ours and others; absolute paths are made relative to `folder`.
        card: goes beside it.
        named: columns that name files, beside those that always do.

    Returns:
        The path of the CSV.

    Raises:
        MedvisionError: the system refused to write.
    """
    folder = Path(folder).resolve()
    written = table.copy()
    for name in (*find_file_columns(written), *named):
        written[name] = [_relative(path, folder) for path in written[name].fillna("")]
    silent = {"frame": "0", "dataset": card.dataset, "origin": card.origin}
    for name in (name for name in COLUMNS if name in written and name != "path"):
        said = written[name].astype(object).fillna("").astype(str).unique()
        if set(said) <= {"", silent.get(name, "")}:
            del written[name]
    ours = [name for name in COLUMNS if name in written]
    written = written[[*ours, *(name for name in written if name not in ours)]]
    # The manifest last: where it is, its card is.
    files.write_json(folder / CARD, card.to_json())
    text = guard_cells(written).to_csv(index=False, lineterminator="\n")
    return files.write_text(folder / MANIFEST, text)


def _relative(path: str, folder: Path) -> str:
    if not Path(path).is_absolute():
        return path
    return Path(os.path.relpath(path, folder)).as_posix()


def _digest(table: pd.DataFrame, card: Card, dataset: str) -> str:
    # Patients and rows say it all: a manifest of before has no `person_key`, and is the same.
    ordered = table[sorted(table.columns.difference(["person_key"]))]
    named = ordered.assign(dataset=ordered["dataset"].mask(ordered["dataset"] == "", dataset))
    return files.digest(named.to_csv(index=False, lineterminator="\n"), *(card.classes or []))


def _note_equal_ids(table: pd.DataFrame) -> list[str]:
    """A patient is (dataset, patient), so equal ids may hide one person in two data sets."""
    names = table[["dataset", "patient"]].drop_duplicates()["patient"]
    equal = names[names.duplicated()].unique()
    if len(equal) == 0:
        return []
    return [
        f"{len(equal)} patient ids stand under more than one dataset name (such as {equal[0]!r}) "
        "and count as different patients"
    ]
