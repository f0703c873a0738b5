"""Predictions for new images and new series: their table, and what is odd in each input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

import medvision.files as files
from medvision.data.inputs.profile import (
    Mismatch,
    find_mismatches,
    from_plain,
    join_mismatches,
    note_unchecked_facts,
)
from medvision.data.inputs.series import NewSeries, put_together, tell_files
from medvision.data.inputs.stream import InputFacts, InputMonitor, read_batches, refuse_unreadable
from medvision.data.store.facts import FileFacts
from medvision.data.store.reader import Reader
from medvision.inference.ensemble import join
from medvision.inference.predictor import open_model_evaluator, run_net
from medvision.model import Model
from medvision.target import Encoded


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
    taken: list[dict[int, InputFacts]]
    notes: list[str]


def is_read(table: pd.DataFrame) -> pd.Series:
    """Tell rows with a prediction from unreadable ones, whose status is a reason."""
    status = table["status"]
    return (status == "ok") | status.str.startswith("ok, but ")


def unit_of(answers: Answers) -> str:
    """Return what a row is: images or series."""
    return "series" if "slices" in answers.table else "images"


def watch_inputs(model: Model, refuse: bool, names: Sequence[str]) -> InputMonitor:
    """Return what compares each image with those the model was trained on."""
    trained = from_plain(model.trained_on)

    def find(native: FileFacts) -> list[Mismatch]:
        return find_mismatches(native, trained, model.contract.get("window"))

    return InputMonitor(find, refuse, names.__getitem__)


def note_unchecked(members: Sequence[Model], watches: Sequence[InputMonitor]) -> list[str]:
    """Say once what could not be compared."""
    notes = []
    for model, watch in zip(members, watches, strict=True):
        natives = [taken.native for taken in watch.taken.values()]
        notes += note_unchecked_facts(from_plain(model.trained_on), natives)
    return list(dict.fromkeys(notes))


def lay_out(
    members: Sequence[Model],
    several: Sequence[Encoded],
    facts: Mapping[str, pd.DataFrame],
    statuses: Mapping[int, str],
) -> dict[str, pd.DataFrame]:
    """Put predictions and status beside images or series; unreadable ones get none.

    Args:
        members: of the ensemble, or one model.
        several: what each of them answers.
        facts: `""`, of each image or series, and of all `slices`.
        statuses: why a row could not be read, or in what it is foreign.
    """
    evaluators = [open_model_evaluator(model) for model in members]
    joined = open_model_evaluator(join(members))
    tables = {**facts} | joined.tabulate(joined.combine(several, evaluators), facts)
    table = tables[""]
    table["status"] = [statuses.get(row, "ok") for row in range(len(table))]
    unread = ~is_read(table)
    for name in table.columns.difference([*facts[""], "status"]):
        table.loc[unread, name] = np.nan if is_numeric_dtype(table[name]) else ""
    return tables


class SeriesAnswers(NamedTuple):
    """What is written: a row a series in `answers`, and a row a slice."""

    answers: Answers
    slices: pd.DataFrame


def predict_series(
    members: Sequence[Model], found: Sequence[NewSeries], *, stop: bool, refuse: bool
) -> SeriesAnswers:
    """Answer for series; an ensemble is the mean of its members' probabilities.

    A series with an unreadable slice is not predicted.

    Args:
        members: of the ensemble, or one model.
        found: the same series as each of them reads them.
        stop: on unreadable files.
        refuse: images that are foreign to any of the members.

    Raises:
        MedvisionError: unreadable or foreign files where that is asked for, or nothing but
            unreadable series.
    """
    several, watches = [], []
    reasons: dict[int, str] = {}
    total = len(found[0].slices.first)
    for number, (model, series) in enumerate(zip(members, found, strict=True), start=1):
        task = "predicting" if len(members) == 1 else f"predicting {number} of {len(members)}"
        rows, paths, frames = tell_files(series)
        of = np.repeat(np.arange(total), [len(own) for own in rows])
        watch = watch_inputs(model, refuse, [str(path) for path in paths])
        unread: dict[int, str] = {}
        reader = Reader.from_contract(model.contract)
        images = read_batches(paths, frames, reader, 1, unread, stop, watch)
        batches = put_together(series, rows, images)
        several.append(run_net(model, batches, np.arange(total), task))
        watches.append(sum_up(watch, of))
        reasons |= {int(of[k]): text for k, text in sorted(unread.items(), reverse=True)}
    if len(reasons) == total:
        raise refuse_unreadable(reasons, total, "Give series that can be read")
    foreign = {n: odd for watch in watches[::-1] for n, odd in watch.foreign.items()}
    statuses = {n: f"ok, but {join_mismatches(odd)}" for n, odd in foreign.items()} | reasons
    odd = f"{len(foreign)} of {total} series hold images unlike those the model was trained on"
    notes = [*([odd] if foreign else []), *note_unchecked(members, watches), *found[0].notes]
    numbers, facts = list_slices(found[0])
    tables = lay_out(members, several, {"": found[0].facts(), "slices": facts}, statuses)
    read = tables["slices"][~np.isin(numbers, list(reasons))].reset_index(drop=True)
    return SeriesAnswers(Answers(tables[""], [watch.taken for watch in watches], notes), read)


def sum_up(watch: InputMonitor, of: np.ndarray) -> InputMonitor:
    """Return what was seen of series in place of images; the first image stands for its series.

    Args:
        watch: of images.
        of: the series of each image.
    """
    taken: dict[int, list[InputFacts]] = {}
    for k in sorted(watch.taken):
        taken.setdefault(int(of[k]), []).append(watch.taken[k])
    joined = {
        n: some[0]._replace(digest=files.digest(*(each.digest for each in some)))
        for n, some in taken.items()
    }
    foreign = {int(of[k]): watch.foreign[k] for k in sorted(watch.foreign, reverse=True)}
    return replace(watch, taken=joined, foreign=foreign)


def list_slices(found: NewSeries) -> tuple[np.ndarray, pd.DataFrame]:
    """Return of each slice the number of its series, and where it stands in it."""
    lengths = np.diff(found.slices.start)
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    table = found.facts().loc[numbers, ["path", "series"]].reset_index(drop=True)
    table["slice"] = np.arange(len(numbers)) - np.repeat(found.slices.start[:-1], lengths)
    table["position"] = found.slices.position
    return numbers, table
