"""From manifests to the samples of a run: read, decode, split, join the training-only rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import medvision.files as files
from medvision.data.audit import Audit, count_parts
from medvision.data.classes import Classes, choose_classes
from medvision.data.manifest import Card, Manifest, read_manifest
from medvision.data.readers import Reader
from medvision.data.samples import Samples
from medvision.data.splits import SHARES, assign_splits
from medvision.data.store import Store, open_store
from medvision.errors import MedvisionError

if TYPE_CHECKING:
    from medvision.data.datamodule import ImageDataModule


def assemble(data: ImageDataModule) -> tuple[Samples, Audit, Card]:
    """Build what a datamodule serves, and the audit of how it came about.

    Raises:
        MedvisionError: anything wrong with manifest, images, labels or split.
    """
    own = read_manifest(files.find_input(str(data.manifest)), data.columns)
    facts = own.card.facts
    classes = choose_classes(
        own.table["label"],
        data.classes,
        own.card.classes,
        data.rename,
        multilabel=bool(_first(data.multilabel, facts.get("multilabel"))),
        negative=_first(data.negative, facts.get("negative")),
    )
    table, store = _decoded(own, data.reader, data.on_unreadable, data.workers)
    digests = np.array(store.digests, dtype=object)
    shares = data.shares or SHARES
    kept, audit = assign_splits(
        table, list(digests[table.index]), mode=data.mode, shares=shares, val_share=data.val_share,
        fold=data.fold, folds=data.folds, split_seed=data.split_seed, on_leak=data.on_leak,
    )  # fmt: skip
    where = [np.stack([np.zeros(len(kept), np.int64), kept.index.to_numpy()], axis=1)]
    tables, stores, seen = [kept], [store], [digests[kept.index]]
    for number, place in enumerate(data.extra, start=1):
        extra = read_manifest(files.find_input(place))
        rows, store = _decoded(extra, data.reader, data.on_unreadable, data.workers)
        rows = rows[rows["split"].isin(("", "train"))]  # its own val and test stay unseen
        if extra.card.key is None or extra.card.key != own.card.key:
            audit.notes.append(f"patients of {place} not checked: prepared with another key")
        _refuse_known(rows, store, kept, seen[0], place)
        _refuse_sizes(store, stores[0], place)
        tables.append(rows.assign(split="train", group=-number))
        stores.append(store)
        seen.append(np.array(store.digests, dtype=object)[rows.index])
        where.append(np.stack([np.full(len(rows), number), rows.index.to_numpy()], axis=1))
    whole = pd.concat(tables, ignore_index=True)
    if data.extra:
        audit.notes.append(f"{len(whole) - len(kept)} rows of data.extra joined train")
        audit.counts = count_parts(whole)
    _note_exclusions(audit, store=stores[0], manifest=own)
    if data.residency == "host":
        stores = [replace(store, array=np.array(store.array)) for store in stores]
    samples = Samples(
        whole, classes, classes.encode(whole["label"]), [*np.concatenate(seen)],
        stores, np.concatenate(where),
    )  # fmt: skip
    return samples, audit, own.card


def assemble_foreign(
    manifest: Manifest, reader: Reader, classes: Classes, on_unreadable: str, part: str
) -> Samples:
    """Serve another manifest's rows to a frozen model: without a split all rows are `part`.

    Raises:
        MedvisionError: a label the model does not know, unreadable files.
    """
    table, store = _decoded(manifest, reader, on_unreadable, None)
    if not (table["split"] != "").any():
        table = table.assign(split=part)
    label = classes.encode(table["label"])
    where = np.stack([np.zeros(len(table), np.int64), table.index.to_numpy()], axis=1)
    digests = np.array(store.digests, dtype=object)[table.index]
    return Samples(table.reset_index(drop=True), classes, label, [*digests], [store], where)


def _decoded(
    manifest: Manifest, reader: Reader, on_unreadable: str, workers: int | None
) -> tuple[pd.DataFrame, Store]:
    """Open the store and return the rows that could be read, with absolute paths."""
    paths = manifest.files()
    store = open_store(
        paths, manifest.table["frame"].tolist(), reader, on_unreadable=on_unreadable,
        workers=workers,
    )  # fmt: skip
    table = manifest.table.assign(path=[str(path) for path in paths])
    if "mask" in table:
        folder = manifest.path.parent
        table["mask"] = [str(folder / mask) if mask else "" for mask in table["mask"]]
    return table.drop(index=list(store.unreadable)), store


def _first(said: Any, otherwise: Any) -> Any:
    """Prefer what the user said to what the card says."""
    return otherwise if said is None else said


def _refuse_known(
    rows: pd.DataFrame, store: Store, kept: pd.DataFrame, digests: np.ndarray, place: str | Path
) -> None:
    """Refuse training-only rows that show a patient or an image of val or test."""
    held = (kept["split"] != "train").to_numpy()
    patients = set(zip(kept["dataset"][held], kept["patient"][held], strict=True))
    shared = [p for p in zip(rows["dataset"], rows["patient"], strict=True) if p in patients]
    images = set(digests[held]) & {store.digests[row] for row in rows.index}
    if shared or images:
        example = f", such as patient {shared[0][1]}" if shared else ""
        raise MedvisionError(
            f"data.extra={place} shares {len(set(shared))} patients and {len(images)} images with "
            f"val or test{example}; remove these rows from it"
        )


def _refuse_sizes(store: Store, own: Store, place: str) -> None:
    """Refuse training-only images that cannot lie in one batch with the others."""
    found, expected = ("x".join(map(str, s.array.shape[1:3])) for s in (store, own))
    if found != expected:
        raise MedvisionError(
            f"data.extra={place} has images of {found}, not {expected}; set data.reader.size=[H,W]"
        )


def _note_exclusions(audit: Audit, store: Store, manifest: Manifest) -> None:
    if store.unreadable:
        shown = "; ".join(list(store.unreadable.values())[:5])
        audit.notes.append(
            f"{len(store.unreadable)} unreadable images were left out by choice: {shown}"
        )
    if manifest.card.key is None:
        audit.notes.append("patients are given as they stand in the manifest, not hashed")
    audit.notes += manifest.notes
    if manifest.carried:
        audit.notes.append(f"columns carried but not read: {', '.join(manifest.carried)}")
    audit.notes.append(f"a patient is told by: {manifest.card.patient_rule}")
