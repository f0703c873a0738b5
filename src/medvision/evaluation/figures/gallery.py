"""Pictures of cases, with facts and captions, kept as files that a report embeds."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import medvision.files as files
from medvision.evaluation.evaluator import HIT, Evaluator
from medvision.evaluation.report.page import embed_figure
from medvision.evaluation.report.table import PARTS

INDEX = "cases.json"
SIDE = 160  # pixels that small images are enlarged to, each pixel by a whole number
GAP = 3  # pixels between the pictures of one case
SHORT = 7  # of a pseudonym, enough to see that two cases are one patient's

Bytes = NDArray[np.uint8]


class CaseCaption(NamedTuple):
    """What is shown and said of one case.

    Attributes:
        rows: of pictures `[V,H,W,C]`, C is 1 or 3: images and, if there is any, heat over them;
            single images stand side by side.
        facts: `kind` and what else the task says of it, `patient`, `site`; of series `series`,
            `slices` and the `positions` shown.
    """

    rows: Sequence[Bytes]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Group:
    """The cases of one kind: pictures with a headline and facts each."""

    title: str
    note: str
    figures: list[dict[str, Any]]


def short_id(text: object) -> str:
    """Return the beginning of a pseudonym; "" of ids as given, which may name someone."""
    return str(text)[:SHORT] if re.fullmatch(r"p[0-9a-f]{12}", str(text)) else ""


def write_gallery(folder: Path, cases: Sequence[CaseCaption], kinds: Sequence[str]) -> Path:
    """Write a picture a case, and what is said of them into `cases.json`.

    Args:
        folder: of the gallery alone.
        cases: in the order they are shown.
        kinds: of every prediction, as its evaluator says.
    """
    listed = []
    for number, case in enumerate(cases, start=1):
        name = f"{number:02d}.png"
        written, png = cv2.imencode(".png", lay_out(case.rows)[..., ::-1])
        assert written
        files.write_bytes(folder / name, png.tobytes())
        listed.append({"file": name} | case.facts)
    counts = dict(Counter(kind for kind in kinds if kind))
    return files.write_json(folder / INDEX, {"counts": counts, "cases": listed})


def lay_out(rows: Sequence[Bytes]) -> Bytes:
    """Put rows of pictures below each other; where each is one picture, side by side."""
    colour = [np.broadcast_to(row, (*row.shape[:3], 3)) for row in rows]
    if len(rows[0]) == 1:
        colour = [np.concatenate(colour)]
    factor = max(1, -(-SIDE // max(colour[0].shape[1:3])))
    large = [row.repeat(factor, axis=1).repeat(factor, axis=2) for row in colour]
    return _join([_join(list(row), axis=1) for row in large], axis=0)


def _join(pictures: Sequence[Bytes], axis: int) -> Bytes:
    """Join with white gaps."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, 255, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)][1:]
    return np.concatenate(parts, axis=axis)


def read_gallery(folder: Path, evaluator: Evaluator) -> Iterator[Group]:
    """Yield the groups of a gallery, misses first; none where there is no gallery."""
    if not (folder / INDEX).exists():
        return
    told = files.read_json(folder / INDEX)
    kinds = dict.fromkeys(case["kind"] for case in told["cases"])
    for kind in sorted(kinds, key=lambda kind: kind == HIT):
        cases = [case for case in told["cases"] if case["kind"] == kind]
        number = told["counts"].get(kind, len(cases))
        title = "Hits, to compare" if kind == HIT else evaluator.phrase_kind(kind)
        shown = (
            f"all {number}"
            if number == len(cases)
            else f"{len(cases)} of {number}: {evaluator.phrase_choice(kind)}"
        )
        yield Group(title, shown, [_figure(folder, case, evaluator) for case in cases])


def _figure(folder: Path, case: Mapping[str, Any], evaluator: Evaluator) -> dict[str, Any]:
    title, text = evaluator.phrase_case(case), " · ".join(_facts(case))
    return {"title": title, "text": text} | embed_figure(folder / case["file"])


def _facts(case: Mapping[str, Any]) -> Iterator[str]:
    if case["site"]:
        yield f"site {case['site']}"
    if case["patient"]:
        yield f"patient {case['patient']}…"
    if case.get("positions"):
        shown = ", ".join(map(str, case["positions"]))
        yield f"positions {shown}; {case['slices']} slices"


CAPTIONS = {
    "learning_curves": ("Learning curves", "The dot is the epoch that was kept."),
    "cases": (
        "The surest misses, then hits",
        "Above, the true class; below, the decision with its probability, and what spoke for it.",
    ),
    "case": (
        "A series, slice by slice",
        "Misses first. Below the slices Grad-CAM: what spoke for the decision; bars are the weight "
        "of each slice, its heaviest three framed.",
    ),
    "preview": ("Training images as the net sees them", "After the random changes of training."),
    "gallery": (
        "The surest misses, beside hits",
        "What was decided, with its probability, and Grad-CAM beside or below the image: what "
        "spoke for that decision, right or wrong. Heat shows where a net looked, not why.",
    ),
}
"""Of what any task may show; a task's own stand before them, and in their place."""
STRIP = "case"  # of a series; shown with the gallery
GALLERY = "cases"  # a folder of pictures that are shown with their facts


def caption_figures(evaluator: Evaluator) -> dict[str, tuple[str, str]]:
    """Return kind of a figure → title and text, in the order of the report."""
    return {**evaluator.captions, **CAPTIONS, **evaluator.captions}


def embed_figures(folder: Path, evaluator: Evaluator) -> Iterator[dict[str, Any]]:
    """Read the PNGs in reading order; one of an unknown name is shown under it."""
    captions = caption_figures(evaluator)
    order, gallery = list(captions), (folder / GALLERY).exists()
    drawn = files.list_visible(folder, "**/*.png")
    paths = [path for path in drawn if path.parent != folder / GALLERY]
    found = [(*_name_figure(path.relative_to(folder)), path) for path in paths]
    ranked = sorted(found, key=lambda f: (order.index(f[0]) if f[0] in order else 99, f[2]))
    for kind, part, path in ranked:
        if kind == GALLERY and gallery:
            continue  # the sheet has what the gallery shows
        image = embed_figure(path)
        title, text = captions.get(kind, (kind.replace("_", " "), ""))
        yield {
            "kind": kind,
            "title": f"{title} ({part})" if part else title,
            "text": text,
            "wide": image["width"] > 1000,  # a grid of images
        } | image


def _name_figure(path: Path) -> tuple[str, str]:
    """Split `test_roc.png`, `roc_test.png` or `test/roc.png` into what is drawn and the part."""
    words = "_".join(path.with_suffix("").parts).split("_")
    if words[0] == "case":  # numbered
        return "case", ""
    for place in (0, -1):
        if len(words) > 1 and words[place] in PARTS:
            part = words.pop(place)
            return "_".join(words), part
    return "_".join(words), ""
