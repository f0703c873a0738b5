"""`medvision prepare`: files on disk become a manifest, and a data card is printed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from rich.console import Console

from medvision.data.audit.image_checks import spacing_range
from medvision.data.audit.near_duplicates import SOUGHT
from medvision.data.sources.prepare import Prepared, prepare
from medvision.evaluation.report.table import Table

SHOWN = 5
WIDE = 13


def run(
    source: str,
    output: Path,
    input: Path | None = None,  # noqa: A002 -- the word users type
    columns: Mapping[str, str | None] | None = None,
    dataset: str | None = None,
    deidentify: bool = True,
    carry: list[str] | None = None,
    on_unreadable: Literal["stop", "exclude"] = "stop",
    **options: Any,
) -> None:
    r"""Write manifest.csv and card.json into a folder, and audit the images before any training.

    source=NAME               what to read:
      phantom                 simulated CT: patients= slices= size= seed= difficulty= shortcut=
      folder                  images in class folders, with or without train, val and test
      table                   a CSV that names images
      medmnist                an npz of MedMNIST: name= size=
      dicom                   a tree of DICOM, any file names: labels=FILE.csv channels.NAME=GLOB
                              series_by= order=instance on_gap=keep on_odd=exclude localisers=keep
      nifti                   volumes: labels=FILE.csv|none axis= slices=every:N|foreground
                              masks='{stem}_seg.nii.gz' fourth=time|channel
      video                   mp4, avi, gif: labels=FILE.csv|none every=N seconds=S
    input=PATH                where it lies (also looked for under MEDVISION_DATA)
    output=DIR                where manifest.csv and card.json go
    columns.OURS=THEIRS       e.g. columns.label=diagnosis; columns.patient='(p\d+)' reads it from
                              the file name; columns.patient=path says "each file is its own
                              patient" (an npz: each image; DICOM: each study)
    columns.patient_normalise=true  ids that differ only in writing (1, 01, 1.0; case, spaces)
                              are one patient
    dataset=NAME              keeps patients of different origin apart
    deidentify=false          keep patient ids, and all columns, as they are
    carry=[A,B]               columns that are kept although no run reads them, or although they
                              have almost one value a patient, as names have; A_ stands for all
                              that begin so
    on_unreadable=exclude     leave broken files out, counted
    """
    prepared = prepare(
        source, Path(output), input=Path(input) if input else None, columns=columns,
        dataset=dataset, deidentify=deidentify, carry=carry or (), on_unreadable=on_unreadable,
        **options,
    )  # fmt: skip
    _print_card(prepared)


def _print_card(prepared: Prepared) -> None:
    """Print images, patients and classes by split, what was left out, and the audit."""
    console = Console(markup=False, highlight=False)
    card = prepared.card
    _count_parts(prepared.table, card.dataset).print(console)
    for word, told in _describe(prepared):
        console.print(f"{word:<{WIDE}}{told}")
    console.print(f"{'written':<{WIDE}}{prepared.manifest}")
    train = f"medvision train data=manifest data.manifest={prepared.manifest}"
    console.print(f"{'next':<{WIDE}}{train}", soft_wrap=True)
    series = prepared.table.get("series", pd.Series(dtype=str))
    if series[series != ""].duplicated().any():
        series = f"{train} data.unit=series model=rnn"
        console.print(f"{'or series':<{WIDE}}{series}", soft_wrap=True)


def _count_parts(table: pd.DataFrame, dataset: str) -> Table:
    """Lay parts and classes out."""
    split = table["split"] if "split" in table else pd.Series("", index=table.index)
    label = table["label"] if "label" in table else pd.Series("", index=table.index)
    names = sorted(set(label.str.split("|").explode()) - {""})
    parts = [part for part in ("train", "val", "test", "") if (split == part).any()]
    counted = []
    for part in [*parts, *(["all"] if len(parts) > 1 else [])]:
        rows = table if part == "all" else table[split == part]
        found = label[rows.index].str.split("|").explode().value_counts()
        counts = [found.get(name, 0) for name in names]
        counted.append([part or "not split", len(rows), rows["patient"].nunique(), *counts])
    return Table(["part", "images", "patients", *names], counted, title=f"data card: {dataset}")


def _describe(prepared: Prepared) -> Iterator[tuple[str, str]]:
    """Yield a word and what is told of it, in the order of the card."""
    card = prepared.card
    sizes = ", ".join(f"{size} ({n})" for size, n in list(prepared.sizes.items())[:SHOWN])
    yield "sizes", f"{sizes}{' …' if len(prepared.sizes) > SHOWN else ''}"
    low, high = spacing_range(prepared.table)
    if low:
        yield "spacing", f"{low:.3g} mm" if low == high else f"{low:.3g} to {high:.3g} mm"
    yield "copies", f"{prepared.copies} images repeat another one, pixel for pixel"
    near = card.facts["audit"]["near_copies"]["pairs"]
    yield "near copies", f"{near} pairs of images of different patients look the same; {SOUGHT}"
    hashed = f"hashed with your key {card.key}" if card.key else "ids kept as given"
    yield "patients", f"told by: {card.patient_rule}; {hashed}"
    yield from _describe_source(card.facts)
    yield from _list("left out", prepared.left_out)
    for sentence in prepared.told:
        yield "columns", sentence
    for note in prepared.audit:
        yield "audit", note
    if not prepared.audit:
        yield "audit", "nothing odd was found"


def _describe_source(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a source found beside images, and did not take."""
    if facts.get("skipped"):
        yield "skipped", f"{facts['skipped']} other files"
    if facts.get("not taken"):
        yield "not taken", ", ".join(f"{n} {kind}" for kind, n in facts["not taken"].items())
    yield from _list("excluded", facts.get("excluded", ()))
    for word, fact, what in (
        ("gaps", "series with gaps", "series lack slices"),
        ("masks", "without mask", "volumes have no mask"),
        ("burned in", "burned in", "images may show text"),
    ):
        if facts.get(fact):
            yield word, f"{facts[fact]} {what}"
    for doubt, number in dict(facts.get("orientation") or {}).items():
        yield "orientation", f"{number} volumes: {doubt}"
    labels = facts.get("labels")
    if isinstance(labels, Mapping):
        told = f"{labels['file']} by {labels['by']}, {labels['lines']} lines"
        told += f"; {labels['lines_without_images']} of them fit nothing that was found"
        told += f", {labels['images_without_label']} of what was found have no label"
        yield "labels", told


def _list(word: str, problems: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the first problems in full and count the rest."""
    yield from ((word, problem) for problem in problems[:SHOWN])
    if len(problems) > SHOWN:
        yield "", f"and {len(problems) - SHOWN} more, all named in card.json"
