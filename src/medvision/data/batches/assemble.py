"""From manifests to the samples of a run: read, decode, split, join the training-only rows."""

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

import medvision.files as files
from medvision.data.audit.audit import Audit, count_parts
from medvision.data.audit.flow import count_joined, count_samples, trace_losses
from medvision.data.batches.extra import Main, read_extras
from medvision.data.batches.generated import holds_generated
from medvision.data.batches.options import DataOptions
from medvision.data.batches.read import DecodedRows, OnUnreadable, decode_rows, keep_whole
from medvision.data.batches.samples import Samples
from medvision.data.manifest.card import Card
from medvision.data.manifest.columns import FILES, find_file_columns
from medvision.data.manifest.manifest import Manifest, read_manifest
from medvision.data.manifest.path_map import mask_paths
from medvision.data.splits.splits import SHARES, assign_splits
from medvision.data.store.reader import Reader
from medvision.data.store.store import Store
from medvision.data.units.image import Images
from medvision.data.units.unit import Unit
from medvision.errors import MedvisionError, did_you_mean
from medvision.identity import PARTS
from medvision.target import Target, is_among


def assemble(options: DataOptions, target: type[Target]) -> tuple[Samples, Audit, Card]:
    """Build what a datamodule serves, and the audit of how it came about.

    Args:
        options: what is asked for; its manifest is settled.
        target: what the annotations mean.

    Raises:
        MedvisionError: anything wrong with manifest, images, annotations or split.
    """
    own = read_manifest(files.find_input(str(options.manifest)), options.columns, target)
    if holds_generated(own):
        raise MedvisionError(
            f"{own.path} holds generated images, whose generator may have seen val or test; give "
            "them as data.extra, which only trains and checks that"
        )
    unit = options.make_unit()
    unit.keep_whole(own.table)  # what is wrong is told before hours of decoding
    asked = _resolve(target, own, unit, options.target_options)
    decoded = decode_rows(own, options.reader, options.on_unreadable, options.workers)
    read, unit, told = keep_whole(decoded, unit, own.table)
    kept, audit = _split(read, asked, options)
    unit.refuse_torn(read.table, kept)
    audit.notes += told
    listed, names = decoded.table, unit.form.channels
    listed = listed[listed["channel"].isin(names)] if names else listed
    audit.flow = trace_losses(own.table, [
        ("unreadable", decoded.table), ("channel", listed), ("gap", read.table), ("leak", kept),
    ])  # fmt: skip
    read = read._replace(table=kept)
    extras = read_extras(Main(read, own.card, asked, unit), options, audit)
    parts = [read, *(extra.read for extra in extras)]
    audit.flow["joined"] = count_joined(kept, [extra.read.table for extra in extras])
    whole = _join_tables([part.table for part in parts], target)
    if options.extra:
        real = whole[whole["origin"] != "generated"]
        audit.counts = count_parts(real, asked.strata(real))
    _note_oddities(audit, read.store, own)
    if own.card.key is not None:
        whole = mask_files(whole, target, audit)
    audit.notes += asked.notes()
    stores = [part.store for part in parts]
    if options.residency == "host":
        stores = [replace(store, array=np.array(store.array)) for store in stores]
    digest = np.concatenate([part.digest for part in parts]).tolist()
    where = np.concatenate([part.where(number) for number, part in enumerate(parts)])
    manifests = [part.manifest for part in parts]
    samples = _serve(whole, asked, unit, digest, stores, where, manifests)
    samples.generated = [extra.generated for extra in extras if extra.generated]
    audit.flow["parts"] = count_samples(
        whole, {part: samples.rows(part) for part in PARTS}, samples.count
    )
    audit.notes += samples.unit.describe(samples.targets, samples.row_targets)
    samples.unit.add_counts(audit.counts, whole, asked)
    return samples, audit, own.card


