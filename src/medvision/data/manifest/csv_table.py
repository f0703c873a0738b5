"""Tables as text: every cell knows its line."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from medvision.cells import unguard_cells
from medvision.errors import MedvisionError


def read_csv_table(path: Path) -> pd.DataFrame:
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
    return unguard_cells(_frame(path, rows))


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
    problems += format_lines(f"a line needs {len(names)} cells like the header", uneven.items())
    if problems:
        raise MedvisionError(
            f"{path}: {'; '.join(problems)}. Mend these lines (quote a cell that holds a separator)"
        )
    lines, cells = zip(*rows[1:], strict=True)
    return pd.DataFrame(list(cells), index=list(lines), columns=names, dtype=str)


def format_lines(rule: str, bad: Iterable[tuple[int, object]], show: int = 5) -> list[str]:
    """Say in one sentence which lines break a rule: the first `show`, the rest counted.

    Args:
        rule: what was expected.
        bad: line number and what stands there; none gives no sentence.
        show: how many are written out.
    """
    told = [f"line {line}: {value!r}" for line, value in bad]
    more = f" and {len(told) - show} more" if len(told) > show else ""
    return [f"{rule} ({', '.join(told[:show])}{more})"] if told else []
