"""Predictions for new files: their table, what is known of each input, and what is odd in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medvision.data.contract import Oddity, find_oddities, from_plain, tell_unchecked
from medvision.data.native import Native
from medvision.data.streaming import Taken, Watch
from medvision.evaluation.evidence import decide_labels
from medvision.model import Model


@dataclass(frozen=True)
class Answers:
    """Predictions of some images or series.

    Attributes:
        table: what is written, a row an image or a series.
        taken: a model: row → what is known of its image, of a series in sum; unreadable ones are
            missing.
        notes: what a reader of the table should know.
    """

    table: pd.DataFrame
    taken: list[dict[int, Taken]]
    notes: list[str]


def is_read(table: pd.DataFrame) -> pd.Series:
    """Tell rows with a prediction from unreadable ones, whose status is a reason."""
    status = table["status"]
    return (status == "ok") | status.str.startswith("ok, but ")


def unit_of(answers: Answers) -> str:
    """Return what a row is: images or series."""
    return "series" if "slices" in answers.table else "images"


def watch_inputs(model: Model, refuse: bool, names: Sequence[str]) -> Watch:
    """Return what compares each image with those the model was trained on."""
    trained = from_plain(model.trained_on)

    def find(native: Native) -> list[Oddity]:
        return find_oddities(native, trained, model.contract.get("window"))

    return Watch(find, refuse, names.__getitem__)


def note_unchecked(members: Sequence[Model], watches: Sequence[Watch]) -> list[str]:
    """Say once what could not be compared."""
    notes = []
    for model, watch in zip(members, watches, strict=True):
        natives = [taken.native for taken in watch.taken.values()]
        notes += tell_unchecked(from_plain(model.trained_on), natives)
    return list(dict.fromkeys(notes))


def lay_out(
    model: Model, images: pd.DataFrame, probs: np.ndarray, statuses: Mapping[int, str]
) -> pd.DataFrame:
    """Put probabilities `[N,K]`, decisions and status beside the images; unreadable ones get none.

    Args:
        model: decides.
        images: `path` and `frame`.
        probs: a row an image.
        statuses: why a row could not be read, or in what it is foreign.
    """
    table = images.copy()
    for k, name in enumerate(model.classes):
        table[f"prob_{name}"] = probs[:, k]
    table["pred"] = decide_labels(probs, model.classes, model.question, model.threshold)
    table["status"] = [statuses.get(row, "ok") for row in range(len(table))]
    unread = ~is_read(table)
    table.loc[unread, [f"prob_{name}" for name in model.classes]] = np.nan
    table.loc[unread, "pred"] = ""
    return table
