"""The rules for the rows of a manifest."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from medvision.data.manifest.card import ORIGINS
from medvision.data.manifest.columns import REALS, REQUIRED, TEXTS, find_file_columns, is_ours
from medvision.data.manifest.csv_table import format_lines
from medvision.errors import did_you_mean
from medvision.target import Target

SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""The usual spellings of the parts, in lower case."""


def normalise(
    chosen: pd.DataFrame, folder: Path, target: type[Target] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Trim cells, turn numbers into numbers, spell splits and paths one way."""
    table, problems = chosen.copy(), []
    for name in TEXTS:
        if name not in table:
            table[name] = ""
    named = find_file_columns(table, target)
    for name in (str(name) for name in table if is_ours(str(name), target) and name not in named):
        table[name] = table[name].str.strip()
    for name in named:
        slashed = {text: _slashes(text, folder) for text in table[name].unique()}
        table[name] = table[name].map(slashed)
    parts = table["split"].str.lower()
    table["split"] = parts.map(SPLITS).fillna(table["split"])
    for name in ("fold", "position"):
        if name in table:
            table[name], found = _whole(table[name], name)
            problems += found
    frame = table["frame"] if "frame" in table else pd.Series("", index=table.index)
    whole, found = _whole(frame, "frame")
    table["frame"] = whole.fillna(0).astype("int64")
    problems += found
    for name in (name for name in REALS if name in table):
        table[name], found = _real(table[name], name)
        problems += found
    return table, problems


def _slashes(text: str, folder: Path) -> str:
    """Spell a path one way; a table from Windows has backslashes."""
    if "\\" in text and not (folder / text).exists():
        text = text.replace("\\", "/")
    return PurePosixPath(text).as_posix() if text else ""


def _whole(cells: pd.Series, name: str) -> tuple[pd.Series, list[str]]:
    """Read whole numbers; pandas writes them as 3.0 where some are missing."""
    low = "-?" if name == "position" else ""
    fits = cells.str.fullmatch(rf"{low}[0-9]{{1,15}}(\.0*)?") | (cells == "")
    kind = "a whole number" if low else "a whole number from 0"
    problems = format_lines(f"`{name}` must be {kind}", cells[~fits].items())
    numbers = pd.to_numeric(cells.where(fits & (cells != ""), "nan"), errors="coerce")
    return numbers.astype("Int64"), problems


def _real(cells: pd.Series, name: str) -> tuple[pd.Series, list[str]]:
    numbers = pd.to_numeric(cells.where(cells != "", "nan"), errors="coerce").astype("float64")
    bad = (cells != "") & ~np.isfinite(numbers)
    return numbers, format_lines(f"`{name}` must be a number", cells[bad].items())


def check(
    table: pd.DataFrame, given: pd.DataFrame, folder: Path, target: type[Target] | None = None
) -> list[str]:
    """Check every row of a normalised table.

    Args:
        table: normalised, its index the line number.
        given: the sheet it came from; a missing column is told elsewhere.
        folder: what paths are relative to.
        target: whose files are looked for as well.

    Returns:
        All problems, one sentence a rule.
    """
    problems = []
    for name in REQUIRED:
        if name in given:
            problems += format_lines(
                f"`{name}` is empty", table.loc[table[name] == "", name].items()
            )
    problems += _check_words(table["split"], tuple(dict.fromkeys(SPLITS.values())), SPLITS)
    problems += _check_words(table["origin"], ORIGINS, ORIGINS)
    if "path" in given:
        twice = table.duplicated(["path", "frame", "channel"])
        rule = "a row repeats `path`, `frame` and `channel` of an earlier one"
        problems += format_lines(rule, table.loc[twice, "path"].items())
    for name in find_file_columns(given, target):
        problems += _check_files(table.loc[table[name] != "", name], folder)
    return problems + _check_series(table)


def _check_words(words: pd.Series, allowed: Sequence[str], spellings: Iterable[str]) -> list[str]:
    bad = words[~words.isin([*allowed, ""])]
    near = did_you_mean(str(bad.iloc[0]).lower(), spellings) if len(bad) else ""
    rule = f"`{words.name}` must be {', '.join(allowed)} or empty"
    return [problem + near for problem in format_lines(rule, bad.items())]


def _check_files(names: pd.Series, folder: Path) -> list[str]:
    # os.path.isfile takes any text for an answer; Path.is_file raises on an overlong name.
    there = {name: os.path.isfile(folder / name) for name in names.unique()}  # noqa: PTH113
    rule = f"`{names.name}` must be a file, as seen from {folder}"
    return format_lines(rule, names[~names.map(there).astype(bool)].items())


def _check_series(table: pd.DataFrame) -> list[str]:
    """Without a `series_label`, the label of a series is the label of its rows."""
    if "series_label" in table or (table["patient"] == "").all():
        return []
    said = table[(table["series"] != "") & (table["label"] != "")]
    first = said.groupby(["dataset", "patient", "series"])["label"].transform("first")
    rule = (
        "rows of a series must agree on `label` (for labels of slices give the series its own in "
        "a `series_label` column, or leave series out with columns.series=null)"
    )
    return format_lines(rule, said.loc[said["label"] != first, "label"].items())
