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
from medvision.evaluation.evaluator import Evaluator
from medvision.inference.checks import OnUnlike, stamp_unlike_training
from medvision.inference.ensemble import join
from medvision.inference.predictor import BATCH, open_model_evaluator, open_model_unit, run_nets
from medvision.model import Model
from medvision.target import Encoded, Ints, take


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
        files: those that the task wrote beside the tables.
    """

    tables: dict[str, pd.DataFrame]
    taken: list[dict[int, InputFacts]]
    notes: list[str]
    unit: Unit
    others: int
    files: list[Path]

    @property
    def table(self) -> pd.DataFrame:
        """The table of the samples."""
        return self.tables[""]


def is_read(table: pd.DataFrame) -> pd.Series:
    """Tell rows with a prediction from unreadable ones, whose status is a reason."""
    status = table["status"]
    return (status == "ok") | status.str.startswith("ok, but ")


def _watch_inputs(model: Model, refuse: bool, names: Sequence[str]) -> InputMonitor:
    """Return what compares each image with those the model was trained on."""
    trained = from_plain(model.trained_on)

    def find(native: FileFacts) -> list[Mismatch]:
        return find_mismatches(native, trained, model.contract.get("window"))

    return InputMonitor(find, refuse, names.__getitem__)


def _note_unchecked(members: Sequence[Model], watches: Sequence[InputMonitor]) -> list[str]:
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
    folder: Path | None = None,
) -> Answers:
    """Answer for new files, folders or tables, as `medvision predict` says.

    What the task writes beside its tables goes to `folder`, if there is one.

    Raises:
        MedvisionError: there is nothing to predict, or what `_answer_inputs` refuses.
    """
    units = [open_model_unit(model).allow_gaps(on_gap) for model in members]
    exclude = on_unreadable != "stop"
    found = {
        unit: find_inputs(sources, columns or {}, unit, exclude) for unit in dict.fromkeys(units)
    }
    inputs = [found[unit] for unit in units]
    return _answer_inputs(
        members, inputs, stop=not exclude, refuse=on_foreign == "stop", folder=folder
    )


def _answer_inputs(
    members: Sequence[Model], found: Sequence[Inputs], *, stop: bool, refuse: bool,
    folder: Path | None = None,
) -> Answers:  # fmt: skip
    """Answer for new samples; an ensemble is the mean of its members' predictions.

    Each image is decoded once for all members that read alike. A sample with an unreadable image
    gets no prediction.

    Args:
        members: of the ensemble, or one model.
        found: the same samples as each of them reads them.
        stop: on unreadable files.
        refuse: images that are foreign to any of the members.
        folder: where the task may write what fits into no table; None: nowhere.

    Raises:
        MedvisionError: unreadable or foreign files where that is asked for, or nothing but
            unreadable samples.
    """
    written: list[Path] = []
    first, total = found[0], len(found[0].index)
    order, unit = first.in_order(), first.unit
    ways = [(Reader.from_contract(m.contract), f.unit) for m, f in zip(members, found, strict=True)]
    outputs: dict[int, Encoded] = {}
    watches: dict[int, InputMonitor] = {}
    known: dict[int, int] = {}
    reasons: dict[int, str] = {}
    for way in dict.fromkeys(ways):
        alike = [k for k in range(len(members)) if ways[k] == way]
        models, inputs = [members[k] for k in alike], found[alike[0]]
        whose = "" if len(alike) == len(members) else f" {alike[0] + 1} of {len(members)}"
        read = _read_alike(models, inputs, order, way[0], f"predicting{whose}", stop, refuse)
        outputs |= dict(zip(alike, read.outputs, strict=True))
        watches |= dict(zip(alike, read.watches, strict=True))
        known |= dict(zip(alike, read.known, strict=True))
        reasons = read.reasons | reasons
    if len(reasons) == total:
        raise refuse_unreadable(reasons, total, f"Give {unit.given} that can be read")
    seen = [watches[k] for k in range(len(members))]
    foreign = {n: odd for watch in seen[::-1] for n, odd in watch.foreign.items()}
    statuses = {n: f"ok, but {join_mismatches(odd)}" for n, odd in foreign.items()} | reasons
    evaluators = [open_model_evaluator(model) for model in members]
    evaluator = open_model_evaluator(join(members))
    as_given = np.argsort(np.searchsorted(first.index, order))
    several = [take(outputs[k], as_given) for k in range(len(members))]
    joined = evaluator.combine(several, evaluators)
    tables = _lay_out(evaluator, joined, first, statuses, list(reasons))
    if folder is not None:
        left = np.setdiff1d(np.arange(total), list(reasons))
        kept = {"": tables[""].iloc[left]}
        written = list(evaluator.write(take(joined, left), kept, folder))
    notes = stamp_unlike_training(foreign, total, unit.unlike) + _note_unchecked(members, seen)
    notes += _note_seen(members, [known[k] for k in range(len(members))], unit)
    taken = [watch.taken for watch in seen]
    return Answers(tables, taken, notes + first.notes, first.unit, first.others, written)


def _note_seen(members: Sequence[Model], known: Sequence[int], unit: Unit) -> list[str]:
    """Say of each model how many samples hold images it knows, and what nobody can tell of that."""
    notes = []
    for number, (model, count) in enumerate(zip(members, known, strict=True), start=1):
        told = list(model.seen.unknown)
        if not model.seen.asks_images:
            told.append("images not checked: the model was made with another key")
        if count:
            told.append(f"{count} {unit.counted} hold what the model was trained or chosen on: its "
                        "answers for them are no evidence")  # fmt: skip
        whose = f"model {number} of {len(members)}: " if len(members) > 1 else ""
        notes += [whose + sentence for sentence in told]
    return notes


class _Read(NamedTuple):
    """What models answer for samples as they are read, and what they met, by row of the output.

    Attributes:
        known: of each model the number of samples that hold an image it was trained or chosen on.
    """

    outputs: list[Encoded]
    watches: list[InputMonitor]
    known: list[int]
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
    watches = [_watch_inputs(model, refuse, table["path"].tolist()) for model in models]
    unread: dict[int, str] = {}
    pixels = read_batches(
        [files[row] for row in rows], table["frame"].tolist(), reader,
        [len(batch.rows) for batch in plan], unread, stop, watches,
    )  # fmt: skip
    batches = (put_together(inputs.unit, *pair) for pair in zip(pixels, plan, strict=False))
    outputs = run_nets(models, batches, np.searchsorted(inputs.index, order), task)
    return _Read(
        outputs,
        [_sum_up(watch, of, inputs.unit) for watch in watches],
        [_count_known(*pair, of) for pair in zip(models, watches, strict=True)],
        {int(of[k]): text for k, text in sorted(unread.items(), reverse=True)},
    )


def _count_known(model: Model, watch: InputMonitor, of: np.ndarray) -> int:
    """Count the samples with an image that a model has seen; `of` is the sample of each image."""
    told = model.seen.knows([taken.digest for taken in watch.taken.values()])
    return len({int(of[k]) for k, known in zip(watch.taken, told, strict=True) if known})


def _lay_out(
    evaluator: Evaluator, outputs: Encoded, inputs: Inputs, statuses: Mapping[int, str],
    unread: Sequence[int],
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """Put predictions and status beside samples; unreadable ones get none.

    Args:
        evaluator: decides for all members.
        outputs: of all of them, in the order of the samples.
        inputs: the samples.
        statuses: why some could not be read, or in what they are foreign.
        unread: those that could not be read.
    """
    facts = inputs.unit.tables_of_new(inputs.table, inputs.index, inputs.folder)
    tables = {**facts} | evaluator.tabulate(outputs, facts)
    table = tables[""]
    table["status"] = [statuses.get(row, "ok") for row in range(len(table))]
    for name in table.columns.difference([*facts[""], "status"]):
        table.loc[~is_read(table), name] = np.nan if is_numeric_dtype(table[name]) else ""
    of_images = inputs.unit.lay_out(inputs.index).sample
    for name in tables.keys() - {""}:
        owner = of_images if name in facts else tables[name]["row"].to_numpy()
        tables[name] = tables[name][~np.isin(owner, unread)].reset_index(drop=True)
    return tables


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
