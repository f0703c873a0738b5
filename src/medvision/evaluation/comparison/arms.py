"""Arms of a sweep: runs that differ by nothing but seed and fold, and their predictions together.

A cell is one run. An arm is one choice of settings, trained in one cell or in several. A repeat is
what one seed makes of the rows: a single split's predictions, or those of all folds one after the
other (out-of-fold: each row is predicted by the one model that has not seen its patient).
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.errors import MedvisionError
from medvision.evaluation.comparison.settings import (
    find_differing,
    flatten,
    make_hashable,
    name_settings,
)
from medvision.evaluation.comparison.sweep_run import SweepRun
from medvision.evaluation.predictions import read_predictions
from medvision.runs import PLACES
from medvision.stats.ranking import Floats
from medvision.tasks.classification.evaluator import encode_labels
from medvision.tasks.classification.metrics import Kind, truth_of

REPEATED = ("seed", "data.fold", "data.split_seed")
BY_DIGEST = ("data.manifest", "data.source", "data.extra")  # content counts, not where it lies
KEPT = ("model.weights", *BY_DIGEST)  # places that make another arm all the same
ABSENT = object()


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
    digests = {key: v for key, v in flatten(cell.config).items() if _within(key, BY_DIGEST)}
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
    chosen = {key: flat.get(key, words.get(key, ABSENT)) for key in keys}
    chosen = {key: value for key, value in chosen.items() if value is not ABSENT}
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
        table: predictions of all its cells, with the column `fold` ("" of a single split).
    """

    seed: int
    split_seed: int
    folds: list[int | None]
    table: pd.DataFrame


def read_repeats(arm: Arm, part: str) -> list[Repeat]:
    """Read the predictions of the finished cells, folds of one split put together.

    Of two runs of the same place the first counts. A single split and folds stay apart.

    Raises:
        MedvisionError: a file is no table of predictions.
    """
    found: dict[tuple[int, int, bool], dict[int | None, pd.DataFrame]] = defaultdict(dict)
    for cell in sorted(arm.cells, key=_order):
        path = cell.run.predictions(part)
        if cell.status == "done" and path.exists():
            place = found[cell.seed, cell.split_seed, cell.fold is None]
            if cell.fold not in place:
                fold = "" if cell.fold is None else str(cell.fold)
                place[cell.fold] = read_predictions(path).assign(fold=fold)
    return [
        Repeat(seed, split_seed, list(tables), pd.concat(tables.values(), ignore_index=True))
        for (seed, split_seed, _), tables in sorted(found.items(), key=lambda item: item[0])
    ]


@dataclass(frozen=True)
class Aligned:
    """The same N rows under every repeat.

    Attributes:
        keys: (dataset, path, frame) of each row, sorted.
        label: `[N]` class indices, or `[N,K]` of 0 and 1 if multi-label.
        patients: (dataset, patient) of each row.
        strata: the fold of each row where all repeats agree on every one, else "".
        probs: `[N,K]` a repeat.
        preds: `[N,K]` a repeat, each decided at its own run's frozen operating point.
    """

    kind: Kind
    classes: list[str]
    keys: list[tuple[str, str, int]]
    label: NDArray[np.int64]
    patients: list[tuple[str, str]]
    strata: list[str]
    probs: list[Floats]
    preds: list[NDArray[np.bool_]]


def align(repeats: Sequence[Repeat], classes: Sequence[str], kind: Kind) -> Aligned:
    """Bring the repeats into one order of rows; unlabelled rows are left out.

    Raises:
        MedvisionError: no repeat, a row twice, or repeats of other rows, patients or labels.
    """
    if not repeats:
        raise MedvisionError("there are no predictions to put together; finish a run first")
    tables = [_sort_rows(repeat, classes, kind) for repeat in repeats]
    for repeat, table in zip(repeats[1:], tables[1:], strict=True):
        for what, column in (("rows", "key"), ("patients", "who"), ("labels", "label")):
            if table[column].tolist() != tables[0][column].tolist():
                raise MedvisionError(
                    f"{_place(repeats[0])} and {_place(repeat)} hold different {what}"
                    f"{_count_apart(tables[0], table) if what == 'rows' else ''}; only runs "
                    "tested on the same images can be put together"
                )
    first, columns = tables[0], [f"prob_{name}" for name in classes]
    agreed = all(table["fold"].tolist() == first["fold"].tolist() for table in tables)
    return Aligned(
        kind=kind,
        classes=list(classes),
        keys=first["key"].tolist(),
        label=encode_labels(first["label"].tolist(), classes, kind),
        patients=first["who"].tolist(),
        strata=first["fold"].tolist() if agreed else [""] * len(first),
        probs=[table[columns].to_numpy(dtype=np.float64) for table in tables],
        preds=[_decode(table, classes, kind) for table in tables],
    )


def _sort_rows(repeat: Repeat, classes: Sequence[str], kind: Kind) -> pd.DataFrame:
    """Sort the labelled rows by (dataset, path, frame)."""
    table = repeat.table
    missing = [c for c in ("pred", *(f"prob_{name}" for name in classes)) if c not in table]
    if missing:
        raise MedvisionError(
            f"the predictions of {_place(repeat)} have no column {missing[0]}; run "
            "`medvision evaluate` again"
        )
    label = encode_labels(table["label"].tolist(), classes, kind)
    table = table[label >= 0 if label.ndim == 1 else (label >= 0).any(axis=1)]
    keys, who = [*_identify(table)], [*zip(table["dataset"], table["patient"], strict=True)]
    ordered: pd.DataFrame = table.assign(key=keys, who=who).sort_values("key", ignore_index=True)
    if twice := int(ordered["key"].duplicated().sum()):
        raise MedvisionError(
            f"the predictions of {_place(repeat)} hold {twice} rows twice, such as "
            f"{ordered['key'][ordered['key'].duplicated()].iloc[0][1]}; a row belongs to one fold"
        )
    return ordered


def _identify(table: pd.DataFrame) -> Iterator[tuple[str, str, int]]:
    for dataset, path, frame in zip(table["dataset"], table["path"], table["frame"], strict=True):
        # One file may be reached over different manifests of the cache.
        yield str(dataset), os.path.normpath(str(path)), int(frame or 0)


def _decode(table: pd.DataFrame, classes: Sequence[str], kind: Kind) -> NDArray[np.bool_]:
    """Read the column `pred`: "" is no class at all, which only multi-label decides."""
    decided = encode_labels(table["pred"].tolist(), classes, kind)
    return np.asarray(truth_of(decided, kind, len(classes)) == 1)


def _place(repeat: Repeat) -> str:
    folds = [fold for fold in repeat.folds if fold is not None]
    words = [f"seed={repeat.seed}", f"split_seed={repeat.split_seed}"]
    return " ".join([*words, f"folds {','.join(map(str, folds))}"] if folds else words)


def _count_apart(first: pd.DataFrame, second: pd.DataFrame) -> str:
    one, other = set(first["key"]), set(second["key"])
    return f" ({len(one - other)} only in the first, {len(other - one)} only in the second)"
