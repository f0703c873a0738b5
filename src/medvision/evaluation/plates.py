"""The figures of a run folder, drawn from its stored predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from medvision.evaluation.bands import pr_band, roc_band
from medvision.evaluation.curves import draw_precision_recall, draw_roc
from medvision.evaluation.evidence import read_part
from medvision.evaluation.figures import draw_confusion, draw_reliability, draw_scores
from medvision.evaluation.style import save_figure
from medvision.model import Model


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
