"""Prediction tables: written and read without losing a digit."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd

from medvision.errors import MedvisionError
from medvision.files import written_aside

IDS = ("dataset", "path", "patient", "series", "label", "pred")  # exact text, "" = missing


Unit = Literal["images", "series", "patients"]


def write_predictions(path: str | Path, predictions: pd.DataFrame) -> Path:
    """Write predictions so that every float, also of single precision, reads back the same."""
    single = dict.fromkeys(predictions.select_dtypes("float32"), "float64")
    with written_aside(path) as aside:
        predictions.astype(single).to_csv(aside, index=False, lineterminator="\n")
    return Path(path)


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read predictions: ids as exact text, logits and probabilities as float64.

    Raises:
        MedvisionError: the file is missing or is no table of predictions.
    """
    try:
        columns = pd.read_csv(path, nrows=0, dtype=str).columns
        scores = [name for name in columns if name.startswith(("logit_", "prob_"))]
        text = dict.fromkeys((*IDS, *scores), str)
        table = pd.read_csv(path, dtype=text, keep_default_na=False)
        for name in scores:  # Python's float is exact in every version of pandas
            table[name] = [float(cell or "nan") for cell in table[name]]
    except FileNotFoundError:
        raise MedvisionError(f"{path} does not exist; check the path") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise MedvisionError(
            f"{path} is not a table of predictions ({error}); run `medvision evaluate` again"
        ) from None
    missing = [name for name in ("index", "patient", "label") if name not in columns]
    if missing or not scores:
        raise MedvisionError(
            f"{path} is not a table of predictions (no column {(missing or ['prob_<class>'])[0]}); "
            "run `medvision evaluate` again"
        )
    return table
