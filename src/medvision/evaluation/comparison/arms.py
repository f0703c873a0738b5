"""Arms of a sweep: runs that differ by nothing but seed and fold, and their predictions together.

A cell is one run. An arm is one choice of settings, trained in one cell or in several. A repeat is
what one seed makes of the rows: a single split's predictions, or those of all folds one after the
other (out-of-fold: each row is predicted by the one model that has not seen its patient).
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from medvision.errors import MedvisionError
from medvision.evaluation.comparison.settings import (
    find_differing,
    flatten,
    make_hashable,
    name_settings,
)
from medvision.evaluation.comparison.sweep_run import SweepRun
from medvision.evaluation.evaluator import Evaluator, Scored, target_of
from medvision.evaluation.predictions import join_tables, read_tables
from medvision.runs import PLACES, REPEATED

_BY_DIGEST = ("data.manifest", "data.source", "data.extra")  # content counts, not where it lies
KEPT = ("model.weights", *_BY_DIGEST)  # places that make another arm all the same
_ABSENT = object()


@dataclass(frozen=True)
class Arm:
    """Cells of equal settings.

    Attributes:
        name: what tells it from the other arms; "" if it is the only one.
        settings: key → value of what the arms differ in; a key this arm lacks is left out.
    """

    name: str
    settings: dict[str, Any]
    cells: list[SweepRun]

    @property
    def evaluator(self) -> Evaluator:
        """What scores its task, of the first run that says what it predicts."""
        told = (cell for cell in self.cells if target_of(cell.record))
        return next(told, self.cells[0]).evaluator


def gather_arms(cells: Sequence[SweepRun]) -> list[Arm]:
    """Group cells by their settings, in the order of the first; refused ones belong to no arm."""
    groups: dict[str, list[SweepRun]] = defaultdict(list)
    for cell in cells:
        if cell.config:
            groups[json.dumps(_essence(cell), sort_keys=True, default=str)].append(cell)
    members = [sorted(some, key=_order) for some in groups.values()]
    settings = _tell_apart([some[0] for some in members])
    names = name_settings(settings)
    return [Arm(*given) for given in zip(names, settings, members, strict=True)]


def _order(cell: SweepRun) -> tuple[int, int, int, str]:
    fold = -1 if cell.fold is None else cell.fold
    return cell.split_seed, cell.seed, fold, str(cell.run.folder)


def _essence(cell: SweepRun) -> dict[str, Any]:
    """Return what decides the result but for seed and split, flat; manifests by their digests."""
    flat = {key: value for key, value in flatten(cell.config).items() if not _is_beside(key)}
    digests = {key: v for key, v in flatten(cell.config).items() if _within(key, _BY_DIGEST)}
    if "manifest" in cell.record:
        # The last one is of the pixels served: folds that leak drop other rows in each.
        parts = cell.record["manifest"]
        digests = {"data.manifest": parts if cell.fold is None else parts[:-1]}
    if isinstance(start := flat.get("model.weights"), str):
        digests["model.weights"] = _without_place(start, cell)
    return flat | digests


def _without_place(weights: str, cell: SweepRun) -> str:
    """Name what a run starts from without its own seed and fold: each fold has its own such run."""
    for key, value in (("seed", cell.seed), ("fold", cell.fold)):
        weights = re.sub(rf"\b{key}={value}\b", f"{key}=*", weights)
    return weights


def _is_beside(key: str) -> bool:
    """Tell keys that make no other arm; whatever is called `seed` follows the run's own."""
    if key == "model.weights":
        return False
    return _within(key, (*REPEATED, *PLACES)) or key.endswith(".seed")


def _within(key: str, parents: Sequence[str]) -> bool:
    return any(key == parent or key.startswith(parent + ".") for parent in parents)


def _tell_apart(firsts: Sequence[SweepRun]) -> list[dict[str, Any]]:
    """Return for each arm the settings that differ: as the user said them, else of the config."""
    said = find_differing([_choices(cell, firsts) for cell in firsts])
    if len({make_hashable(row) for row in said}) == len(firsts):
        return said
    whole = [flatten(cell.config) for cell in firsts]
    return find_differing([
        {key: value for key, value in flat.items() if not _is_beside(key) or _within(key, KEPT)}
        for flat in whole
    ])  # fmt: skip


def _choices(cell: SweepRun, firsts: Sequence[SweepRun]) -> dict[str, Any]:
    """Return the values of all keys that any arm was told, and the sweep where there are several.

    A group (`model=keras_cnn`) is no key of the config: it counts as it was typed.
    """
    words = read_overrides(cell)
    keys = dict.fromkeys(key for other in firsts for key in read_overrides(other))
    flat = flatten(cell.config)
    chosen = {key: flat.get(key, words.get(key, _ABSENT)) for key in keys}
    chosen = {key: value for key, value in chosen.items() if value is not _ABSENT}
    return {"name": cell.run.folder.parent.name} | chosen


def read_overrides(cell: SweepRun) -> dict[str, str]:
    """Return key → text of the words that led to a run, without seeds, folds and places."""
    words = [str(word).lstrip("+").partition("=") for word in cell.record.get("overrides") or []]
    kept = {key: text for key, _, text in words if not key.startswith("~") and key != "experiment"}
    return {k: v for k, v in kept.items() if not _is_beside(k) or _within(k, KEPT)}


