"""What a manifest tells of patients beside their labels: sites, devices, and the columns `x_…`."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from medvision.cells import unguard_cells

TOLD = ("site", "manufacturer", "modality", "body_part", "view", "laterality")
SPACING = ("spacing_y_mm", "spacing_x_mm")
NEEDED = ("split", "dataset", "patient", "series", "channel", "origin")
_FEW_VALUES = 5  # numbers of no more different values are levels
_MOST_LEVELS = 8  # shown; what is rarer is put together
NAMES = 20  # so many different words, and as many as half the patients, are names, not levels
OTHER, MISSING = "other", "not recorded"


@dataclass(frozen=True)
class Covariate:
    """One column: `values` of each row as text, "" = missing, under the index of its table."""

    name: str
    values: pd.Series

    @property
    def title(self) -> str:
        return title_of(self.name)

    @property
    def own(self) -> bool:
        """It is of the user's own columns, such as an age."""
        return self.name.startswith("x_")

    @cached_property
    def numbers(self) -> pd.Series:
        """The values as float64, nan = missing or no number."""
        return pd.to_numeric(self.values.replace("", "nan"), errors="coerce").astype("float64")

    @cached_property
    def numeric(self) -> bool:
        """All values are numbers, and too many different ones for levels."""
        said = self.values[self.values != ""]
        fits = np.isfinite(self.numbers[said.index])
        return bool(len(said) and fits.all() and said.nunique() > _FEW_VALUES)

    def varies(self, keys: pd.Series) -> bool:
        """Tell whether rows of one key, such as a patient, have different values."""
        said = self.values[self.values != ""]
        return bool((said.groupby(keys[said.index]).nunique() > 1).any())

    def by(self, keys: pd.Series) -> "Covariate":
        """Return one value a key: that of its rows; of differing numbers the mean, of words ""."""
        said = self.values[self.values != ""]
        grouped = said.groupby(keys[said.index])
        first = grouped.first().where(grouped.nunique() == 1, "")
        if self.numeric:
            mean = self.numbers[said.index].groupby(keys[said.index]).mean()
            first = first.where(first != "", mean.map(repr))
        whole = first.reindex(keys.unique(), fill_value="")
        return Covariate(self.name, whole)

    def levels(self) -> list[str]:
        """Return the levels, the commonest `_MOST_LEVELS` of them, in their natural order."""
        counts = self.values[self.values != ""].value_counts()
        names = [str(name) for name in counts.index[:_MOST_LEVELS]]
        try:
            return sorted(names, key=float)
        except ValueError:
            return sorted(names)


def read_rows(path: Path) -> pd.DataFrame:
    """Read what is needed here of a run's manifest as text, "" = missing.

    The index is the row's `index` everywhere. Columns of `NEEDED` that it lacks are empty; those
    whose rows say nothing are left out. No file, no rows.
    """
    if not path.exists() or not path.stat().st_size:
        return pd.DataFrame(columns=list(NEEDED), dtype=str)
    names = pd.read_csv(path, nrows=0).columns
    wanted = [n for n in names if n in (*NEEDED, *TOLD, *SPACING) or n.startswith("x_")]
    table = unguard_cells(pd.read_csv(path, usecols=wanted, dtype=str, keep_default_na=False))
    silent = [n for n in table if n not in NEEDED and (table[n] == "").all()]
    lacking = {name: "" for name in NEEDED if name not in table}
    return table.drop(columns=silent).assign(**lacking)


def title_of(name: str) -> str:
    """Return a column's name as it is read: `x_age_years` is `age years`."""
    return name.removeprefix("x_").replace("_", " ")


def real_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of patients."""
    return rows[rows["origin"] != "generated"]


def patient_of(rows: pd.DataFrame) -> pd.Series:
    """Return one text a row that is equal for one patient."""
    return rows["dataset"] + "\x1f" + rows["patient"]


def series_of(rows: pd.DataFrame) -> pd.Series:
    """Return one text a row that is equal for one series."""
    return rows["dataset"] + "\x1f" + rows["series"]


def find_covariates(rows: pd.DataFrame) -> Iterator[Covariate]:
    """Yield sites, devices and `x_…` with more than one value, but for names and free text."""
    names = [n for n in TOLD if n in rows] + [n for n in rows if str(n).startswith("x_")]
    patients = patient_of(rows)
    for name in names:
        found = Covariate(str(name), rows[name].str.strip())
        different = found.values[found.values != ""].nunique()
        is_names = different > NAMES and 2 * different > patients.nunique()
        if different > 1 and (found.numeric or not is_names):
            yield found
