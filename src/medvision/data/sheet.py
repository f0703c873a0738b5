"""A CSV file as text cells that know their line, under the manifest's column names."""

import csv
import io
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from medvision.data.patients import NO_RULE, is_rule
from medvision.errors import MedvisionError, did_you_mean

REQUIRED = ("path", "patient")
TEXTS = (*REQUIRED, "label", "split", "dataset", "series", "channel", "origin")
WHOLES = ("frame", "fold", "position")
REALS = ("position_mm", "time_s", "time", "event")
OTHERS = ("group", "series_label", "mask", "boxes", "site")
COLUMNS = (*TEXTS, *WHOLES, *REALS, *OTHERS)
OPEN_ENDED = ("reader_", "x_")  # any number of them, told by their beginning
# A mistyped one of these would change a study without a word.
PRECIOUS = ("label", "split", "fold", "frame", "series", "dataset", "site")


def is_ours(name: str) -> bool:
    """Tell the manifest's columns from those that are only carried."""
    return name in COLUMNS or name.startswith(OPEN_ENDED)


def read_sheet(path: Path) -> pd.DataFrame:
    """Read all cells as text, "" = empty; the index is the line number, 1 the header's.

    Comma, semicolon or tab, whichever the header has; lines without any text are left out.

    Raises:
        MedvisionError: not a text table, no rows, lines of the wrong length.
    """
    text = _read_text(path)
    first = text.lstrip().split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    rows: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise MedvisionError(
            f"{path}, line {line}: {error}; look for an unclosed quote there"
        ) from error
    if len(rows) < 2:
        raise MedvisionError(
            f"{path} {'has a header but no rows' if rows else 'is empty'}; "
            "it needs a header and one row an image"
        )
    return _frame(path, rows)


def _read_text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MedvisionError(
            f"{path} is not a text table in UTF-8; open it where it was made "
            "and save it as “CSV UTF-8”"
        ) from error
    except OSError as error:
        raise MedvisionError(f"cannot read {path}: {error.strerror}; check the file") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _frame(path: Path, rows: list[tuple[int, list[str]]]) -> pd.DataFrame:
    header = [name.strip() for name in rows[0][1]]
    # Spreadsheets leave nameless columns behind, and pandas writes its index as one.
    names = [name or f"unnamed_{number}" for number, name in enumerate(header, start=1)]
    problems = [
        f"line 1: the column {name!r} is there twice"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    uneven = {line: len(cells) for line, cells in rows[1:] if len(cells) != len(names)}
    problems += tell(f"a line needs {len(names)} cells like the header", uneven.items())
    if problems:
        raise MedvisionError(
            f"{path}: {'; '.join(problems)}. Mend these lines (quote a cell that holds a separator)"
        )
    lines, cells = zip(*rows[1:], strict=True)
    return pd.DataFrame(list(cells), index=list(lines), columns=names, dtype=str)


def tell(rule: str, bad: Iterable[tuple[int, object]], show: int = 5) -> list[str]:
    """Say in one sentence which lines break a rule: the first `show`, the rest counted.

    Args:
        rule: what was expected.
        bad: line number and what stands there; none gives no sentence.
        show: how many are written out.
    """
    told = [f"line {line}: {value!r}" for line, value in bad]
    more = f" and {len(told) - show} more" if len(told) > show else ""
    return [f"{rule} ({', '.join(told[:show])}{more})"] if told else []


def choose_columns(
    sheet: pd.DataFrame, columns: Mapping[str, str | None]
) -> tuple[pd.DataFrame, str | None, list[str]]:
    """Give the columns our names.

    A mapped column wins over one that has our name already; that one is carried on as
    `file_<name>`, but for `patient`, whose ids must not travel on unhashed.

    Args:
        sheet: as read.
        columns: ours → theirs; None leaves out a column; `patient` may also be a rule.

    Returns:
        The renamed sheet, the patient rule if one was given, and all problems.
    """
    problems: list[str] = []
    rule: str | None = None
    taken: dict[str, str] = {}
    for ours, theirs in columns.items():
        if not is_ours(ours):
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
        elif is_ours(name) or name not in taken.values():
            chosen[name] = sheet[name]
    problems += _missing(chosen, columns, rule)
    return pd.DataFrame(chosen, index=sheet.index), rule, problems


def _missing(
    chosen: Mapping[str, object], columns: Mapping[str, str | None], rule: str | None
) -> list[str]:
    """Refuse a table without what is required, or with a precious column mistyped."""
    foreign = {name.lower(): name for name in chosen if not is_ours(name)}
    problems = []
    for ours in (*REQUIRED, *PRECIOUS):
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