@dataclass(frozen=True)
class Repeat:
    """The predictions of one seed and one way to split.

    Attributes:
        folds: those found; [None] of a single split.
        tables: predictions of all its cells, nested ones too, with the column `fold` ("" of a
            single split).
    """

    seed: int
    split_seed: int
    folds: list[int | None]
    tables: Mapping[str, pd.DataFrame]

    def of_fold(self, fold: int | None) -> "Repeat":
        """Return the predictions of one fold alone."""
        own = (self.tables[""]["fold"] == _name_fold(fold)).to_numpy()
        number = own.cumsum() - 1
        tables = {
            name: table[own[table["row"]]].assign(row=lambda some: number[some["row"]])
            for name, table in self.tables.items()
            if name
        }
        return replace(self, folds=[fold], tables={"": self.tables[""][own], **tables})


def _name_fold(fold: int | None) -> str:
    return "" if fold is None else str(fold)


def read_repeats(arm: Arm, part: str) -> list[Repeat]:
    """Read the predictions of the finished cells, folds of one split put together.

    Of two runs of the same place the first counts. A single split and folds stay apart.

    Raises:
        MedvisionError: a file is no table of predictions.
    """
    found: dict[tuple[int, int, bool], dict[int | None, Any]] = defaultdict(dict)
    for cell in sorted(arm.cells, key=_order):
        path = cell.run.predictions(part)
        if cell.status == "done" and path.exists():
            place = found[cell.seed, cell.split_seed, cell.fold is None]
            if cell.fold not in place:
                tables = read_tables(path, cell.evaluator.tables)
                tables[""] = tables[""].assign(fold=_name_fold(cell.fold))
                place[cell.fold] = tables
    return [
        Repeat(seed, split_seed, list(folds), join_tables(list(folds.values())))
        for (seed, split_seed, _), folds in sorted(found.items(), key=lambda item: item[0])
    ]


@dataclass(frozen=True)
class Aligned:
    """The same N rows under every repeat.

    Attributes:
        keys: (dataset, path, frame) of each row, sorted.
        truth: of each row, its cells of the columns that say what is true.
        patients: (dataset, patient) of each row.
        strata: the fold of each row where all repeats agree on every one, else "".
        scored: a repeat, each row decided at its own run's frozen operating point.
    """

    keys: list[tuple[str, str, int]]
    truth: list[tuple[str, ...]]
    patients: list[tuple[str, str]]
    strata: list[str]
    scored: list[Scored]


def align(repeats: Sequence[Repeat], evaluator: Evaluator) -> Aligned:
    """Bring the repeats into one order of rows; those whose truth is unknown are left out.

    Raises:
        MedvisionError: no repeat, a row twice, or repeats of other rows, patients or labels.
    """
    if not repeats:
        raise MedvisionError("there are no predictions to put together; finish a run first")
    rows = [_sort_rows(repeat, evaluator) for repeat in repeats]
    first = rows[0]
    for repeat, other in zip(repeats[1:], rows[1:], strict=True):
        for what, same in (
            ("rows", other.keys == first.keys),
            ("patients", other.patients == first.patients),
            ("annotations", other.truth == first.truth),
        ):
            if not same:
                raise MedvisionError(
                    f"{_place(repeats[0])} and {_place(repeat)} hold different {what}"
                    f"{_count_apart(first, other) if what == 'rows' else ''}; only runs "
                    "tested on the same images can be put together"
                )
    agreed = all(other.strata == first.strata for other in rows)
    strata = first.strata if agreed else [""] * len(first.strata)
    return replace(first, strata=strata, scored=[one for other in rows for one in other.scored])


def _sort_rows(repeat: Repeat, evaluator: Evaluator) -> Aligned:
    """Sort the rows of one repeat whose truth is known by (dataset, path, frame)."""
    schema = evaluator.tables[""]
    if missing := [name for name in schema.needed if name not in repeat.tables[""]]:
        raise MedvisionError(
            f"the predictions of {_place(repeat)} have no column {missing[0]}; run "
            "`medvision evaluate` again"
        )
    known = evaluator.read(repeat.tables)
    keys = pd.Series(list(_identify(known.table)), dtype=object)
    if twice := keys[keys.duplicated()].sort_values().tolist():
        raise MedvisionError(
            f"the predictions of {_place(repeat)} hold {len(twice)} rows twice, such as "
            f"{twice[0][1]}; a row belongs to one fold"
        )
    scored = known.take(keys.sort_values().index.to_numpy())
    table = scored.table
    truth = table[[*schema.truth]].astype(object)  # unknown numbers are equal to each other
    return Aligned(
        keys=keys.sort_values().tolist(),
        truth=[*truth.where(truth.notna(), None).itertuples(index=False, name=None)],
        patients=scored.patients,
        strata=table["fold"].tolist(),
        scored=[scored],
    )


def _identify(table: pd.DataFrame) -> Iterator[tuple[str, str, int]]:
    for dataset, path, frame in zip(table["dataset"], table["path"], table["frame"], strict=True):
        # One file may be reached over different manifests of the cache.
        yield str(dataset), os.path.normpath(str(path)), int(frame or 0)


def _place(repeat: Repeat) -> str:
    folds = [fold for fold in repeat.folds if fold is not None]
    words = [f"seed={repeat.seed}", f"split_seed={repeat.split_seed}"]
    return " ".join([*words, f"folds {','.join(map(str, folds))}"] if folds else words)


def _count_apart(first: Aligned, second: Aligned) -> str:
    one, other = set(first.keys), set(second.keys)
    return f" ({len(one - other)} only in the first, {len(other - one)} only in the second)"
