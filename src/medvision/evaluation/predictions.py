"""Prediction tables: written and read without losing a digit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from medvision.cells import guard_cells, unguard_cells
from medvision.errors import MedvisionError
from medvision.files import written_aside

IDS = ("dataset", "path", "patient", "series")  # exact text, "" = missing


Counted = Literal["images", "series", "patients"]


@dataclass(frozen=True)
class Schema:
    """The columns that a task adds to a table of predictions.

    Attributes:
        text: those that are exact text, "" = missing.
        truth: of these, what is true of a row; others were predicted.
        numbers: beginnings of names of those that are exact floats, "" = nan.
        needed: those without which two runs cannot be compared.
        example: of a column of numbers, for who gives another table.
        scored: scores follow from it; False: it is there for people.
    """

    text: tuple[str, ...] = ()
    truth: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    example: str = ""
    scored: bool = True


def name_scored(metrics: Mapping[str, Any]) -> Counted:
    """Name what the scores of `metrics.json` count: images or series."""
    counts = next(iter((metrics.get("n") or {}).values()), None)
    return "series" if isinstance(counts, Mapping) and "series" in counts else "images"


def write_predictions(path: str | Path, predictions: pd.DataFrame) -> Path:
    """Write predictions so that every float, also of single precision, reads back the same."""
    single = dict.fromkeys(predictions.select_dtypes("float32"), "float64")
    with written_aside(path) as aside:
        guard_cells(predictions.astype(single)).to_csv(aside, index=False, lineterminator="\n")
    return Path(path)


def read_predictions(path: str | Path, schema: Schema, *, nested: bool = False) -> pd.DataFrame:
    """Read predictions: ids as exact text, what was answered as float64.

    Args:
        path: of the table.
        schema: the task's own columns.
        nested: several rows a sample, whose column `row` counts the rows of its table from 0.

    Raises:
        MedvisionError: the file is missing or is no table of predictions.
    """
    try:
        columns = pd.read_csv(path, nrows=0, dtype=str).columns
        scores = [name for name in columns if schema.numbers and name.startswith(schema.numbers)]
        text = dict.fromkeys((*IDS, *schema.text, *scores), str)
        table = unguard_cells(pd.read_csv(path, dtype=text, keep_default_na=False))
        for name in scores:  # Python's float is exact in every version of pandas
            table[name] = [float(cell or "nan") for cell in table[name]]
    except FileNotFoundError:
        raise MedvisionError(f"{path} does not exist; check the path") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise MedvisionError(
            f"{path} is not a table of predictions ({error}); run `medvision evaluate` again"
        ) from None
    keys = ("row",) if nested else ("index", "patient", *schema.truth)
    missing = [name for name in keys if name not in columns]
    if missing or (schema.numbers and not scores):
        raise MedvisionError(
            f"{path} is not a table of predictions (no column {(missing or [schema.example])[0]}); "
            "run `medvision evaluate` again"
        )
    return table


def read_tables(path: Path, schemas: Mapping[str, Schema]) -> dict[str, pd.DataFrame]:
    """Read all of a part that scores follow from: its table, and nested ones beside it.

    Args:
        path: of the table, a row a sample; nested ones are `<part>_<name>.csv`.
        schemas: name → columns, "" of the table itself.
    """
    tables = {"": read_predictions(path, schemas[""])}
    for name, schema in schemas.items():
        if name and schema.scored:
            beside = path.with_name(f"{path.stem}_{name}.csv")
            tables[name] = read_predictions(beside, schema, nested=True)
    return tables


def join_tables(parts: Sequence[Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """Put tables of other samples one after the other, nested ones following their rows."""
    first = np.cumsum([0, *(len(tables[""]) for tables in parts)])
    return {
        name: pd.concat(
            [
                tables[name].assign(row=tables[name]["row"] + start) if name else tables[name]
                for tables, start in zip(parts, first, strict=False)
            ],
            ignore_index=True,
        )
        for name in parts[0]
    }
