"""The evidence of a run: stored predictions and the `metrics.json` that is derived from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.evaluation.figures.style import save_figure
from medvision.evaluation.predictions import Unit
from medvision.model import Model
from medvision.stats.ranking import Floats
from medvision.tasks.classification.calibration import apply_thresholds
from medvision.tasks.classification.curves import draw_precision_recall, draw_roc, pr_band, roc_band
from medvision.tasks.classification.figures import draw_confusion, draw_reliability, draw_scores
from medvision.tasks.classification.metrics import Kind, truth_of
from medvision.tasks.classification.weighted import Threshold, WeightedScores, bootstrap_classes

NOTHING = "-"  # the label of a multi-label row in which nothing was found


AT_ARGMAX = ("accuracy", "precision", "recall", "specificity", "f1")


class Part(NamedTuple):
    """What one part's labelled rows bring to the scores.

    Attributes:
        probs: `[N,K]`.
        label: `[N]` class indices, or `[N,K]` of 0 and 1 if multi-label.
        patients: `[N]` of (dataset, patient).
        unlabelled: the number of rows left out.
    """

    probs: Floats
    label: NDArray[np.int64]
    patients: list[tuple[str, str]]
    unlabelled: int


def encode_labels(labels: Sequence[str], classes: Sequence[str], kind: Kind) -> NDArray[np.int64]:
    """Turn class names into `[N]` indices, or `[N,K]` of 0 and 1 if multi-label; "" is -1.

    Raises:
        MedvisionError: names that are not among the classes.
    """
    number = {name: k for k, name in enumerate(classes)}
    texts = [str(text) for text in labels]
    names = [text.split("|") if kind == "multilabel" else [text] for text in texts]
    used = {name for text, some in zip(texts, names, strict=True) if text for name in some}
    used -= {NOTHING} if kind == "multilabel" else set()
    unknown = sorted(used - set(classes))
    if unknown:
        problems = [f"{name!r}{did_you_mean(name, classes)}" for name in unknown]
        way_out = f"The classes are {', '.join(classes)}; rename with data.rename"
        raise collect("unknown labels in the predictions", problems, way_out)
    if kind != "multilabel":
        return np.array([number.get(text, -1) for text in texts], dtype=np.int64)
    rows = [
        [int(c in some) if t else -1 for c in classes] for t, some in zip(texts, names, strict=True)
    ]
    return np.array(rows, dtype=np.int64).reshape(len(texts), len(classes))


def read_part(predictions: pd.DataFrame, classes: Sequence[str], kind: Kind) -> Part:
    """Take what the scores need out of one part's predictions; unlabelled rows are left out.

    Raises:
        MedvisionError: an unknown label, a class without probabilities, or a repeated row.
    """
    missing = [f"prob_{name}" for name in classes if f"prob_{name}" not in predictions]
    if missing:
        raise collect("the predictions lack columns", missing, "Run `medvision evaluate` again")
    repeats = int(predictions["index"].duplicated().sum())
    if repeats:
        raise MedvisionError(
            f"the predictions hold {repeats} rows twice (column index); run `medvision evaluate` "
            "again, on one device"
        )
    label = encode_labels(predictions["label"].tolist(), classes, kind)
    known = label >= 0 if label.ndim == 1 else (label >= 0).any(axis=1)
    rows = predictions[known]
    probs = rows[[f"prob_{name}" for name in classes]].to_numpy(dtype=np.float64)
    datasets = rows["dataset"].tolist() if "dataset" in rows else [""] * len(rows)
    patients = list(zip(datasets, rows["patient"].tolist(), strict=True))
    return Part(probs, label[known], patients, int((~known).sum()))


def merge_series(part: Part) -> Part:
    """Judge patients by all their series: the mean of their probabilities.

    A patient whose series disagree in their labels is left out, and counted as unlabelled.
    """
    number = {patient: n for n, patient in enumerate(dict.fromkeys(part.patients))}
    place = np.array([number[patient] for patient in part.patients], dtype=np.intp)
    counts = np.bincount(place, minlength=len(number))
    probs = np.zeros((len(number), part.probs.shape[1]))
    np.add.at(probs, place, part.probs)
    first = np.unique(place, return_index=True)[1]
    differs = (part.label != part.label[first][place]).reshape(len(place), -1).any(axis=1)
    agree = np.bincount(place, differs, minlength=len(number)) == 0
    patients = [patient for patient, kept in zip(number, agree, strict=True) if kept]
    return Part(
        (probs / counts[:, None])[agree], part.label[first][agree], patients, int((~agree).sum())
    )


def count_rows(
    part: Part, classes: Sequence[str], kind: Kind, unit: Unit = "images"
) -> dict[str, Any]:
    """Count what was scored, its patients and each class; unlabelled rows if there are any."""
    counts = (truth_of(part.label, kind, len(classes)) == 1).sum(axis=0).tolist()
    n: dict[str, Any] = {unit: len(part.label), "patients": len(set(part.patients))}
    n["per_class"] = dict(zip(classes, counts, strict=True))
    return n | ({"unlabelled": part.unlabelled} if part.unlabelled else {})


def confuse(part: Part, classes: Sequence[str], kind: Kind, threshold: Threshold) -> Any:
    """Count decisions, rows true and columns predicted; multi-label: 2 x 2 for each class."""
    scores = WeightedScores(part.probs, part.label, kind, threshold)
    counts = scores.confusion(np.ones((1, len(part.label))))[0].astype(int).tolist()
    return dict(zip(classes, counts, strict=True)) if kind == "multilabel" else counts


def build_metrics(
    parts: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
    kind: Kind,
    temperature: float,
    rule: str,
    threshold: Threshold = None,
    *,
    unit: Unit = "images",
    resamples: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Derive the whole `metrics.json` from stored predictions; nothing undefined but null.

    Args:
        parts: "val" and "test", or either; a row a sample, patients are (`dataset`, `patient`).
        classes: in order; of a binary problem the last is positive.
        kind: the problem.
        temperature: what the probabilities were made with.
        rule: by which the operating point was chosen on val.
        threshold: the frozen operating point; None if multi-class.
        unit: what a row is; where patients have several series, `<part>_patients` holds the scores
            of patients beside those of their series.
        resamples: as in `bootstrap_classes`.
        seed: of the patient bootstrap.
    """
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    result: dict[str, Any] = {}
    n: dict[str, Any] = {}
    confusion: dict[str, Any] = {}
    per_class: dict[str, Any] = {}
    for name in sorted(parts, key=lambda part: (part != "test", part)):
        part = read_part(parts[name], classes, kind)
        given = (part.probs, part.label, kind, part.patients)
        result[name], each = bootstrap_classes(*given, threshold=threshold, **options)
        if name == "test":
            plain = bootstrap_classes(*given, names=AT_ARGMAX, **options)[0]
            result["test_argmax"] = {"auroc": result["test"]["auroc"]} | plain
        if name == "val":
            result["val"]["fitted_on"] = "val"
        if not per_class:
            per_class[name] = dict(zip(classes, each, strict=True))
        n[name] = count_rows(part, classes, kind, unit)
        if unit == "series" and len(part.label) > len(set(part.patients)):
            whole, key = merge_series(part), f"{name}_patients"
            n[key] = count_rows(whole, classes, kind, "patients")
            if len(whole.label):  # else the series of every patient differ in label
                given = (whole.probs, whole.label, kind, whole.patients)
                result[key] = bootstrap_classes(*given, threshold=threshold, **options)[0]
        confusion[name] = confuse(part, classes, kind, threshold)
    cut = None if threshold is None else np.asarray(threshold, dtype=np.float64).tolist()
    point = {"rule": "argmax" if kind == "multiclass" else rule, "threshold": cut}
    result |= {"operating_point": point, "temperature": float(temperature)}
    return result | {"n": n, "confusion": confusion, "per_class": per_class}


