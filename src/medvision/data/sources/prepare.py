"""From a source to a manifest: decode once for the audit, hash the patients, join the copies."""

import inspect
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal

import pandas as pd

import medvision.files as files
from medvision.class_order import find_negative, note_order, order_classes
from medvision.data.audit.findings import audit_rows, note_copies, note_exclusions
from medvision.data.audit.flow import trace_losses
from medvision.data.audit.near_duplicates import find_near_duplicates
from medvision.data.audit.scan import Inspected, Seen, inspect_into_store, scan_images
from medvision.data.audit.scanned import recall_seen, write_seen
from medvision.data.formats.listing import list_files
from medvision.data.manifest.card import Card
from medvision.data.manifest.carry import (
    LETTERED,
    choose_carried,
    name_readers,
    note_left_out,
)
from medvision.data.manifest.manifest import CARD, write_manifest
from medvision.data.manifest.patient_ids import normalise_id, note_ids, take_normalise
from medvision.data.manifest.pseudonyms import IDS, hash_ids
from medvision.data.sources.found import Found
from medvision.data.splits.groups import connect, join_pairs
from medvision.data.store.fill import Images
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.identity import patient_keys
from medvision.trust.user_key import fingerprint, user_key

FORMAT = 7  # of what lies in the cache; raise it when a source or `prepare` writes otherwise
PACKAGE = "medvision.data.sources"

_ANNOTATED = ("label", "series_label", "mask", "boxes", "time", "event")
_UNREAD = "none"  # what `labels` says where it is no file


@dataclass(frozen=True)
class Prepared:
    """A written manifest and the data card's facts.

    Attributes:
        sizes: "HxW" → number of images, commonest first.
        told: what is said and written nowhere: columns left out, and who is which reader.
        copies: number of rows that repeat another row's pixels.
        left_out: unreadable files that were excluded by choice, with the reason.
        audit: sentences a reader should see before training.
    """

    manifest: Path
    table: pd.DataFrame
    card: Card
    sizes: dict[str, int]
    copies: int
    left_out: list[str]
    audit: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def prepare(
    source: str,
    output: Path,
    reader: Reader | None = None,
    workers: int | None = None,
    read: Sequence[str] = (),
    /,
    *,
    input: Path | None = None,  # noqa: A002 -- the command's own word
    columns: Mapping[str, str | None] | None = None,
    dataset: str | None = None,
    deidentify: bool = True,
    carry: Sequence[str] = (),
    on_unreadable: Literal["stop", "exclude"] = "stop",
    **options: Any,
) -> Prepared:
    """Find rows, check every image and write `manifest.csv` and `card.json` into `output`.

    Args:
        source: the name of one of ours (`list_sources`), or the dotted path of another.
        output: the folder of the manifest.
        reader: of a training that comes next; its store is filled in the same pass.
        workers: threads that decode for it.
        read: columns that it reads beside those that any run reads.
        input: where the source looks.
        columns: ours → theirs; for sources without a table only `patient` has a meaning, and
            `patient_normalise`, whether ids that differ only in writing are one.
        dataset: the name patients are kept apart by; the source's own where None.
        deidentify: False keeps patient ids and all columns as they are, and the report says so.
        carry: columns that no run reads and that are kept all the same, or that hold almost one
            value a patient and are kept knowingly.
        on_unreadable: `exclude` leaves unreadable files out, counted and named on the card.
        options: passed on to the source.

    Raises:
        MedvisionError: unknown source or option, nothing found, columns that would name patients,
            unreadable files, an output that would overwrite the input.
    """
    output = Path(output).expanduser()
    if on_unreadable not in ("stop", "exclude"):
        raise MedvisionError(f"on_unreadable={on_unreadable} cannot be; choose stop or exclude")
    theirs, joins = take_normalise(columns or {})
    found = _find(source, output, input, theirs, options)
    key = user_key() if deidentify else None
    unread: list[str] = []
    told: list[str] = []
    if key is not None:
        found, unread, told = _choose_columns(found, key, carry, read)
    name = dataset or found.dataset
    rows = found.table.reset_index(drop=True)
    images = Images.find(rows["path"], rows["frame"] if "frame" in rows else [0] * len(rows))
    exclude = on_unreadable == "exclude"
    seen, problems = _inspect(images, recall_seen(output, images), reader, workers, exclude)
    if problems and not exclude:
        raise collect(
            f"{len(problems)} of {len(rows)} images cannot be used", list(problems.values()),
            "Mend or remove them, or leave them out with on_unreadable=exclude",
        )  # fmt: skip
    named_already = dataset is None and "dataset" in rows
    whole = rows if named_already else rows.assign(dataset=name)
    kept = whole.drop(index=list(problems))
    if kept.empty:
        raise MedvisionError(f"no usable image is left of {len(rows)}; check input={input}")
    looks, table = [seen[row].look for row in kept.index], kept.reset_index(drop=True)
    if joins:
        table["patient"] = table["patient"].map(normalise_id)
    hashed = found.facts.get("hashed_with")
    writing = note_ids(table) if hashed is None else []
    if key is not None and hashed != fingerprint(key):
        hash_ids(table, key, IDS | set(found.ids), bool(found.facts.get("simulated")))
    patients, digests = patient_keys(table), [look.digest for look in looks]
    near = find_near_duplicates([look.descriptor for look in looks], list(patients), digests)
    given = [table["group"].fillna("").astype(str)] if "group" in table else []
    table["group"] = connect(patients, digests, join_pairs(near, len(table)), *given)
    classes, ordered = _order_classes(found)
    audit = audit_rows(table, looks, near, classes)
    if classes != found.classes:  # where nothing tells their order, each training asks
        audit["notes"], ordered = [*ordered, *audit["notes"]], []
    audit["notes"] += [*writing, *note_exclusions(whole, list(problems)), *note_left_out(unread)]
    sizes = Counter(look.size for look in looks)
    named = [digest for digest in digests if digest]
    copies = len(named) - len(set(named))
    left_out = list(problems.values())
    card = Card(
        dataset=name,
        classes=classes,
        patient_rule=found.patient_rule,
        key=fingerprint(key) if key else None,
        command=shlex.join(["medvision", *sys.argv[1:]]),
        versions={"medvision": version("medvision")},
        facts=found.facts
        | {"sizes": dict(sizes.most_common(10)), "copies": copies, "left_out": left_out}
        | {"audit": audit, "flow": trace_losses(whole, [("unreadable", kept)])},
    )
    write_seen(output, images, seen)
    manifest = write_manifest(output, table, card, found.files)
    sizes_found = dict(sizes.most_common())
    notes = [
        *ordered,
        *_note_unlabelled(source, table, options),
        *note_copies(table, looks),
        *audit["notes"],
    ]
    return Prepared(manifest, table, card, sizes_found, copies, left_out, notes, told)


