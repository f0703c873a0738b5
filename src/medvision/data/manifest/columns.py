"""Columns of a manifest: names, types, and theirs mapped to ours."""

import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from medvision.data.manifest.pseudonyms import NO_RULE, is_rule
from medvision.errors import did_you_mean
from medvision.target import Target, is_among

REQUIRED = ("path", "patient")
TEXTS = (*REQUIRED, "label", "split", "dataset", "series", "channel", "origin")
_WHOLES = ("frame", "fold", "position")
REALS = ("position_mm", "time_s", "time", "event")
OTHERS = ("group", "series_label", "mask", "boxes", "site", "person_key")
COLUMNS = (*TEXTS, *_WHOLES, *REALS, *OTHERS)
FILES = ("path", "mask")  # those that name files, whatever the target
READERS = "reader_"
_OPEN_ENDED = (READERS, "x_")  # any number of them, told by their beginning
# What a run reads beside these: what a header would say, and what a task may ask for.
_OF_HEADERS = (
    "modality", "manufacturer", "view", "laterality", "body_part", "photometric", "burned_in",
    "spacing_y_mm", "spacing_x_mm", "slice_thickness_mm",
)  # fmt: skip
_OF_TASKS = ("y_", "region")
# A mistyped one of these would change a study without a word.
_PRECIOUS = ("label", "split", "fold", "frame", "series", "dataset", "site")


def is_ours(name: str, target: type[Target] | None = None) -> bool:
    """Tell the manifest's columns, and those a target reads, from those that are only carried."""
    read = target is not None and is_among(name, target.columns)
    return name in COLUMNS or name.startswith(_OPEN_ENDED) or read


def is_read(name: str, target: type[Target] | None = None) -> bool:
    """Tell columns that a run may read from those it never looks at."""
    return is_ours(name, target) or is_among(name, (*_OF_HEADERS, *_OF_TASKS))


def names_files(cells: pd.Series, folder: Path = Path("/")) -> bool:
    """Tell a column of text that names files, as seen from a folder."""
    names = [name for name in cells.dropna().unique() if name]
    # os.path.isfile takes any text for an answer; Path.is_file raises on an overlong name.
    return bool(names) and all(os.path.isfile(folder / name) for name in names)  # noqa: PTH113


def find_readers(names: Iterable[str]) -> list[str]:
    """Return the columns `reader_<name>` among these."""
    return [str(name) for name in names if str(name).startswith(READERS)]


def find_file_columns(names: Iterable[str], target: type[Target] | None = None) -> list[str]:
    """Return the columns among these that name files, `path` first."""
    there = [str(name) for name in names]
    own = [name for name in FILES if name in there]
    if target is None:
        return own
    return own + [name for name in there if name not in own and is_among(name, target.files)]


def choose_columns(
    sheet: pd.DataFrame,
    columns: Mapping[str, str | None],
    target: type[Target] | None = None,
) -> tuple[pd.DataFrame, str | None, list[str]]:
    """Give the columns our names.

    A mapped column wins over one that has our name already; that one is carried on as
    `file_<name>`, but for `patient`, whose ids must not travel on unhashed.

    Args:
        sheet: as read.
        columns: ours → theirs; None leaves out a column; `patient` may also be a rule.
        target: whose columns are ours as well.

    Returns:
        The renamed sheet, the patient rule if one was given, and all problems.
    """
    problems: list[str] = []
    rule: str | None = None
    taken: dict[str, str] = {}
    for ours, theirs in columns.items():
        if not is_ours(ours, target):
            problems.append(f"columns.{ours} is no column of ours{did_you_mean(ours, COLUMNS)}")
        elif theirs is None:
            continue
        elif ours == "patient" and is_rule(theirs) and (theirs == "path" or theirs not in sheet):
            rule = theirs
        elif theirs in sheet:
            taken[ours] = theirs
        else:
            hint = did_you_mean(theirs, sheet.columns)
            problems.append(f"columns.{ours}={theirs}: the file has no such column{hint}")
    chosen = {ours: sheet[theirs] for ours, theirs in taken.items()}
    for name in sheet.columns:
        if name in columns:
            displaced = columns[name] not in (None, name) and name != "patient"
            chosen |= {f"file_{name}": sheet[name]} if displaced else {}
        elif is_ours(name, target) or name not in taken.values():
            chosen[name] = sheet[name]
    problems += _missing(chosen, columns, rule)
    return pd.DataFrame(chosen, index=sheet.index), rule, problems


def _missing(
    chosen: Mapping[str, object], columns: Mapping[str, str | None], rule: str | None
) -> list[str]:
    """Refuse a table without what is required, or with a precious column mistyped."""
    foreign = {name.lower(): name for name in chosen if not is_ours(name)}
    problems = []
    for ours in (*REQUIRED, *_PRECIOUS):
        required = ours in REQUIRED
        settled = columns.get(ours) is not None or (ours in columns and not required)
        if ours in chosen or settled or (ours == "patient" and rule):
            continue
        near = get_close_matches(ours, foreign, n=1, cutoff=0.6 if required else 0.8)
        seen = f"column {foreign[near[0]]!r}: did you mean `{ours}`?" if near else ""
        if required:
            hint = f" ({seen})" if seen else ""
            way_out = f"say columns.{ours}=NAME of the column it is in"
            way_out += f"; if there is none, {NO_RULE}" if ours == "patient" else ""
            problems.append(f"there is no `{ours}` column{hint}; {way_out}")
        elif seen:
            name = foreign[near[0]]
            problems.append(f"{seen} (say columns.{ours}={name}, or columns.{ours}=null if not)")
    return problems
