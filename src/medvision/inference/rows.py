"""The rows that frozen models are scored on, as each of them reads them, and what they say."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

import medvision.files as files
from medvision.data.batches.assemble import assemble_foreign, hide_names
from medvision.data.batches.read import OnUnreadable
from medvision.data.batches.samples import Samples
from medvision.data.manifest.manifest import Manifest, read_manifest
from medvision.data.store.reader import Reader
from medvision.data.units.series_form import OnGap
from medvision.data.units.unit import Unit
from medvision.errors import MedvisionError
from medvision.evaluation.comparison.sweep_run import read_sweep_runs
from medvision.inference.ensemble import Ensemble
from medvision.inference.predictor import BATCH, open_model_unit, run_net
from medvision.model import Model
from medvision.runs import Run
from medvision.target import Target, open_target


@dataclass(frozen=True)
class Rows:
    """One part of a manifest, as each of some models reads it.

    Attributes:
        part: val or test.
        samples: one a model; models that read alike share one.
        index: `[N]` lines of the manifest, from 0, that every model can read, ascending.
        unread: the number of lines left out.
        own: it is the models' own part, not another manifest.
    """

    manifest: Manifest
    part: str
    samples: list[Samples]
    index: np.ndarray
    unread: int
    own: bool

    def find(self, number: int) -> np.ndarray:
        """Return where the lines of `index` stand in the samples of a model."""
        return np.searchsorted(self.samples[number].where[:, 1], self.index)

    def facts(self) -> dict[str, pd.DataFrame]:
        """Return the identifying columns, as predictions carry them, and those of all slices."""
        first = self.samples[0]
        lines = first.where[:, 1]
        return {
            name: table.assign(
                **{key: lines[table[key]] for key in ("index", "row") if key in table}
            )
            for name, table in first.tables_for(self.find(0)).items()
        }


def read_rows(
    ensemble: Ensemble, words: Mapping[str, Any], part: str, on_unreadable: OnUnreadable
) -> Rows:
    """Read the rows that `data.…` words name, once for each way the models have of reading.

    Without `data.manifest` it is the part of their own that all runs have in common.

    Raises:
        MedvisionError: no such rows, unreadable files, unknown labels, or no common part.
    """
    place, columns, rename, on_gap = _read_data_words(words)
    if part not in ("val", "test"):
        other = "; data.columns.split=null takes all rows of the table" if place else ""
        raise MedvisionError(f"split={part}: what is scored is called val or test{other}")
    if place is None:
        _check_own_part(ensemble, part)
    path = files.find_input(place) if place else ensemble.runs[0].manifest
    manifest = read_manifest(path, columns, open_target(ensemble.models[0].task))
    if place is None:  # what was generated only trained, and is read in another way
        real = manifest.table[manifest.table["origin"] != "generated"]
        manifest.table = real.reset_index(drop=True)
    target = _read_target(ensemble.models[0], rename)
    units = [open_model_unit(model).allow_gaps(on_gap) for model in ensemble.models]
    readers = [Reader.from_contract(model.contract) for model in ensemble.models]
    ways = list(zip(readers, units, strict=True))
    made = {
        way: assemble_foreign(manifest, way[0], target, on_unreadable, part, way[1])
        for way in dict.fromkeys(ways)
    }
    samples = [made[way] for way in ways]
    lines = [read.where[read.rows(part), 1] for read in made.values()]
    index = reduce(np.intersect1d, lines)
    if len(index) == 0:
        raise MedvisionError(f"{manifest.path} has no rows of split={part}; name another split")
    asked = _count_asked(manifest.table, part, units[0])
    return Rows(manifest, part, samples, index, asked - len(index), own=place is None)


def hide_people(ensemble: Ensemble, rows: Rows) -> Rows:
    """Hash ids and files of a manifest that was not, where a model's own patients are hashed.

    What is written of them lies with the run. They are compared with what it has seen before.
    """
    hashed = any(model.seen.key is not None for model in ensemble.models)
    if rows.manifest.card.key is not None or not hashed:
        return rows
    hidden = {id(samples): hide_names(samples) for samples in rows.samples}
    return replace(rows, samples=[hidden[id(samples)] for samples in rows.samples])


def _count_asked(table: pd.DataFrame, part: str, unit: Unit) -> int:
    """Count the samples of a part; without a split column all rows are it."""
    if (table["split"] != "").any():
        table = table[table["split"] == part]
    return unit.count(table)


def _read_data_words(
    words: Mapping[str, Any],
) -> tuple[str | None, dict[str, Any] | None, dict[str, Any], OnGap | None]:
    """Split `data.…` words into the manifest, the columns, the renamed labels and the gaps."""
    place, columns, rename, on_gap = None, {}, {}, None
    for key, value in words.items():
        group, _, name = key.partition(".")
        if key == "manifest":
            place = str(value)
        elif key == "on_gap":
            on_gap = value
        elif group == "columns" and name:
            columns[name] = value
        elif group == "rename" and name:
            rename[name] = str(value)
        else:
            raise MedvisionError(
                f"medvision evaluate has no argument data.{key}; "
                "it takes data.manifest, data.columns.…, data.rename.… and data.on_gap"
            )
    return place, columns or None, rename, on_gap


def _read_target(model: Model, rename: Mapping[str, str | None]) -> Target:
    """Return the target of a model as it reads it out of a table, with labels renamed."""
    plain = dict(model.target)
    if rename:
        plain["rename"] = {**plain.get("rename", {}), **rename}
    return open_target(model.task).from_plain(plain)


def _check_own_part(ensemble: Ensemble, part: str) -> None:
    """Refuse a part that the runs do not have in common."""
    first, *others = ensemble.runs
    if not others:
        return
    owned = [_read_own(*pair, part) for pair in zip(ensemble.runs, ensemble.models, strict=True)]
    for run, found in zip(others, owned[1:], strict=True):
        if found.keys() != owned[0].keys():
            raise MedvisionError(
                f"{first.title} and {run.title} have other rows in {part} "
                f"({len(owned[0])} and {len(found)}, {len(owned[0].keys() & found.keys())} of them "
                f"in both); {_tell_way_out(first, run)}"
            )
        differing = sum(found[key] != label for key, label in owned[0].items())
        if differing:
            raise MedvisionError(
                f"{first.title} and {run.title} have other annotations for {differing} of "
                f"{len(found)} rows in {part}; give data.manifest=FILE.csv with those to score on"
            )


def _read_own(run: Run, model: Model, part: str) -> dict[tuple[str, str, int], tuple[Any, ...]]:
    """Return the truth of each row in one part of a run, by (dataset, path, frame)."""
    target = _read_target(model, {})
    table = read_manifest(run.manifest, target=type(target)).table
    mine = open_model_unit(model).annotate(table[table["split"] == part], target)
    truth = zip(*target.decode(target.encode(mine)).values(), strict=True)
    keys = zip(mine["dataset"], mine["path"], mine["frame"].tolist(), strict=True)
    return dict(zip(keys, truth, strict=True))


def _tell_way_out(first: Run, second: Run) -> str:
    """Say what to do with runs that were tested on different patients."""
    a, b = read_sweep_runs([first, second])
    if a.fold == b.fold:
        return "give data.manifest=FILE.csv, rows that none of them has seen"
    return (
        "each fold tests on other patients; give data.manifest=FILE.csv for new data, or "
        "medvision report run=SWEEP pools the out-of-fold predictions"
    )


def predict_rows(ensemble: Ensemble, rows: Rows) -> dict[str, pd.DataFrame]:
    """Predict: one model with all that it answers, several with the mean of their samples."""
    facts, models, several = rows.facts(), ensemble.models, []
    for number, model in enumerate(models):
        task = "predicting" if len(models) == 1 else f"predicting {number + 1} of {len(models)}"
        batches = rows.samples[number].batches(rows.find(number), BATCH)
        several.append(run_net(model, batches, rows.index, task))
    if len(models) == 1:
        return ensemble.evaluators[0].tabulate(several[0], facts)
    joined = ensemble.evaluator.combine(several, ensemble.evaluators)
    return ensemble.evaluator.tabulate(joined, {"": facts[""]})
