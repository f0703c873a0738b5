"""From manifests to the samples of a run: read, decode, split, join the training-only rows."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd

import medvision.files as files
from medvision.data.audit import Audit, count_parts, patient_keys
from medvision.data.classes import Classes, choose_classes
from medvision.data.hidden import hide_paths
from medvision.data.manifest import Card, Manifest, read_manifest
from medvision.data.readers import Reader
from medvision.data.rows import FILES
from medvision.data.samples import Samples
from medvision.data.series import (
    SeriesForm,
    count_series,
    label_slices,
    note_sizes,
    refuse_torn,
    series_labels,
    settle_foreign,
    settle_series,
)
from medvision.data.slices import index_slices
from medvision.data.splits import SHARES, assign_splits
from medvision.data.store import Store, open_store
from medvision.errors import MedvisionError, did_you_mean

OnUnreadable = Literal["stop", "exclude"]


class Wishes(Protocol):
    """What is asked of a data set; `ImageDataModule` explains each and is the one that asks."""

    manifest: str | None
    columns: Mapping[str, str | None] | None
    reader: Reader
    classes: Sequence[str] | None
    rename: Mapping[str, str] | None
    multilabel: bool | None
    negative: str | None
    mode: Literal["auto", "given", "patient", "site"]
    shares: Mapping[str, float] | None
    val_share: float
    fold: int | None
    folds: int
    split_seed: int
    stratify: str | None
    on_leak: Literal["error", "drop"]
    on_unreadable: OnUnreadable
    extra: list[str]
    form: SeriesForm | None
    residency: Literal["auto", "disk", "host", "device"]
    workers: int | None


class Decoded(NamedTuple):
    """Rows that could be read, under their row of `store`, and their manifest's digest."""

    table: pd.DataFrame
    store: Store
    manifest: str

    @property
    def digest(self) -> np.ndarray:
        """Return the pixel digests; "" where all pixels are one value, which is no copy."""
        digests, natives = self.store.digests, self.store.natives
        told = ["" if n and n.low == n.high else d for d, n in zip(digests, natives, strict=True)]
        return np.asarray(np.array(told, dtype=object)[self.table.index])

    def where(self, number: int) -> np.ndarray:
        """Return `[N,2]`: the store's number and the row in it."""
        rows = self.table.index.to_numpy()
        return np.stack([np.full(len(rows), number), rows], axis=1)


def assemble(data: Wishes) -> tuple[Samples, Audit, Card]:
    """Build what a datamodule serves, and the audit of how it came about.

    Raises:
        MedvisionError: anything wrong with manifest, images, labels or split.
    """
    own = read_manifest(files.find_input(str(data.manifest)), data.columns)
    if data.form is not None:
        settle_series(own.table, data.form)  # what is wrong is told before hours of decoding
    classes = _settle_classes(own, data)
    read = decode_rows(own, data.reader, data.on_unreadable, data.workers)
    read, form, told = _settle(read, data.form, own.table)
    kept, audit = assign_splits(
        _with_strata(read.table, data.stratify), read.digest.tolist(), mode=data.mode,
        shares=data.shares or SHARES, val_share=data.val_share, fold=data.fold, folds=data.folds,
        split_seed=data.split_seed, on_leak=data.on_leak,
    )  # fmt: skip
    kept["label"] = read.table.loc[kept.index, "label"]
    if data.stratify is not None:
        audit.counts = count_parts(kept)
        audit.notes.append(f"parts are alike in {data.stratify!r} (data.stratify)")
    if form is not None:
        refuse_torn(read.table, kept)
    audit.notes += told
    parts = [read._replace(table=kept)]
    for place in data.extra:
        parts.append(_read_extra(place, parts[0], own.card, data, audit, form))
    whole = pd.concat([part.table for part in parts], ignore_index=True)
    if data.extra:
        audit.notes.append(f"{len(whole) - len(kept)} rows of data.extra joined train")
        audit.counts = count_parts(whole)
    _note_oddities(audit, read.store, own)
    if own.card.key is not None:
        whole = hide_files(whole, audit)
    if classes.kind == "binary":
        audit.notes.append(f"the positive class is {classes.names[1]!r} (data.classes orders them)")
    stores = [part.store for part in parts]
    if data.residency == "host":
        stores = [replace(store, array=np.array(store.array)) for store in stores]
    digest = np.concatenate([part.digest for part in parts]).tolist()
    where = np.concatenate([part.where(number) for number, part in enumerate(parts)])
    manifests = [part.manifest for part in parts]
    samples = _serve(whole, classes, form, digest, stores, where, manifests)
    if samples.slices is not None:
        audit.notes += samples.slices.describe()
        count_series(audit.counts, whole, samples.slices.first)
        if samples.slice_label is None:
            audit.notes.append("no slice has a label of its own")
    return samples, audit, own.card


