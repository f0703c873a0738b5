"""The people behind rows: patients under their dataset's name, and whatever its name."""

from collections.abc import Iterable

import pandas as pd

from medvision.identity import patient_keys
from medvision.seen import Shown


def show_rows(table: pd.DataFrame, digests: Iterable[str], key: str | None) -> Shown:
    """Return who rows are of, and which images they show.

    Args:
        table: rows of manifests.
        digests: of their pixels; "" is none.
        key: fingerprint of the key behind the pseudonyms; None: ids as given, which need their
            dataset to be told apart, and are the same person whatever it is.
    """
    if key is None:
        patients, people = patient_keys(table), table["patient"]
    else:
        patients = table["patient"]
        people = table.get("person_key", pd.Series("", index=table.index)).fillna("")
    pairs = dict(zip(patients, people, strict=True))
    pairs.pop("", None)
    return Shown(pairs, frozenset(digests) - {""}, key)
