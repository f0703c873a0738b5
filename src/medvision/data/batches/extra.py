"""Rows that only train: of other real manifests, and of generators."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

import medvision.files as files
from medvision.data.audit.audit import Audit
from medvision.data.audit.image_checks import line_of
from medvision.data.batches.generated import (
    Generated,
    describe_gate,
    holds_generated,
    read_generated,
)
from medvision.data.batches.mixing import RULE
from medvision.data.batches.near_copies import describe_store, find_between
from medvision.data.batches.options import DataOptions
from medvision.data.batches.read import DecodedRows, decode_rows, keep_whole
from medvision.data.manifest.card import Card
from medvision.data.manifest.carry import letter_readers
from medvision.data.manifest.manifest import Manifest, read_manifest
from medvision.data.manifest.people import show_rows
from medvision.data.manifest.pseudonyms import IDS, hash_ids
from medvision.data.store.reader import Reader
from medvision.data.units.unit import Unit
from medvision.errors import MedvisionError
from medvision.identity import count
from medvision.seen import Seen, refuse_namesakes, stamp_namesakes
from medvision.target import Target
from medvision.trust.user_key import user_key


class Main(NamedTuple):
    """What a run's own manifest has settled before others join it."""

    read: DecodedRows
    card: Card
    target: Target
    unit: Unit


class Extra(NamedTuple):
    """Rows that join train, whose they are where they are generated, and what was not checked."""

    read: DecodedRows
    generated: Generated | None
    unchecked: Sequence[str] = ()


def read_extras(own: Main, options: DataOptions, audit: Audit) -> list[Extra]:
    """Read the manifests of `data.extra`, and note each in the audit.

    Raises:
        MedvisionError: see `_read_extra`; a ratio without generated rows.
    """
    extras = [_read_extra(place, own, options, audit) for place in options.extra]
    if options.extra_ratio is not None and not any(extra.generated for extra in extras):
        raise MedvisionError(
            f"data.extra_ratio={options.extra_ratio} has no generated images to draw from; give "
            "data.extra=[…/manifest.csv] of medvision generate, or data.extra_ratio=null"
        )
    real = [len(extra.read.table) for extra in extras if extra.generated is None]
    if real:
        audit.notes.append(f"{sum(real)} rows of data.extra joined train")
    return extras


def _read_extra(place: str, own: Main, options: DataOptions, audit: Audit) -> Extra:
    """Read rows that only train.

    Raises:
        MedvisionError: they show a patient or an image of val or test, or somebody of equal id
            under another dataset name, or have another size; or they are generated, and not as
            `medvision generate` wrote them for images like these.
    """
    manifest = read_manifest(files.find_input(place), target=type(own.target))
    if holds_generated(manifest):
        extra = _read_generated(place, manifest, own, options, audit)
    else:
        extra = Extra(_read_real(manifest, own, options, audit), None)
    if manifest.card.key != own.card.key:
        whose = "" if extra.generated is None else " its generator has seen"
        audit.notes.append(f"patients{whose} of {place} not checked: prepared with another key")
    unchecked = _compare_people(place, own, extra.read, manifest.card, options.different_patients)
    _refuse_other_size(place, own.read, extra.read)
    if extra.generated is None:
        unchecked += _note_near(own.read, extra.read, manifest.card.dataset, options.reader)
    # Of generated rows it is the generator that has seen somebody, which is compared by itself.
    if extra.generated:
        return extra
    if own.card.key is None:
        return extra._replace(unchecked=unchecked)
    return extra._replace(read=_hide_people(extra.read, manifest.card), unchecked=unchecked)


def _hide_people(read: DecodedRows, card: Card) -> DecodedRows:
    """Keep names out of a run whose own patients are hashed."""
    table = letter_readers(read.table, card)
    if card.key is None:
        table = table.copy()
        hash_ids(table, user_key(), IDS, simulated=False)
    return read._replace(table=table)


def _read_real(manifest: Manifest, own: Main, options: DataOptions, audit: Audit) -> DecodedRows:
    read = decode_rows(
        manifest, options.reader, options.on_unreadable, options.workers, own.target.files
    )
    read, _, told = keep_whole(read, own.unit, manifest.table)
    audit.notes += [*(f"data.extra: {note}" for note in read.notes), *told]
    table = read.table[read.table["split"].isin(("", "train"))]  # its val and test stay unseen
    return read._replace(table=table.assign(split="train", group=-1))


def _read_generated(
    place: str, manifest: Manifest, own: Main, options: DataOptions, audit: Audit
) -> Extra:
    """Read generated rows, but for those their filter left out."""
    if options.extra_ratio is None:
        raise MedvisionError(
            f"data.extra={place} holds generated images and data.extra_ratio does not say how "
            f"many of them to draw; give {RULE.removeprefix('null, ')}"
        )
    told = read_generated(manifest)
    _check_fit(place, manifest, told, own, options.reader)
    # They were written as the reader leaves images: a window or a cut would change them once more.
    reader = replace(options.reader, window="full", center=1.0)
    read = decode_rows(manifest, reader, options.on_unreadable, options.workers)
    _refuse_changed(place, read)
    kept = read.table[read.table["keep"].str.lower() != "false"]
    if kept.empty:
        raise MedvisionError(f"data.extra={place} keeps none of its rows; generate more, or others")
    _note_generated(audit, told, len(kept), len(read.table) - len(kept), options)
    return Extra(read._replace(table=kept.assign(split="train", group=-1)), told)