def assemble_foreign(
    manifest: Manifest,
    reader: Reader,
    target: Target,
    on_unreadable: OnUnreadable,
    part: str,
    unit: Unit | None = None,
) -> Samples:
    """Serve another manifest's rows to a frozen model: without a split all rows are `part`.

    Args:
        manifest: whose rows.
        reader: the model's.
        target: the model's.
        on_unreadable: stop, or leave unreadable files out.
        part: the name of rows without one.
        unit: the model's; None: images.

    Raises:
        MedvisionError: annotations the model does not know, unreadable files, faults of series.
    """
    unit = unit or Images()
    unit.keep_whole(manifest.table, frozen=True)  # what is wrong is told before decoding
    read = decode_rows(manifest, reader, on_unreadable)
    read, unit, _ = keep_whole(read, unit, manifest.table)
    table = read.table
    if not (table["split"] != "").any():
        table = table.assign(split=part)
    rows = table.reset_index(drop=True)
    if manifest.card.key is not None:
        rows = mask_files(rows, type(target))
    return _serve(rows, target, unit, read.digest.tolist(), [read.store], read.where(0))


def _resolve(target: type[Target], own: Manifest, unit: Unit, asked: Mapping[str, Any]) -> Target:
    """Settle what is asked of samples, by what they say as a whole."""
    takes = inspect.signature(target.resolve).parameters
    if foreign := [] if _takes_all(takes) else sorted(set(asked) - set(takes)):
        raise MedvisionError(
            f"data.{foreign[0]} means nothing to {target.__name__.lower()}; leave it out"
        )
    return target.resolve(unit.annotate(own.table, target), own.card.to_json(), **asked)


def _takes_all(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _split(read: DecodedRows, target: Target, options: DataOptions) -> tuple[pd.DataFrame, Audit]:
    """Give rows their parts, alike in what the target or `data.stratify` says."""
    own, column = target.strata(read.table), options.stratify
    kept, found = assign_splits(
        read.table, read.digest.tolist(), own if column is None else _column(read.table, column),
        mode=options.mode, shares=options.shares or SHARES, val_share=options.val_share,
        fold=options.fold, folds=options.folds, split_seed=options.split_seed,
        on_leak=options.on_leak,
    )  # fmt: skip
    audit = Audit(counts=count_parts(kept, own[kept.index]), **vars(found))
    if column is not None:
        audit.notes.append(f"parts are alike in {column!r} (data.stratify)")
    return kept, audit


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    if name not in table:
        hint = did_you_mean(name, [str(column) for column in table])
        raise MedvisionError(
            f"data.stratify={name} is no column of the manifest{hint}; name one, or null"
        )
    return table[name].astype(object).fillna("").astype(str)


def _join_tables(tables: Sequence[pd.DataFrame], target: type[Target]) -> pd.DataFrame:
    """Join rows of manifests; of those that lack a column of the target it is empty."""
    whole = pd.concat(tables, ignore_index=True)
    for name in (str(name) for name in whole):
        read = name in FILES or is_among(name, target.columns)
        if read and not is_numeric_dtype(whole[name]):
            whole[name] = whole[name].fillna("")
    return whole


def _serve(
    table: pd.DataFrame, target: Target, unit: Unit, digest: list[str], stores: list[Store],
    where: np.ndarray, manifests: Sequence[str] = (),
) -> Samples:  # fmt: skip
    """Encode the target, and index the samples."""
    targets, own = target.encode(unit.annotate(table, target)), unit.encode_rows(table, target)
    unit = unit.index(table)
    return Samples(table, target, targets, digest, stores, where, [*manifests], unit, own)


def mask_files(
    table: pd.DataFrame, target: type[Target], audit: Audit | None = None
) -> pd.DataFrame:
    """Replace file names by stand-ins, from here on: in what is served, written and noted."""
    names = find_file_columns(table, target)
    hidden = {name: mask_paths(table[name].tolist()) for name in names}
    for number, note in enumerate(audit.notes if audit else ()):
        if os.sep in note:
            for name in names:
                for path, stand_in in zip(table[name], hidden[name], strict=True):
                    if path and path in note:
                        note = note.replace(path, stand_in)
            audit.notes[number] = note  # type: ignore[union-attr]
    return table.assign(**hidden)


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
