"""The surest misses and hits in `figures/`: the gallery, and a sheet or strips of some."""

from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from medvision.commands.case_pixels import Drawn, draw_images, draw_series
from medvision.commands.cases import choose_cases, tell_kinds
from medvision.data.samples import Samples
from medvision.evaluation.figures import draw_grid
from medvision.evaluation.gallery import Told, short_id, write_gallery
from medvision.evaluation.strips import draw_strip, overlay
from medvision.evaluation.style import save_figure
from medvision.model import Model

SHEET, STRIPS = 8, 6  # cases in figures of their own, up to half of them misses


def draw_cases(
    folder: Path, model: Model, samples: Samples, index: np.ndarray, predictions: pd.DataFrame
) -> list[Path]:
    """Draw the surest misses and hits into `figures/`: the gallery, and a sheet or strips of some.

    Args:
        folder: of the run; what it showed before is removed.
        model: is asked once more, for the images it is shown.
        samples: as the model reads them.
        index: samples that were predicted.
        predictions: their rows, in the same order.
    """
    place = folder / "figures"
    for old in place.glob("case*.png"):
        old.unlink()
    rmtree(place / "cases", ignore_errors=True)
    kinds = tell_kinds(model, predictions)
    cases = list(choose_cases(model, index, predictions, kinds))
    if not cases:
        return []
    model.net.requires_grad_(False)  # heat asks for the gradients of maps alone
    draw = draw_images if model.series is None else draw_series
    drawn = list(draw(model, samples, cases))
    write_gallery(place / "cases", [_tell(one, samples) for one in drawn], kinds)
    some = _take_some(drawn, SHEET if model.series is None else STRIPS)
    if model.series is None:
        return [save_figure(_draw_sheet(some), place / "cases.png")]
    strips = (
        draw_strip(
            one.image, one.heat, one.weight, one.score, one.position, one.case.text,
            f"P({model.classes[one.case.target]})",
        )
        for one in some
    )  # fmt: skip
    return [save_figure(s, place / f"case_{n}.png") for n, s in enumerate(strips, start=1)]


def _take_some(drawn: Sequence[Drawn], most: int) -> list[Drawn]:
    """Take up to half of `most` the misses, and fill up with hits."""
    missed = [one for one in drawn if not one.case.hit][: most // 2]
    return [*missed, *(one for one in drawn if one.case.hit)][:most]


def _tell(drawn: Drawn, samples: Samples) -> Told:
    """Return what the gallery shows and says of a case: of a series its three heaviest slices."""
    case, row = drawn.case, samples.table.loc[drawn.case.sample]
    heaviest = np.argsort(-drawn.weight, kind="stable")[:3]
    if len(drawn.weight) > 3 and np.ptp(drawn.weight) < 1e-6:  # no slice counts more: spread them
        heaviest = np.linspace(0, len(drawn.weight) - 1, 5).round().astype(int)[1:4]
    shown = np.sort(heaviest)
    rows = [drawn.image[shown]]
    if drawn.heat is not None:
        rows.append(overlay(drawn.image, drawn.heat, drawn.heat.max())[shown])
    facts = {
        "kind": case.kind, "label": case.label or "none", "pred": case.pred or "none",
        "sureness": case.sureness, "patient": short_id(row["patient"]),
        "site": str(row["site"]) if row.get("site") else "",
    }  # fmt: skip
    if drawn.position:
        facts |= {"series": short_id(row["series"]), "slices": len(drawn.position)}
        facts["positions"] = [int(drawn.position[n]) for n in shown]
    return Told(rows, facts)


def _draw_sheet(drawn: Sequence[Drawn]) -> Figure:
    """Draw images in a row, and below them what spoke for the decision."""
    plain = np.concatenate([one.image for one in drawn])
    if any(one.heat is None for one in drawn):
        return draw_grid(plain, [one.case.text for one in drawn], columns=len(plain))
    hot = np.concatenate([overlay(one.image, one.heat) for one in drawn if one.heat is not None])
    both = np.concatenate([np.broadcast_to(plain, hot.shape), hot])
    truth = [f"true {one.case.label or 'none'}" for one in drawn]
    return draw_grid(both, [*truth, *(one.case.said for one in drawn)], columns=len(plain))