def assemble_foreign(
    manifest: Manifest,
    reader: Reader,
    classes: Classes,
    on_unreadable: OnUnreadable,
    part: str,
    form: SeriesForm | None = None,
) -> Samples:
    """Serve another manifest's rows to a frozen model: without a split all rows are `part`.

    Args:
        manifest: whose rows.
        reader: the model's.
        classes: the model's.
        on_unreadable: stop, or leave unreadable files out.
        part: the name of rows without one.
        form: of a model of series, with the channels it was trained on.

    Raises:
        MedvisionError: a label the model does not know, unreadable files, faults of series.
    """
    if form is not None:
        settle_foreign(manifest.table, form)  # what is wrong is told before anything is decoded
    read = decode_rows(manifest, reader, on_unreadable)
    read, form, _ = _settle(read, form, manifest.table)
    table = read.table
    if not (table["split"] != "").any():
        table = table.assign(split=part)
    rows = table.reset_index(drop=True)
    if manifest.card.key is not None:
        rows = hide_files(rows)
    return _serve(rows, classes, form, read.digest.tolist(), [read.store], read.where(0))


def decode_rows(
    manifest: Manifest, reader: Reader, on_unreadable: OnUnreadable, workers: int | None = None
) -> Decoded:
    """Open the store of a manifest; paths become absolute."""
    paths, frames = manifest.files(), manifest.table["frame"].tolist()
    store = open_store(paths, frames, reader, on_unreadable=on_unreadable, workers=workers)
    table = manifest.table.assign(path=[str(path) for path in paths])
    if "mask" in table:
        folder = manifest.path.parent
        table["mask"] = [str(folder / mask) if mask else "" for mask in table["mask"]]
    return Decoded(table.drop(index=list(store.unreadable)), store, manifest.digest)


def _settle(
    read: Decoded, form: SeriesForm | None, whole: pd.DataFrame
) -> tuple[Decoded, SeriesForm | None, list[str]]:
    """Leave out rows that make no whole series; of images all stay."""
    if form is None:
        return read, None, []
    table, form, notes = settle_series(read.table, form, whole)
    natives = [read.store.natives[row] for row in table.index]
    sizes = [None if each is None else (each.height, each.width) for each in natives]
    return read._replace(table=table), form, notes + note_sizes(table, sizes)


def _with_strata(table: pd.DataFrame, column: str | None) -> pd.DataFrame:
    """Put as `label` what parts are to be alike in: a column, or the label.

    Series with labels of their own alone are spread by those; else rows count.
    """
    if column is not None:
        if column not in table:
            hint = did_you_mean(column, [str(name) for name in table])
            raise MedvisionError(
                f"data.stratify={column} is no column of the manifest{hint}; name one, or null"
            )
        return table.assign(label=table[column].astype(object).fillna("").astype(str))
    bare = "series_label" in table and not (table["label"] != "").any()
    return table.assign(label=table["series_label"].fillna("")) if bare else table


