"""Ids of patients as people write them: what may be one person twice, and what is nobody."""

import unicodedata
from collections.abc import Mapping
from typing import Any

import pandas as pd

from medvision.errors import MedvisionError
from medvision.identity import MISSING_WORDS, count

NORMALISE = "patient_normalise"
_SHOWN = 3


def normalise_id(patient: str) -> str:
    """Return an id without what only differs in writing.

    Case, spaces, the form of Unicode, zeros in front of a number, and `.0` behind it.
    """
    text = "".join(unicodedata.normalize("NFKC", patient).casefold().split())
    whole, _, decimals = text.partition(".")
    if whole.isdecimal() and not decimals.strip("0"):
        return str(int(whole))
    head = text.rstrip("0123456789")
    number = text[len(head) :]
    return f"{head}{int(number)}" if number else text


def note_ids(table: pd.DataFrame) -> list[str]:
    """Note ids of a dataset that differ only in writing, and words for "missing" as ids.

    Args:
        table: rows in the order of their file; ids are named by their lines, for they may be names.
    """
    rows = table[["dataset", "patient"]].assign(line=range(2, len(table) + 2))
    first = rows[rows["patient"] != ""].drop_duplicates(["dataset", "patient"])
    written = first.assign(same=first["patient"].map(normalise_id))
    alike = written[written.duplicated(["dataset", "same"], keep=False)]
    notes = []
    if len(alike):
        lines = next(iter(alike.groupby(["dataset", "same"])))[1]["line"].tolist()
        people = len(alike.drop_duplicates(["dataset", "same"]))
        notes.append(
            f"{len(alike)} patient ids differ only in writing and may be {people} "
            f"{'patient' if people == 1 else 'patients'}, such as those of lines {lines[0]} and "
            f"{lines[1]}: they count as different ones; columns.{NORMALISE}=true joins them"
        )
    absent = rows[rows["patient"].str.strip().str.casefold().isin(MISSING_WORDS - {""})]
    if len(absent):
        words = ", ".join(map(repr, absent["patient"].unique()[:_SHOWN]))
        notes.append(
            f"{count(len(absent), 'row')} with a word for missing as the patient ({words}): all "
            "rows of one word count as one patient; leave them out, or tell them apart"
        )
    return notes


def take_normalise(columns: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Part `columns.patient_normalise` from the names of columns.

    Raises:
        MedvisionError: it is neither true nor false.
    """
    named = dict(columns)
    asked = named.pop(NORMALISE, None)
    if asked not in (None, True, False, "true", "false"):
        raise MedvisionError(f"columns.{NORMALISE}={asked} must be true or false")
    return named, asked in (True, "true")