def _choose_columns(
    found: Found, key: bytes, carry: Sequence[str], read: Sequence[str]
) -> tuple[Found, list[str], list[str]]:
    """Keep the columns that may travel, readers under letters.

    Returns:
        What is left, the names of the columns that are not, and what to tell the user.
    """
    table, unread = choose_carried(found.table, carry, own={*found.ids, *found.made, *read})
    told = [f"no run reads {', '.join(unread)}: left out; carry=[NAME] keeps one"] if unread else []
    facts, named = dict(found.facts), [name for name in found.files if name in table]
    if "carried" in facts:
        facts["carried"] = [name for name in facts["carried"] if name in table]
    if LETTERED not in facts or facts.get("hashed_with") != fingerprint(key):
        letters = name_readers(table)
        table, named = table.rename(columns=letters), [letters.get(n, n) for n in named]
        facts[LETTERED] = len(letters)
        told += [f"{name} is written as {letter}" for name, letter in letters.items()]
    return replace(found, table=table, facts=facts, files=named), unread, told


def _order_classes(found: Found) -> tuple[list[str] | None, list[str]]:
    """Order two classes that a source has not ordered, the negative one first, if words tell it.

    Returns:
        The classes of the card, and what is to be said of their order, which a training says of
        its own.
    """
    label = [found.table[name] for name in ("label", "series_label") if name in found.table]
    names = sorted({str(name) for column in label for name in column.dropna()} - {""})
    several = found.facts.get("multilabel") or any("|" in name for name in names)
    if found.classes is not None or several or len(names) != 2:
        return found.classes, []
    ordered = order_classes(names)
    known = find_negative(names) is not None
    settled = known and ordered == names
    return ordered if known else None, [] if settled else [note_order(ordered, names)]


def _note_unlabelled(source: str, table: pd.DataFrame, options: Mapping[str, Any]) -> list[str]:
    """Say how rows come by labels where none has one and that was not asked for."""
    given = [name for name in table if name in _ANNOTATED or str(name).startswith("y_")]
    if options.get("labels") == _UNREAD or (table[given].fillna("") != "").any(axis=None):
        return []
    ways = {"folder": "put images into class folders, or take source=table input=FILE.csv",
            "table": "say columns.label=NAME of its column"}  # fmt: skip
    way = ways.get(source, "say labels=FILE.csv, a table with the columns path and label")
    way = way.replace("path", "series or patient") if source == "dicom" else way
    return [f"no image has a label, so no classifier can be trained: {way}"]


