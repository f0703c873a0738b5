"""Predictions for new images and new series: their table, and what is odd in each input."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from medvision.data.batches.read import OnUnreadable
from medvision.data.inputs.inputs import Inputs, find_inputs, plan_batches, put_together
from medvision.data.inputs.profile import (
    Mismatch,
    find_mismatches,
    from_plain,
    join_mismatches,
    note_unchecked_facts,
)
from medvision.data.inputs.stream import InputFacts, InputMonitor, read_batches, refuse_unreadable
from medvision.data.store.facts import FileFacts
from medvision.data.store.reader import Reader
from medvision.data.units.series_form import OnGap
from medvision.data.units.unit import Unit
from medvision.evaluation.evaluator import Arrays
from medvision.inference.checks import OnUnlike, stamp_unlike_training
from medvision.inference.ensemble import join
from medvision.inference.predictor import BATCH, open_model_evaluator, open_model_unit, run_nets
from medvision.model import Model
from medvision.target import Ints


@dataclass(frozen=True)
class Answers:
    """Predictions of some samples.

    Attributes:
        tables: what is written: "", a row a sample, and by name what is said of their images.
        taken: a model: row → what is known of its image, of several in sum; unreadable ones are
            missing.
        notes: what a reader of the tables should know.
        unit: what a row is.
        others: number of files that belong to no sample.
    """

    tables: dict[str, pd.DataFrame]
    taken: list[dict[int, InputFacts]]
    notes: list[str]
    unit: Unit
    others: int

    @property
    def table(self) -> pd.DataFrame:
        """The table of the samples."""
        return self.tables[""]


def is_read(table: pd.DataFrame) -> pd.Series:
    """Tell rows with a prediction from unreadable ones, whose status is a reason."""
    status = table["status"]
    return (status == "ok") | status.str.startswith("ok, but ")


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


def answer_files(
    members: Sequence[Model],
    sources: Sequence[Path],
    columns: Mapping[str, Any] | None = None,
    *,
    on_unreadable: OnUnreadable = "stop",
    on_foreign: OnUnlike = "stop",
    on_gap: OnGap | None = None,
) -> Answers:
    """Answer for new files, folders or tables, as `medvision predict` says.

    Raises:
        MedvisionError: there is nothing to predict, or what `answer_inputs` refuses.
    """
    units, exclude = (
        [open_model_unit(m).allow_gaps(on_gap) for m in members],
        on_unreadable != "stop",
    )
    found = {
        unit: find_inputs(sources, columns or {}, unit, exclude) for unit in dict.fromkeys(units)
    }
    inputs = [found[unit] for unit in units]
    return answer_inputs(members, inputs, stop=not exclude, refuse=on_foreign == "stop")


def answer_inputs(
    members: Sequence[Model], found: Sequence[Inputs], *, stop: bool, refuse: bool
) -> Answers:
    """Answer for new samples; an ensemble is the mean of its members' probabilities.

    Each image is decoded once for all members that read alike. A sample with an unreadable image
    gets no prediction.

    Args:
        members: of the ensemble, or one model.
        found: the same samples as each of them reads them.
        stop: on unreadable files.
        refuse: images that are foreign to any of the members.

    Raises:
        MedvisionError: unreadable or foreign files where that is asked for, or nothing but
            unreadable samples.
    """
    first, total = found[0], len(found[0].index)
    order, unit = first.in_order(), first.unit
    ways = [(Reader.from_contract(m.contract), f.unit) for m, f in zip(members, found, strict=True)]
    outputs: dict[int, Arrays] = {}
    watches: dict[int, InputMonitor] = {}
    reasons: dict[int, str] = {}
    for way in dict.fromkeys(ways):
        alike = [k for k in range(len(members)) if ways[k] == way]
        models, inputs = [members[k] for k in alike], found[alike[0]]
        whose = "" if len(alike) == len(members) else f" {alike[0] + 1} of {len(members)}"
        read = _read_alike(models, inputs, order, way[0], f"predicting{whose}", stop, refuse)
        outputs |= dict(zip(alike, read.outputs, strict=True))
        watches |= dict(zip(alike, read.watches, strict=True))
        reasons = read.reasons | reasons
    if len(reasons) == total:
        raise refuse_unreadable(reasons, total, f"Give {unit.given} that can be read")
    seen = [watches[k] for k in range(len(members))]
    foreign = {n: odd for watch in seen[::-1] for n, odd in watch.foreign.items()}
    statuses = {n: f"ok, but {join_mismatches(odd)}" for n, odd in foreign.items()} | reasons
    several = [outputs[k] for k in range(len(members))]
    tables = _tabulate(members, several, first, order, statuses, list(reasons))
    notes = stamp_unlike_training(foreign, total, unit.unlike) + note_unchecked(members, seen)
    taken = [watch.taken for watch in seen]
    return Answers(tables, taken, notes + first.notes, first.unit, first.others)


def _tabulate(
    members: Sequence[Model], several: Sequence[Arrays], inputs: Inputs, order: Ints,
    statuses: Mapping[int, str], unread: Sequence[int],
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Put predictions and status beside samples as they were given; unreadable ones get none.

    Args:
        members: of the ensemble, or one model.
        several: what each of them answers for the samples in `order`.
        inputs: the samples.
        order: in which they were read.
        statuses: row of the output → why it could not be read, or in what it is foreign.
        unread: rows of the output.
    """
    evaluators = [open_model_evaluator(model) for model in members]
    joined, rows = open_model_evaluator(join(members)), np.searchsorted(inputs.index, order)
    facts = inputs.unit.tables_of_new(inputs.table, order, inputs.folder)
    tables = {**facts} | joined.tabulate(joined.combine(several, evaluators), facts)
    table = tables[""]
    table["status"] = [statuses.get(row, "ok") for row in rows.tolist()]
    for name in table.columns.difference([*facts[""], "status"]):
        empty = np.nan if is_numeric_dtype(table[name]) else ""
        table.loc[np.isin(rows, unread), name] = empty
    of_images = rows[inputs.unit.lay_out(order).sample]
    for name, table in tables.items():
        owner = of_images if name else rows
        back = np.argsort(owner, kind="stable")
        kept = back[~np.isin(owner[back], unread)] if name else back
        tables[name] = table.iloc[kept].reset_index(drop=True)
    return tables


