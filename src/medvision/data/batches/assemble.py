"""From manifests to the samples of a run: read, decode, split, join the training-only rows."""

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

import medvision.files as files
from medvision.data.audit.audit import Audit, count_parts
from medvision.data.audit.flow import count_joined, count_samples, trace_losses
from medvision.data.batches.boxes import place_boxes
from medvision.data.batches.extra import Main, read_extras
from medvision.data.batches.generated import holds_generated
from medvision.data.batches.options import DataOptions
from medvision.data.batches.read import (
    DecodedRows,
    OnUnreadable,
    decode_rows,
    keep_whole_series,
)
from medvision.data.batches.samples import Samples
from medvision.data.manifest.card import Card
from medvision.data.manifest.columns import FILES, find_file_columns
from medvision.data.manifest.manifest import Manifest, read_manifest
from medvision.data.manifest.path_map import mask_paths
from medvision.data.splits.splits import SHARES, assign_splits
from medvision.data.store.label_reader import LabelReader
from medvision.data.store.reader import Reader
from medvision.data.units.series import index_slices
from medvision.data.units.series_form import (
    SeriesForm,
    check_series,
    check_series_alike,
    count_series,
    refuse_torn,
)
from medvision.errors import MedvisionError, did_you_mean
from medvision.identity import PARTS, series_keys
from medvision.target import Array, Ragged, Target, is_among


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
    if options.form is not None:
        check_series(own.table, options.form)  # what is wrong is told before hours of decoding
    asked = _resolve(target, own, options)
    decoded = decode_rows(own, options.reader, options.on_unreadable, options.workers, target.files)
    read, form, told = keep_whole_series(decoded, options.form, own.table)
    kept, audit = _split(read, asked, options)
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
    extras = read_extras(Main(read, own.card, asked, form), options, audit)
    parts = [read, *(extra.read for extra in extras)]
    audit.flow["joined"] = count_joined(kept, [extra.read.table for extra in extras])
    whole = _join_tables([part.table for part in parts], target)
    if options.extra:
        real = whole[whole["origin"] != "generated"]
        audit.counts = count_parts(real, asked.strata(real))
    _note_oddities(audit, read, own)
    if own.card.key is not None:
        whole = mask_files(whole, target, audit)
    audit.notes += asked.notes()
    if options.residency == "host":
        parts = [_hold(part) for part in parts]
    samples, lost = _serve(whole, asked, form, parts, options.reader)
    audit.notes += lost
    samples.generated = [extra.generated for extra in extras if extra.generated]
    audit.flow["parts"] = count_samples(
        whole, {part: samples.rows(part) for part in PARTS}, samples.count
    )
    if samples.slices is not None:
        audit.notes += samples.slices.describe()
        first = whole.assign(**asked.of_unit(whole, series_keys(whole))).iloc[samples.slices.first]
        count_series(audit.counts, first["split"], asked.strata(first))
        if samples.targets and not samples.row_targets:
            audit.notes.append("no slice is annotated by itself")
    return samples, audit, own.card


def assemble_foreign(
    manifest: Manifest,
    reader: Reader,
    target: Target,
    on_unreadable: OnUnreadable,
    part: str,
    form: SeriesForm | None = None,
) -> Samples:
    """Serve another manifest's rows to a frozen model: without a split all rows are `part`.

    Args:
        manifest: whose rows.
        reader: the model's.
        target: the model's.
        on_unreadable: stop, or leave unreadable files out.
        part: the name of rows without one.
        form: of a model of series, with the channels it was trained on.

    Raises:
        MedvisionError: annotations the model does not know, unreadable files, faults of series.
    """
    if form is not None:
        check_series_alike(manifest.table, form)  # what is wrong is told before anything is decoded
    read = decode_rows(manifest, reader, on_unreadable, files=target.files)
    read, form, _ = keep_whole_series(read, form, manifest.table)
    table = read.table
    if not (table["split"] != "").any():
        table = table.assign(split=part)
    rows = table.reset_index(drop=True)
    if manifest.card.key is not None:
        rows = mask_files(rows, type(target))
    return _serve(rows, target, form, [read], reader)[0]


def _resolve(target: type[Target], own: Manifest, options: DataOptions) -> Target:
    """Settle what is asked, of series by what they say as a whole."""
    asked = options.target_options
    takes = inspect.signature(target.resolve).parameters
    if foreign := [] if _takes_all(takes) else sorted(set(asked) - set(takes)):
        raise MedvisionError(
            f"data.{foreign[0]} means nothing to {target.__name__.lower()}; leave it out"
        )
    table = own.table
    if options.form is not None:
        table = table.assign(**target.of_unit(table, series_keys(table)))
    return target.resolve(table, own.card.to_json(), **asked)


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


def _hold(part: DecodedRows) -> DecodedRows:
    """Read all pixels into memory."""
    return part._replace(store=replace(part.store, array=np.array(part.store.array)))


def _serve(
    table: pd.DataFrame,
    target: Target,
    form: SeriesForm | None,
    parts: Sequence[DecodedRows],
    reader: Reader,
) -> tuple[Samples, list[str]]:
    """Encode the target and, of series, index the slices; return what is to be noted as well."""
    own: dict[str, Array | Ragged] = {}
    if form is None:
        targets = target.encode(table)
    else:
        keys = series_keys(table)
        targets = target.encode(table.assign(**target.of_unit(table, keys)))
        own = target.encode_rows(table, keys)
    samples = Samples(
        table, target, targets,
        np.concatenate([part.digest for part in parts]).tolist(),
        [part.store for part in parts],
        np.concatenate([part.where(number) for number, part in enumerate(parts)]),
        [part.manifest for part in parts],
        None if form is None else index_slices(table, form),
        own,
        maps={name: [part.maps.get(name) for part in parts]
              for name in dict.fromkeys(name for part in parts for name in part.maps)},
    )  # fmt: skip
    return samples, _place_boxes(samples, LabelReader.beside(reader))


def _place_boxes(samples: Samples, reader: LabelReader) -> list[str]:
    """Turn boxes in pixels of files into boxes in pixels of images, in place; say what is lost."""
    notes, facts = [], samples.natives(np.arange(len(samples))) if samples.target.boxes else []
    for name in samples.target.boxes:
        for encoded in (samples.targets, samples.row_targets):
            boxes = encoded.get(name)
            if not isinstance(boxes, Ragged):
                continue
            files = np.array([(fact.height, fact.width) for fact in facts if fact])
            size = samples.stores[0].array.shape[1:3]
            encoded[name], lost = place_boxes(
                boxes, files, (size[0], size[1]), reader, samples.table["path"].tolist()
            )
            if lost:
                notes.append(f"{lost} of {len(boxes.values)} {name} lie outside of what is kept")
    return notes


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


def _note_oddities(audit: Audit, read: DecodedRows, manifest: Manifest) -> None:
    if reasons := read.unreadable:
        shown = "; ".join(list(reasons.values())[:5])
        audit.notes.append(f"{len(reasons)} unreadable images were left out by choice: {shown}")
    if manifest.card.key is None:
        audit.notes.append("patients are given as they stand in the manifest, not hashed")
    audit.notes += manifest.notes + list(manifest.card.facts.get("audit", {}).get("notes", ()))
    if manifest.carried:
        audit.notes.append(f"columns carried but not read: {', '.join(manifest.carried)}")
    audit.notes.append(f"a patient is told by: {manifest.card.patient_rule}")
