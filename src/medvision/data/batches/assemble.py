"""From manifests to the samples of a run: read, decode, split, join the training-only rows."""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

import medvision.files as files
from medvision.data.audit.audit import Audit, count_parts
from medvision.data.audit.flow import count_joined, count_samples, trace_losses
from medvision.data.batches.extra import Main, read_extras
from medvision.data.batches.generated import holds_generated
from medvision.data.batches.options import Wishes
from medvision.data.batches.read import OnUnreadable, decode_rows, keep_whole_series
from medvision.data.batches.samples import Samples
from medvision.data.manifest.card import Card
from medvision.data.manifest.manifest import Manifest, read_manifest
from medvision.data.manifest.path_map import mask_paths
from medvision.data.manifest.rules import FILES
from medvision.data.splits.splits import SHARES, assign_splits
from medvision.data.store.reader import Reader
from medvision.data.store.store import Store
from medvision.data.units.series import index_slices
from medvision.data.units.series_form import (
    SeriesForm,
    check_series,
    check_series_alike,
    count_series,
    label_slices,
    refuse_torn,
    series_labels,
)
from medvision.errors import MedvisionError, did_you_mean
from medvision.tasks.classification.target import Classes, choose_classes


def assemble(data: Wishes) -> tuple[Samples, Audit, Card]:
    """Build what a datamodule serves, and the audit of how it came about.

    Raises:
        MedvisionError: anything wrong with manifest, images, labels or split.
    """
    own = read_manifest(files.find_input(str(data.manifest)), data.columns)
    if holds_generated(own):
        raise MedvisionError(
            f"{own.path} holds generated images, whose generator may have seen val or test; give "
            "them as data.extra, which only trains and checks that"
        )
    if data.form is not None:
        check_series(own.table, data.form)  # what is wrong is told before hours of decoding
    classes = _settle_classes(own, data)
    decoded = decode_rows(own, data.reader, data.on_unreadable, data.workers)
    read, form, told = keep_whole_series(decoded, data.form, own.table)
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
    listed = decoded.table
    if form is not None and form.channels:
        listed = listed[listed["channel"].isin(form.channels)]
    audit.flow = trace_losses(own.table, [
        ("unreadable", decoded.table), ("channel", listed), ("gap", read.table), ("leak", kept),
    ])  # fmt: skip
    read = read._replace(table=kept)
    extras = read_extras(Main(read, own.card, classes, form), data, audit)
    parts = [read, *(extra.read for extra in extras)]
    audit.flow["joined"] = count_joined(kept, [extra.read.table for extra in extras])
    whole = pd.concat([part.table for part in parts], ignore_index=True)
    for name in (name for name in FILES if name in whole):
        whole[name] = whole[name].fillna("")  # of a manifest without such files
    if data.extra:
        audit.counts = count_parts(whole[whole["origin"] != "generated"])
    _note_oddities(audit, read.store, own)
    if own.card.key is not None:
        whole = mask_files(whole, audit)
    if classes.kind == "binary":
        audit.notes.append(f"the positive class is {classes.names[1]!r} (data.classes orders them)")
    stores = [part.store for part in parts]
    if data.residency == "host":
        stores = [replace(store, array=np.array(store.array)) for store in stores]
    digest = np.concatenate([part.digest for part in parts]).tolist()
    where = np.concatenate([part.where(number) for number, part in enumerate(parts)])
    manifests = [part.manifest for part in parts]
    samples = _serve(whole, classes, form, digest, stores, where, manifests)
    samples.generated = [extra.generated for extra in extras if extra.generated]
    audit.flow["parts"] = count_samples(samples)
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
        check_series_alike(manifest.table, form)  # what is wrong is told before anything is decoded
    read = decode_rows(manifest, reader, on_unreadable)
    read, form, _ = keep_whole_series(read, form, manifest.table)
    table = read.table
    if not (table["split"] != "").any():
        table = table.assign(split=part)
    rows = table.reset_index(drop=True)
    if manifest.card.key is not None:
        rows = mask_files(rows)
    return _serve(rows, classes, form, read.digest.tolist(), [read.store], read.where(0))


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


def mask_files(table: pd.DataFrame, audit: Audit | None = None) -> pd.DataFrame:
    """Replace file names by stand-ins, from here on: in what is served, written and noted."""
    names = [name for name in FILES if name in table]
    hidden = {name: mask_paths(table[name].tolist()) for name in names}
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