class _Read(NamedTuple):
    """What models answer for samples as they are read, and what they met, by row of the output."""

    outputs: list[Arrays]
    watches: list[InputMonitor]
    reasons: dict[int, str]


def _read_alike(
    models: Sequence[Model], inputs: Inputs, order: Ints, reader: Reader, task: str, stop: bool,
    refuse: bool,
) -> _Read:  # fmt: skip
    """Decode every image once, and let all models answer for it."""
    plan, files = plan_batches(inputs, order, BATCH), inputs.files
    rows = np.concatenate([batch.rows for batch in plan])
    of = np.searchsorted(inputs.index, np.concatenate([batch.owners for batch in plan]))
    table = inputs.table.loc[rows]
    watches = [watch_inputs(model, refuse, table["path"].tolist()) for model in models]
    unread: dict[int, str] = {}
    pixels = read_batches(
        [files[row] for row in rows], table["frame"].tolist(), reader,
        [len(batch.rows) for batch in plan], unread, stop, watches,
    )  # fmt: skip
    batches = (put_together(inputs.unit, *pair) for pair in zip(pixels, plan, strict=False))
    outputs = run_nets(models, batches, np.searchsorted(inputs.index, order), task)
    return _Read(
        [each.arrays for each in outputs],
        [_sum_up(watch, of, inputs.unit) for watch in watches],
        {int(of[k]): text for k, text in sorted(unread.items(), reverse=True)},
    )


def _sum_up(watch: InputMonitor, of: np.ndarray, unit: Unit) -> InputMonitor:
    """Return what was seen of samples in place of images; the first image stands for its sample.

    Args:
        watch: of images.
        of: the sample of each image.
        unit: what a sample is.
    """
    taken: dict[int, list[InputFacts]] = {}
    for k in sorted(watch.taken):
        taken.setdefault(int(of[k]), []).append(watch.taken[k])
    joined = {
        n: some[0]._replace(digest=unit.join_digests([each.digest for each in some]))
        for n, some in taken.items()
    }
    foreign = {int(of[k]): watch.foreign[k] for k in sorted(watch.foreign, reverse=True)}
    return replace(watch, taken=joined, foreign=foreign)
