"""Who an image is of: hashed ids, and patients told from file names."""

import hmac
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import pandas as pd

from medvision.errors import MedvisionError, collect
from medvision.identity import patient_keys
from medvision.trust.user_key import mac

IDS = {"patient", "series"}  # hashed; those of series are often made from those of patients
CONTAINERS = (".npy", ".npz")
NO_RULE = (
    "say columns.patient=path if each image is a patient of its own, or give a pattern with one "
    "group for the file name, such as columns.patient='(p[0-9]+)_' (with `medvision train`: "
    "data.source.columns.patient)"
)


def pseudonym(dataset: str, patient: str, key: bytes) -> str:
    """Return the patient's stand-in: `p` and 12 hexadecimal digits of an HMAC-SHA256.

    Equal only for the same id under the same dataset name and key.
    """
    # The length keeps ("a", "b:c") and ("a:b", "c") apart.
    message = f"{len(dataset)}:{dataset}:{patient}".encode()
    return "p" + hmac.new(key, message, "sha256").hexdigest()[:12]


def person_pseudonym(patient: str, key: bytes) -> str:
    """Return the stand-in of an id whatever its dataset, by which one person is found in two."""
    return "p" + mac(key, "person", patient)[:12]


def hash_ids(table: pd.DataFrame, key: bytes, columns: set[str], simulated: bool) -> None:
    """Replace ids by pseudonyms, in place; that of a patient stands beside it without dataset.

    A simulated patient is nobody outside of its dataset.
    """
    people = patient_keys(table) if simulated else table["patient"]
    known = {one: person_pseudonym(one, key) if one else "" for one in people.unique()}
    table["person_key"] = people.map(known)
    for column in columns & set(table.columns):
        pairs = table[["dataset", column]].drop_duplicates().itertuples(index=False)
        names = {(d, i): pseudonym(d, i, key) if i else "" for d, i in pairs}
        ids = zip(table["dataset"], table[column], strict=True)
        table[column] = [names[pair] for pair in ids]


def is_rule(text: str) -> bool:
    """Tell `path` and patterns (they hold a group) from the name of a column."""
    return text == "path" or "(" in text


def describe_rule(rule: str) -> str:
    """Say a rule as the card and the report print it."""
    if rule == "path":
        return "each image is its own patient (columns.patient=path)"
    return f"the group of the pattern {rule} in the file name"


def patients_from_names(names: Sequence[str], frames: Sequence[int], rule: str) -> list[str]:
    """Tell patients by file name.

    Args:
        names: file names with folders, relative to the input, with `/`.
        frames: number of the image within its file.
        rule: `path` (each file is its own patient; those of an array file are its images, numbered
            as in `scans.npz#17`), or a pattern with one group, searched in the name.

    Raises:
        MedvisionError: a broken pattern, or names it does not fit.
    """
    if rule == "path":
        return [_own(name, frame) for name, frame in zip(names, frames, strict=True)]
    pattern = _compile(rule)
    found = [pattern.search(name) for name in names]
    patients = [match.group(1) or "" if match else "" for match in found]
    unfit = [repr(name) for name, patient in zip(names, patients, strict=True) if not patient]
    if unfit:
        raise collect(
            f"columns.patient={rule} finds no patient in {len(unfit)} of {len(names)} file names",
            unfit,
            "Change the pattern so that its group finds the patient in every name",
        )
    return patients


def _own(name: str, frame: int) -> str:
    """Name a patient; frames of a volume, clip or DICOM file are all of one."""
    return f"{name}#{frame}" if PurePosixPath(name).suffix.lower() in CONTAINERS else name


def _compile(rule: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise MedvisionError(
            f"columns.patient={rule} is not a regular expression ({error}); mend the pattern"
        ) from error
    if pattern.groups != 1:
        raise MedvisionError(
            f"columns.patient={rule} has {pattern.groups} groups; "
            "put ( ) around the patient only, and (?: ) around anything else"
        )
    return pattern
