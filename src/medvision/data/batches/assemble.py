"""From manifests to the samples of a run: read, decode, split, join the training-only rows."""

import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

import medvision.files as files
from medvision.data.audit.audit import Audit, count_parts
from medvision.data.audit.findings import note_near_copies
from medvision.data.audit.flow import count_joined, count_samples, trace_losses
from medvision.data.audit.near_duplicates import Pairs
from medvision.data.batches.boxes import place_boxes
from medvision.data.batches.extra import Main, read_extras
from medvision.data.batches.generated import holds_generated
from medvision.data.batches.near_copies import describe_store, find_within
from medvision.data.batches.options import DataOptions
from medvision.data.batches.read import DecodedRows, OnUnreadable, decode_rows, keep_whole
from medvision.data.batches.samples import Samples
from medvision.data.manifest.card import Card
from medvision.data.manifest.carry import LETTERED, choose_carried, name_readers, note_left_out
from medvision.data.manifest.columns import FILES, find_file_columns, find_readers, names_files
from medvision.data.manifest.manifest import Manifest, read_manifest
from medvision.data.manifest.path_map import mask_paths, without_names
from medvision.data.manifest.pseudonyms import IDS, hash_ids
from medvision.data.splits.groups import connect, join_pairs
from medvision.data.splits.splits import SHARES, assign_splits
from medvision.data.store.label_reader import LabelReader
from medvision.data.store.reader import Reader
from medvision.data.units.image import Images
from medvision.data.units.unit import Unit
from medvision.errors import MedvisionError, did_you_mean
from medvision.identity import PARTS, patient_keys
from medvision.target import Ragged, Target, is_among
from medvision.trust.user_key import user_key

log = logging.getLogger(__name__)


def assemble(options: DataOptions, target: type[Target]) -> tuple[Samples, Audit, Card]:
    """Build what a datamodule serves, and the audit of how it came about.

    Args:
        options: what is asked for; its manifest is settled.
        target: what the annotations mean.

    Raises:
        MedvisionError: anything wrong with manifest, images, annotations or split.
    """
    own = read_manifest(files.find_input(str(options.manifest)), options.columns, target)
    unread: list[str] = []
    people = own.card.key is not None and not own.card.facts.get("simulated")
    if people:  # told before hours of decoding
        own, unread = _keep_carried(own, options, target)
    if holds_generated(own):
        raise MedvisionError(
            f"{own.path} holds generated images, whose generator may have seen val or test; give "
            "them as data.extra, which only trains and checks that"
        )
    unit = options.make_unit()
    unit.keep_whole(own.table)  # what is wrong is told before hours of decoding
    asked = _resolve(target, own, unit, options.target_options)
    decoded = decode_rows(own, options.reader, options.on_unreadable, options.workers, target.files)
    read, unit, told = keep_whole(decoded, unit, own.table)
    near = _find_near_copies(decoded, own, options.reader)
    kept, audit = _split(_join_near(read, near, own), asked, options)
    unit.refuse_torn(read.table, kept)
    audit.notes += [*decoded.notes, *told, *_note_near(near, own, kept, audit.mode)]
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
    _note_oddities(audit, read, own)
    if people:
        whole, _ = choose_carried(whole, options.carry, target, _also_read(options))
        audit.notes += note_left_out(unread)
    if own.card.key is not None:
        whole = _mask_files(whole, target, audit)
    audit.notes += asked.notes()
    if options.residency == "host":
        parts = [_hold(part) for part in parts]
    samples, lost = _serve(whole, asked, unit, parts, options.reader, own.card.key)
    samples.unchecked = [note for extra in extras for note in extra.unchecked]
    audit.notes += lost
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
    read = decode_rows(manifest, reader, on_unreadable, files=target.files)
    for note in read.notes:
        log.warning("%s", note)
    read, unit, _ = keep_whole(read, unit, manifest.table)
    table = read.table
    if not (table["split"] != "").any():
        table = table.assign(split=part)
    rows = table.reset_index(drop=True)
    if manifest.card.key is not None:
        rows = _mask_files(rows, type(target))
    return _serve(rows, target, unit, [read], reader, manifest.card.key)[0]


def hide_names(samples: Samples) -> Samples:
    """Return samples whose ids and files stand under the user's key, for all that is written."""
    table = _mask_files(samples.table, type(samples.target))
    hash_ids(table, user_key(), IDS, simulated=False)
    return replace(samples, table=table)