def decide_labels(
    probs: Floats, classes: Sequence[str], kind: Kind, threshold: Threshold = None
) -> list[str]:
    """Write decisions at the operating point as the column `pred` does: names, joined by `|`."""
    return ["|".join(np.array(classes)[row]) for row in apply_thresholds(probs, kind, threshold)]


def draw_plates(
    folder: Path, predictions: pd.DataFrame, confusion: Any, model: Model
) -> dict[str, Path]:
    """Draw confusion, ROC, precision-recall, reliability and scores into `figures/`."""
    part = read_part(predictions, model.classes, model.question)
    counts = list(confusion.values()) if isinstance(confusion, Mapping) else confusion
    figures: dict[str, Figure] = {"confusion": draw_confusion(counts, model.classes)}
    if len(part.label):
        bands: dict[str, Any] = {"roc": None, "pr": None}
        if model.question == "binary":
            given = (part.probs[:, 1], part.label, part.patients)
            bands = {"roc": roc_band(*given), "pr": pr_band(*given)}
            cut = None if model.threshold is None else float(np.squeeze(model.threshold))
            figures["scores"] = draw_scores(part.probs[:, 1], part.label, cut)
        given_curves = (part.probs, part.label, model.classes, model.question)
        point = model.threshold
        figures["roc"] = draw_roc(*given_curves, band=bands["roc"], operating_point=point)
        figures["precision_recall"] = draw_precision_recall(
            *given_curves, band=bands["pr"], operating_point=point
        )
        figures["reliability"] = draw_reliability(part.probs, part.label, model.question)
    return {
        name: save_figure(figure, folder / "figures" / f"{name}.png")
        for name, figure in figures.items()
    }