def _inspect(
    images: Images,
    known: Mapping[int, Seen],
    reader: Reader | None,
    workers: int | None,
    exclude: bool,
) -> Inspected:
    """Look at every image that is not known; a store is worth it where none is."""
    if reader is not None and not known:
        seen, problems = inspect_into_store(images, reader, workers, exclude=exclude)
        if seen:
            return seen, problems
    return scan_images(images, known)


def prepare_once(
    source: Mapping[str, Any],
    reader: Reader | None = None,
    workers: int | None = None,
    read: Sequence[str] = (),
) -> Path:
    """Prepare into the cache what a `data.source` describes, unless that was done before.

    The place depends on the description, the user's key and the state of the input, so a changed
    table or folder is prepared anew.

    Args:
        source: the arguments of `prepare`; `name` is its source.
        reader: see `prepare`.
        workers: see `prepare`.
        read: see `prepare`.
    """
    described = {k: v for k, v in source.items() if v is not None}
    name = described.pop("name", None)
    if name is None:
        raise MedvisionError(
            f"data.source has no name; say data.source.name={'|'.join(list_sources())}"
        )
    if described.get("input") is not None:
        described["input"] = files.find_input(described["input"])
    words = [*(f"{k}={v}" for k, v in sorted(described.items())), *sorted(read)]
    state = _state_of(described.get("input")) + _state_of(_labels_of(described))
    code = files.digest(str(FORMAT), name, *words, state, fingerprint(user_key()))[:8]
    output = files.cache_folder() / "prepared" / f"{name}-{code}"
    with files.locked(output.with_name(output.name + ".lock")):
        if not (output / "manifest.csv").exists():
            prepare(name, output, reader, workers, read, **described)
    return output / "manifest.csv"


def _labels_of(described: Mapping[str, Any]) -> Path | None:
    """Find the table of labels beside an input; one that is missing is told by the source."""
    labels = described.get("labels")
    if labels in (None, _UNREAD):
        return None
    try:
        return files.find_input(str(labels))
    except MedvisionError:
        return None


def _state_of(place: Path | None) -> str:
    """Sum up names, sizes and times of an input, so that a change is noticed."""
    if place is None:
        return ""
    listed = [place, place.with_name(CARD)]
    if place.is_dir():
        listed = [place / name for name in sorted(list_files(place))]
    stats = ((p, p.stat()) for p in listed if p.is_file())
    return files.digest(*(f"{p}:{s.st_size}:{s.st_mtime_ns}" for p, s in stats))


def list_sources() -> list[str]:
    """Return the names of our own sources."""
    names = (each.name for each in iter_modules([str(Path(__file__).parent)]))
    return [name for name in names if hasattr(_import(f"{PACKAGE}.{name}"), "find")]


def _open_source(name: str) -> Callable[..., Found]:
    """Return the `find` of a source: one of ours by its module's name, another by its dotted path.

    Raises:
        MedvisionError: there is none.
    """
    module = _import(name if "." in name else f"{PACKAGE}.{name}")
    if not hasattr(module, "find"):
        known = list_sources()
        raise MedvisionError(
            f"source={name} is unknown{did_you_mean(name, known)}; use {', '.join(known)}"
        )
    find: Callable[..., Found] = module.find
    return find


def _import(path: str) -> Any:
    """Import a source's module, of a package its `source`; None where there is none."""
    try:
        module = import_module(path)
        return import_module(f"{path}.source") if hasattr(module, "__path__") else module
    except ModuleNotFoundError as error:
        if error.name is not None and f"{path}.source".startswith(error.name):
            return None
        raise  # of a package it needs


def _find(
    source: str,
    output: Path,
    place: Path | None,
    columns: Mapping[str, str | None],
    options: Mapping[str, Any],
) -> Found:
    """Call the source with what it takes."""
    where = files.find_input(place) if place is not None else None
    find = _open_source(source)
    takes = inspect.signature(find).parameters
    known = set(takes) - {"input", "columns", "output"}
    for key in options:
        if key in known:
            continue
        near = did_you_mean(key, known)
        if key == "patient" and not near:
            raise MedvisionError(
                f"patient={options[key]} is no option of its own; say "
                f"columns.patient={options[key]}"
            )
        raise MedvisionError(
            f"source={source} has no option {key!r}{near}; "
            f"it takes {', '.join(sorted(known)) or 'none'}"
        )
    if where is None and takes["input"].default is inspect.Parameter.empty:
        raise MedvisionError(f"source={source} needs input=PATH (in a training: data.source.input)")
    more = {"output": output} if "output" in takes else {}
    return find(where, columns=columns, **more, **options)
