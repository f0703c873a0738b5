"""How much one file may unpack to: a few megabytes can ask for more memory than there is."""

import os
from pathlib import Path

from medvision.data.formats.images import refuse
from medvision.errors import MedvisionError

VARIABLE = "MEDVISION_FILE_GB"
_DEFAULT_GB = 2.0


def most_bytes() -> int:
    """Return how many bytes a file may unpack to: `MEDVISION_FILE_GB`, else 2 GB.

    Raises:
        MedvisionError: the variable holds no number above 0.
    """
    text = os.environ.get(VARIABLE) or str(_DEFAULT_GB)
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise MedvisionError(f"{VARIABLE}={text} is no number of gigabytes above 0; mend it")
    return int(limit * 2**30)


def check_unpacked(path: Path, size: int) -> None:
    """Refuse a packed file before memory is taken for what it holds.

    Raises:
        MedvisionError: it would unpack to more than `most_bytes`.
    """
    if size > most_bytes():
        fault = f"would take {size / 2**30:.1f} GB of memory when it is unpacked"
        raise refuse(path, fault, f"split it, or set {VARIABLE} to what a file may take")