def _keep_carried(
    own: Manifest, options: DataOptions, target: type[Target]
) -> tuple[Manifest, list[str]]:
    """Leave out columns of a manifest that may not travel; return their names, too."""
    letters = {} if LETTERED in own.card.facts else name_readers(own.table)
    named = [letters.get(name, name) for name in own.file_columns]
    table, unread = choose_carried(
        own.table.rename(columns=letters), options.carry, target, [*named, *_also_read(options)]
    )
    carried = [name for name in own.carried if name in table]
    return replace(own, table=table, carried=carried, file_columns=named), unread


def _also_read(options: DataOptions) -> list[str]:
    return [] if options.stratify is None else [options.stratify]


def _resolve(target: type[Target], own: Manifest, unit: Unit, asked: Mapping[str, Any]) -> Target:
    """Settle what is asked of samples, by what they say as a whole."""
    takes = inspect.signature(target.resolve).parameters
    if foreign := [] if _takes_all(takes) else sorted(set(asked) - set(takes)):
        raise MedvisionError(
            f"data.{foreign[0]} means nothing to {target.__name__.lower()}; leave it out"
        )
    resolved = target.resolve(unit.annotate(own.table, target), own.card.to_json(), **asked)
    if not any(is_among(str(name), target.columns) for name in own.table):
        raise MedvisionError(
            f"{own.path} has none of the columns {', '.join(target.columns)}, which this model is "
            "to predict; say columns.NAME=THEIRS where they are"
        )
    return resolved


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


def _find_near_copies(decoded: DecodedRows, own: Manifest, reader: Reader) -> Pairs:
    """Return pairs of lines that are near copies, where preparing has not looked for them."""
    described = describe_store(decoded.store, own.digest, reader)
    if "near_copies" in own.card.facts.get("audit", {}):
        return np.empty((0, 2), dtype=np.int64)
    return find_within(described, patient_keys(own.table).tolist(), own.digest, reader)


def _join_near(read: DecodedRows, near: Pairs, own: Manifest) -> DecodedRows:
    """Join the groups of near copies, so that no computed split parts them."""
    if not len(near):
        return read
    given = [own.table["group"].fillna("").astype(str)] if "group" in own.table else []
    groups = pd.Series(connect(join_pairs(near, len(own.table)), *given), index=own.table.index)
    return read._replace(table=read.table.assign(group=groups[read.table.index]))


def _note_near(near: Pairs, own: Manifest, kept: pd.DataFrame, mode: str) -> list[str]:
    """Note near copies by the parts they were given, where those were not computed."""
    parts = kept["split"].reindex(own.table.index) if mode in ("given", "fold") else None
    return note_near_copies(own.table.assign(split="" if parts is None else parts.fillna("")), near)


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
    table: pd.DataFrame, target: Target, unit: Unit, parts: Sequence[DecodedRows], reader: Reader,
    key: str | None,
) -> tuple[Samples, list[str]]:  # fmt: skip
    """Encode the target, and index the samples; return what is to be noted as well."""
    samples = Samples(
        table, target, target.encode(unit.annotate(table, target)),
        np.concatenate([part.digest for part in parts]).tolist(),
        [part.store for part in parts],
        np.concatenate([part.where(number) for number, part in enumerate(parts)]),
        [part.manifest for part in parts],
        unit.index(table),
        dict(unit.encode_rows(table, target)),
        maps={name: [part.maps.get(name) for part in parts]
              for name in dict.fromkeys(name for part in parts for name in part.maps)},
        key=key,
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


def _mask_files(
    table: pd.DataFrame, target: type[Target], audit: Audit | None = None
) -> pd.DataFrame:
    """Replace file names by stand-ins, from here on: in what is served, written and noted."""
    names = find_file_columns(table, target)
    names += [n for n in find_readers(table) if n not in names and names_files(table[n])]
    table = table.assign(**{name: table[name].fillna("") for name in names})
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
        shown = shown if manifest.card.key is None else without_names(shown)
        audit.notes.append(f"{len(reasons)} unreadable images were left out by choice: {shown}")
    if manifest.card.key is None:
        audit.notes.append("patients are given as they stand in the manifest, not hashed")
    audit.notes += manifest.notes + list(manifest.card.facts.get("audit", {}).get("notes", ()))
    if manifest.carried:
        audit.notes.append(f"columns carried but not read: {', '.join(manifest.carried)}")
    audit.notes.append(f"a patient is told by: {manifest.card.patient_rule}")