def _check_fit(place: str, manifest: Manifest, told: Generated, own: Main, reader: Reader) -> None:
    """Refuse images of other classes, or made alike in another way than those of the run."""
    if not own.unit.alone:
        raise MedvisionError(
            f"data.extra={place} holds generated images, which make no series; say data.unit=image"
        )
    if fault := own.target.unlike(manifest.card.to_json()):
        raise MedvisionError(
            f"data.extra={place} {fault}, or train a generator on the run's manifest"
        )
    H, W, C = own.read.store.array.shape[1:]
    if (told.size, told.channels) != ([H, W], C):
        found = f"{'x'.join(map(str, told.size))} with {told.channels} channels"
        raise MedvisionError(
            f"data.extra={place} has generated images of {found}, not {H}x{W} with {C}; set "
            f"data.reader.size=[{told.size[0]},{told.size[1]}] data.reader.channels={told.channels}"
        )
    ours = reader.contract()
    differing = [
        f"{key}={told.reader.get(key)} (here {ours[key]})" for key in ours
        if key not in ("size", "channels", "depth") and told.reader.get(key) != ours[key]
    ]  # fmt: skip
    if differing:
        raise MedvisionError(
            f"data.extra={place} was generated from images read with {', '.join(differing)}; "
            "give data.reader the same settings"
        )


def _refuse_changed(place: str, read: DecodedRows) -> None:
    """Refuse pixels that are not those that were generated."""
    digests = [read.store.digests[row] for row in read.table.index]
    changed = read.table["path"][read.table["digest"].to_numpy() != np.array(digests, object)]
    if len(changed):
        raise MedvisionError(
            f"data.extra={place}: the pixels of {len(changed)} images are not those that were "
            f"generated, such as {changed.iloc[0]}; remove the folder and generate it again"
        )


def _note_generated(
    audit: Audit, told: Generated, kept: int, left_out: int, options: DataOptions
) -> None:
    lost = f", {left_out} more left out by their filter" if left_out else ""
    audit.notes.append(
        f"{kept} generated images joined train (data.extra_ratio={options.extra_ratio}{lost}) of "
        f"the generator {told.generator[:8]}, {told.run}: {describe_gate(told.gate)}"
    )
    audit.generated.append({
        "generator": told.generator, "run": told.run, "images": kept, "left_out": left_out,
        "ratio": options.extra_ratio, "gate": told.gate, "ungated": told.ungated,
    })  # fmt: skip


def _compare_people(
    place: str, own: Main, extra: DecodedRows, card: Card, allowed: bool
) -> list[str]:
    """Refuse a patient or an image of val or test; say what could not be told, or was allowed."""
    held = own.read._replace(table=own.read.table[own.read.table["split"] != "train"])
    tested = show_rows(held.table, held.digest, own.card.key)
    joined = show_rows(extra.table, extra.digest, card.key)
    met = Seen.of_plain(tested).meet(joined)
    if met.patients or met.images:
        example = f", such as patient {_name(min(met.patients))}" if met.patients else ""
        raise MedvisionError(
            f"data.extra={place} shares {len(met.patients)} patients and {len(met.images)} images "
            f"with val or test{example}; remove these rows from it"
        )
    whose = f"data.extra ({card.dataset})"
    if met.namesakes and not allowed:
        raise refuse_namesakes(
            f"data.extra={place} shares {count(len(met.namesakes), 'patient id')} with val or test "
            f"under another dataset name, such as {_name(min(met.namesakes))}",
            "remove these rows from it",
        )  # fmt: skip
    if card.key != own.card.key:
        return [f"patients of {whose} not checked: prepared with another key"]
    unchecked = [f"{whose}: {sentence}" for sentence in met.unchecked]
    return unchecked + stamp_namesakes(met.namesakes, f"{whose} in val or test")


def _note_near(own: DecodedRows, extra: DecodedRows, dataset: str, reader: Reader) -> list[str]:
    """Count images that are near copies of some of val or test."""
    held = own._replace(table=own.table[own.table["split"] != "train"])
    joined, kept = (
        describe_store(read.store, read.manifest, reader).take(read.table.index.tolist())
        for read in (extra, held)
    )
    near = find_between(joined, kept)
    if not near:
        return []
    told = f"{len(near)} of {len(extra.table)} images of data.extra ({dataset}) are near copies of"
    line = line_of(int(extra.table.index[near[0]]))
    return [f"{told} images of val or test, such as line {line} of its manifest: look at them"]


def _name(patient: str) -> str:
    return patient.rpartition(chr(31))[2]


def _refuse_other_size(place: str, own: DecodedRows, extra: DecodedRows) -> None:
    found, expected = ("x".join(map(str, s.array.shape[1:3])) for s in (extra.store, own.store))
    if found != expected:
        raise MedvisionError(
            f"data.extra={place} has images of {found}, not {expected}; set data.reader.size=[H,W]"
        )
