"""What of a table travels on where patients are hashed: nothing that would name them after all."""

from collections.abc import Collection, Iterator, Sequence

import pandas as pd

from medvision.data.manifest.card import Card
from medvision.data.manifest.columns import READERS, find_readers, is_read, names_files
from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.identity import count, patient_keys
from medvision.target import Target, is_among
from medvision.trust.user_key import mac, user_key

LETTERED = "readers"  # fact of a card: the number of readers, who stand under letters
_FEWEST = 10  # patients: among fewer, different words are no sign of names
_SHARE = 0.9  # different values a patient, from which on they are names
_LETTERS = 6
_WORDS = (
    "dataset", "site", "label", "series_label", "channel", "boxes", "modality", "manufacturer",
    "view", "laterality", "body_part", "photometric", "burned_in",
)  # fmt: skip
_OPEN_ENDED = ("x_", "y_", READERS)
_LONG = r"[0-9]{5,}(\.0*)?"  # a number of an office, or a date
_PSEUDONYM = r"p[0-9a-f]{12}"
_CORNERS = r"^([-+.0-9e]+(\s+|$)){4}"  # of a box, whose class stands behind them


def choose_carried(
    table: pd.DataFrame,
    carry: Sequence[str],
    target: type[Target] | None = None,
    own: Collection[str] = (),
) -> tuple[pd.DataFrame, list[str]]:
    """Leave out columns that no run reads and nobody asked to carry; return their names, too.

    Args:
        table: of patients that are hashed.
        carry: further columns; one that ends in `_` stands for all that begin so.
        target: whose columns are read as well.
        own: further columns that stay, whether they are there or not.

    Raises:
        MedvisionError: a column to carry is not there, or one that a run reads has almost one
            value a patient, and nobody asked to carry it.
    """
    names = [str(name) for name in table]
    for name in carry:
        if name not in names and not name.endswith("_") and not is_read(name):
            hint = did_you_mean(name, names)
            raise MedvisionError(
                f"carry names {name!r}, which is no column of the table{hint}; name one that is"
            )
    kept = [n for n in names if is_read(n, target) or is_among(n, own) or is_among(n, carry)]
    table = table[kept]
    if problems := list(_find_names(table, [*carry, *own])):
        raise collect(
            "columns that would name patients", problems,
            "Leave one out with columns.NAME=null, put its values together, or keep it knowingly "
            "with carry=[NAME] (with `medvision train`: data.carry=[NAME])", show=9,
        )  # fmt: skip
    return table, [name for name in names if name not in kept]


def note_left_out(unread: Sequence[str]) -> list[str]:
    """Count the columns that were left out; their names may be names."""
    if not unread:
        return []
    return [f"{count(unread, 'column')} that no run reads left out; data.carry=[NAME] keeps one"]


def _find_names(table: pd.DataFrame, known: Sequence[str]) -> Iterator[str]:
    """Say which columns have almost one value a patient, as names and numbers of people do."""
    patients = patient_keys(table) if "dataset" in table else table["patient"]
    for name in (str(name) for name in table):
        asked = is_among(name, _WORDS) or name.startswith(_OPEN_ENDED)
        if not asked or is_among(name, known):
            continue
        cells = _telling(name, table[name])
        values, people = cells.nunique(), patients[cells.index].nunique()
        if people >= _FEWEST and values >= _SHARE * people:
            yield f"{name!r} has {values} different values for {people} patients"


def _telling(name: str, cells: pd.Series) -> pd.Series:
    """Return the cells that may name somebody: words, and whole numbers of five digits and more.

    What is measured names nobody; hashed ids, files and corners of boxes do not either.
    """
    said = cells.astype(object).where(cells.notna(), "").astype(str).str.strip()
    if name.startswith(READERS) and names_files(said):
        return said[:0]
    said = said.str.split("|").explode().str.strip()
    if name == "boxes":
        said = said.str.replace(_CORNERS, "", regex=True)
    numeric = pd.to_numeric(said, errors="coerce").notna()
    long = said.str.fullmatch(_LONG) & (not name.startswith("y_"))
    hashed = said.str.fullmatch(_PSEUDONYM)
    return said[(said != "") & (~numeric | long) & ~hashed]


def letter_readers(table: pd.DataFrame, card: Card) -> pd.DataFrame:
    """Write the names of readers, `reader_<name>`, by letters, unless they stand so already.

    A name has the same letters in every manifest of one user.
    """
    if LETTERED in card.facts:
        return table
    return table.rename(columns=name_readers(table))


def name_readers(table: pd.DataFrame) -> dict[str, str]:
    """Return `reader_<name>` → `reader_<letters>` for the readers of a table."""
    return {
        name: READERS + _letter(name.removeprefix(READERS), user_key())
        for name in find_readers(table)
    }


def _letter(name: str, key: bytes) -> str:
    digits = mac(key, "reader", name)
    return "".join(chr(ord("a") + int(digits[4 * k : 4 * k + 4], 16) % 26) for k in range(_LETTERS))