def _serve(
    table: pd.DataFrame, classes: Classes, form: SeriesForm | None, digest: list[str],
    stores: list[Store], where: np.ndarray, manifests: Sequence[str] = (),
) -> Samples:  # fmt: skip
    """Encode the labels and, of series, index the slices."""
    label = classes.encode(table["label"] if form is None else series_labels(table))
    slices = None if form is None else index_slices(table, form)
    each = None if form is None else label_slices(table, classes)
    return Samples(table, classes, label, digest, stores, where, [*manifests], slices, each)


def hide_files(table: pd.DataFrame, audit: Audit | None = None) -> pd.DataFrame:
    """Replace file names by stand-ins, from here on: in what is served, written and noted."""
    names = [name for name in FILES if name in table]
    hidden = {name: hide_paths(table[name].tolist()) for name in names}
    for number, note in enumerate(audit.notes if audit else ()):
        if os.sep in note:
            for name in names:
                for path, stand_in in zip(table[name], hidden[name], strict=True):
                    if path and path in note:
                        note = note.replace(path, stand_in)
            audit.notes[number] = note  # type: ignore[union-attr]
    return table.assign(**hidden)


def _settle_classes(own: Manifest, data: Wishes) -> Classes:
    """Choose the classes as the user says, else as the card says, else from the labels."""
    facts = own.card.facts
    several, negative = data.multilabel, data.negative
    labels = own.table["label"] if data.form is None else series_labels(own.table)
    return choose_classes(
        labels, data.classes, own.card.classes, data.rename,
        multilabel=bool(facts.get("multilabel") if several is None else several),
        negative=facts.get("negative") if negative is None else negative,
    )  # fmt: skip


def _read_extra(
    place: str, own: Decoded, card: Card, data: Wishes, audit: Audit, form: SeriesForm | None
) -> Decoded:
    """Read rows that only train.

    Raises:
        MedvisionError: they show a patient or an image of val or test, or have another size.
    """
    manifest = read_manifest(files.find_input(place))
    read = decode_rows(manifest, data.reader, data.on_unreadable, data.workers)
    read, _, told = _settle(read, form, manifest.table)
    audit.notes += told
    table = read.table[read.table["split"].isin(("", "train"))]  # its val and test stay unseen
    extra = read._replace(table=table.assign(split="train", group=-1))
    if manifest.card.key is None or manifest.card.key != card.key:
        audit.notes.append(f"patients of {place} not checked: prepared with another key")
    held = own._replace(table=own.table[own.table["split"] != "train"])
    tested, trained = (set(patient_keys(part.table)) for part in (held, extra))
    patients, images = tested & trained, (set(held.digest) & set(extra.digest)) - {""}
    if patients or images:
        example = f", such as patient {min(patients).rpartition(chr(31))[2]}" if patients else ""
        raise MedvisionError(
            f"data.extra={place} shares {len(patients)} patients and {len(images)} images with "
            f"val or test{example}; remove these rows from it"
        )
    found, expected = ("x".join(map(str, s.array.shape[1:3])) for s in (read.store, own.store))
    if found != expected:
        raise MedvisionError(
            f"data.extra={place} has images of {found}, not {expected}; set data.reader.size=[H,W]"
        )
    return extra


def _note_oddities(audit: Audit, store: Store, manifest: Manifest) -> None:
    if store.unreadable:
        shown = "; ".join(list(store.unreadable.values())[:5])
        audit.notes.append(
            f"{len(store.unreadable)} unreadable images were left out by choice: {shown}"
        )
    if manifest.card.key is None:
        audit.notes.append("patients are given as they stand in the manifest, not hashed")
    audit.notes += manifest.notes + list(manifest.card.facts.get("audit", {}).get("notes", ()))
    if manifest.carried:
        audit.notes.append(f"columns carried but not read: {', '.join(manifest.carried)}")
    audit.notes.append(f"a patient is told by: {manifest.card.patient_rule}")
