"""The figures of a run folder, in reading order, each with what it shows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvision.evaluation.pages import embed_figure
from medvision.evaluation.tables import PARTS

CAPTIONS = {
    "roc": ("ROC curve", "Sensitivity over 1 - specificity; a circle is the operating point."),
    "precision_recall": ("Precision and recall", "The dashed line is what chance would reach."),
    "confusion": ("Confusion matrix", "Counts, and their share of the true class."),
    "reliability": ("Reliability", "On the diagonal, predicted probabilities come true as said."),
    "scores": ("Predicted probabilities", "Where each class falls, and the threshold."),
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
    "samples": ("Generated images", "Of the chosen epoch, from fresh noise; none sorted out."),
    "neighbours": (
        "The likeliest copies",
        "Generated images over the nearest training image of each; unseen real images are 1 apart.",
    ),
    "preview": ("Training images as the net sees them", "After random, label-safe changes."),
}
STRIP = "case"  # of a series; shown with the gallery
GALLERY = "cases"  # a folder of pictures that are shown with their facts


def embed_figures(folder: Path) -> Iterator[dict[str, Any]]:
    """Read the PNGs in reading order; one of an unknown name is shown under it."""
    order, gallery = list(CAPTIONS), (folder / GALLERY).exists()
    paths = [path for path in folder.rglob("*.png") if path.parent != folder / GALLERY]
    found = [(*name_figure(path.relative_to(folder)), path) for path in paths]
    ranked = sorted(found, key=lambda f: (order.index(f[0]) if f[0] in order else 99, f[2]))
    for kind, part, path in ranked:
        if kind == GALLERY and gallery:
            continue  # the sheet has what the gallery shows
        image = embed_figure(path)
        title, text = CAPTIONS.get(kind, (kind.replace("_", " "), ""))
        yield {
            "kind": kind,
            "title": f"{title} ({part})" if part else title,
            "text": text,
            "wide": image["width"] > 1000,  # a grid of images
        } | image


def name_figure(path: Path) -> tuple[str, str]:
    """Split `test_roc.png`, `roc_test.png` or `test/roc.png` into what is drawn and the part."""
    words = "_".join(path.with_suffix("").parts).split("_")
    if words[0] == "case":  # numbered
        return "case", ""
    for place in (0, -1):
        if len(words) > 1 and words[place] in PARTS:
            part = words.pop(place)
            return "_".join(words), part
    return "_".join(words), ""
