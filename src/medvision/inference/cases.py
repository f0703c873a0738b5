"""Misses and hits of a model, drawn with what spoke for them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from medvision.data.batches.samples import Samples
from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import Case, Evaluator
from medvision.evaluation.figures.common import draw_grid
from medvision.evaluation.figures.gallery import CaseCaption, short_id, write_gallery
from medvision.evaluation.figures.saliency import draw_heat
from medvision.evaluation.figures.series import draw_slices, overlay
from medvision.evaluation.figures.style import save_figure
from medvision.inference.predictor import Batch, answer_batch, open_model_evaluator
from medvision.model import Model
from medvision.nets.encoder import encoder
from medvision.tasks import find_infer

_SHEET, _STRIPS = 8, 6  # cases in figures of their own, up to half of them misses


def draw_cases(
    folder: Path,
    model: Model,
    samples: Samples,
    index: np.ndarray,
    tables: Mapping[str, pd.DataFrame],
) -> list[Path]:
    """Draw the surest misses and hits into `figures/`: the gallery, and a sheet or strips of some.

    Args:
        folder: of the run; what it showed before is removed.
        model: is asked once more, for the images it is shown.
        samples: as the model reads them.
        index: samples that were predicted.
        tables: their predictions, in the same order.
    """
    place = folder / "figures"
    for old in place.glob("case*.png"):
        old.unlink()
    rmtree(place / "cases", ignore_errors=True)
    evaluator = open_model_evaluator(model)
    scored = evaluator.read(tables)
    cases = list(evaluator.cases(scored))
    if not cases:
        return []
    shown = index[scored.table.index.to_numpy()[[case.row for case in cases]]]
    model.net.requires_grad_(False)  # heat asks for the gradients of maps alone
    drawn = list(_draw_pixels(model, samples, cases, shown))
    captions = [_tell(one, samples, evaluator) for one in drawn]
    write_gallery(place / "cases", captions, evaluator.kinds(scored))
    if not drawn[0].position:
        return [save_figure(_draw_sheet(_take_some(drawn, _SHEET)), place / "cases.png")]
    strips = (
        draw_slices(
            one.image, one.heat, one.weight, one.score, one.position, one.case.text,
            one.case.curve[1],
        )
        for one in _take_some(drawn, _STRIPS)
    )  # fmt: skip
    return [save_figure(s, place / f"case_{n}.png") for n, s in enumerate(strips, start=1)]


class Drawn(NamedTuple):
    """A case in pixels.

    Attributes:
        case: whose.
        sample: its index.
        image: uint8 `[V,H,W,C]`, of an image V is 1.
        heat: `[V,H,W]` from 0; None where the net has none.
        weight: `[V]`, share of each slice in the answer.
        score: `[V]`, a number of each slice; None where slices have no head.
        position: of each slice; empty of an image.
    """

    case: Case
    sample: int
    image: np.ndarray
    heat: np.ndarray | None
    weight: np.ndarray
    score: np.ndarray | None
    position: list[int]


def _take_some(drawn: Sequence[Drawn], most: int) -> list[Drawn]:
    """Take up to half of `most` the misses, and fill up with hits."""
    missed = [one for one in drawn if not one.case.hit][: most // 2]
    return [*missed, *(one for one in drawn if one.case.hit)][:most]


def _tell(drawn: Drawn, samples: Samples, evaluator: Evaluator) -> CaseCaption:
    """Return what the gallery shows and says of a case: of a series its three heaviest slices."""
    case, row = drawn.case, samples.table.loc[drawn.sample]
    heaviest = np.argsort(-drawn.weight, kind="stable")[:3]
    if len(drawn.weight) > 3 and np.ptp(drawn.weight) < 1e-6:  # no slice counts more: spread them
        heaviest = np.linspace(0, len(drawn.weight) - 1, 5).round().astype(int)[1:4]
    shown = np.sort(heaviest)
    outputs = {} if drawn.heat is None else {"heat": drawn.heat}
    rows = [pictures[shown] for pictures in evaluator.draw(case, drawn.image, outputs)]
    site = str(row["site"]) if row.get("site") else ""
    facts = case.facts | {"patient": short_id(row["patient"]), "site": site}
    if drawn.position:
        facts |= {"series": short_id(row["series"]), "slices": len(drawn.position)}
        facts["positions"] = [int(drawn.position[n]) for n in shown]
    return CaseCaption(rows, facts)


def _draw_sheet(drawn: Sequence[Drawn]) -> Figure:
    """Draw images in a row, and below them what spoke for the decision."""
    plain = np.concatenate([one.image for one in drawn])
    if any(one.heat is None for one in drawn):
        return draw_grid(plain, [one.case.text for one in drawn], columns=len(plain))
    hot = np.concatenate([overlay(one.image, one.heat) for one in drawn if one.heat is not None])
    both = np.concatenate([np.broadcast_to(plain, hot.shape), hot])
    truth = [one.case.truth for one in drawn]
    return draw_grid(both, [*truth, *(one.case.said for one in drawn)], columns=len(plain))


_MOST_PIXELS = 2**24  # of a sample whose heat is drawn: one pass keeps the maps of all its images


def _draw_pixels(
    model: Model, samples: Samples, cases: Sequence[Case], index: np.ndarray
) -> Iterator[Drawn]:
    """Yield the images of each sample, what spoke for the decision in them and what each counts."""
    part, evaluator = _find_encoder(model), open_model_evaluator(model)
    model.net.encode_batch = None  # type: ignore[assignment]  # heat is of one pass of the encoder
    for case, sample in zip(cases, index.tolist(), strict=True):
        own = np.array([sample])
        (batch,) = samples.batches(own, 1)
        there = {name: value.to(model.device) for name, value in batch.items()}
        with torch.inference_mode():
            answer = {k: v.cpu().numpy() for k, v in answer_batch(model, there).items()}

        def answer_for(image: Tensor, there: Batch = there) -> Tensor:
            return find_infer(model.task)(model.net, there | {"image": image}, model.decision)[
                "logits"
            ]

        heat, pictures = None, samples.unit.pictures(there["image"][0], samples.colours)
        if part is not None and case.target is not None and pictures[:, 0].numel() <= _MOST_PIXELS:
            heat = draw_heat(part, answer_for, there["image"], case.target)
        facts = samples.tables_for(own)
        slices = facts.get("slices", pd.DataFrame({"position": range(len(pictures))}))
        told = evaluator.tabulate(answer, facts).get("slices", slices)
        even = np.full(len(slices), np.float32(1 / len(slices)), dtype=np.float64)
        yield Drawn(
            case,
            sample,
            _to_bytes(pictures),
            None if heat is None else heat.cpu().double().numpy(),
            told["attention"].to_numpy() if "attention" in told else even,
            told[case.curve[0]].to_numpy() if case.curve[0] in told else None,
            [] if samples.unit.alone else slices["position"].tolist(),
        )


def _find_encoder(model: Model) -> nn.Module | None:
    """Return the part that makes maps of images; None of a net with no head to tell it by."""
    try:
        return encoder(model.net)[0]
    except MedvisionError:
        return None


def _to_bytes(image: Tensor) -> np.ndarray:
    """Turn images `[N,C,H,W]` in [0,1] into `[N,H,W,C]` of uint8."""
    return np.asarray((image.cpu().permute(0, 2, 3, 1) * 255).round().byte())
