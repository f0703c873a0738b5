"""Text in the tables that are written: a spreadsheet runs none of it, and it reads back the same.

A cell that begins with `=`, `+`, `-` or `@` is a formula to a spreadsheet (OWASP, CSV injection).
Numbers stay as they are; before other text stands an apostrophe, which reading takes away.
"""

import re
from collections.abc import Callable
from typing import Any

import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")


def guard_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as it is written."""
    return _change_text(table, _guard)


def unguard_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as it was before `guard_cells`."""
    return _change_text(table, _unguard)


def _guard(cell: Any) -> Any:
    if not isinstance(cell, str) or not _FORMULA.match(cell) or _is_number(cell):
        return cell
    return f"'{cell}"


def _unguard(cell: Any) -> Any:
    return cell[1:] if isinstance(cell, str) and _GUARDED.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _change_text(table: pd.DataFrame, change: Callable[[Any], Any]) -> pd.DataFrame:
    named = table.rename(columns=change)
    text = [name for name in named if not pd.api.types.is_numeric_dtype(named[name])]
    return named.assign(**{str(name): named[name].map(change) for name in text})
