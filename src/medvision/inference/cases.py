"""The surest misses and hits of a model, drawn with what spoke for them."""

from collections.abc import Iterator, Sequence
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
from medvision.evaluation.figures.common import draw_grid
from medvision.evaluation.figures.gallery import (
    HIT,
    CaseCaption,
    name_kind,
    short_id,
    write_gallery,
)
from medvision.evaluation.figures.saliency import draw_heat
from medvision.evaluation.figures.series import draw_slices, overlay
from medvision.evaluation.figures.style import save_figure
from medvision.evaluation.report.table import show_score
from medvision.inference.predictor import answer_batch
from medvision.model import Model
from medvision.nets.encoder import encoder
from medvision.tasks.classification.calibration import apply_temperature
from medvision.tasks.classification.evaluator import NOTHING

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
    draw = draw_image_cases if model.series is None else draw_series_cases
    drawn = list(draw(model, samples, cases))
    write_gallery(place / "cases", [_tell(one, samples) for one in drawn], kinds)
    some = _take_some(drawn, SHEET if model.series is None else STRIPS)
    if model.series is None:
        return [save_figure(_draw_sheet(some), place / "cases.png")]
    strips = (
        draw_slices(
            one.image, one.heat, one.weight, one.score, one.position, one.case.text,
            f"P({model.classes[one.case.target]})",
        )
        for one in some
    )  # fmt: skip
    return [save_figure(s, place / f"case_{n}.png") for n, s in enumerate(strips, start=1)]


class Case(NamedTuple):
    """A sample and what was said of it; `target` is the class that the heat speaks for."""

    sample: int
    target: int
    kind: str
    label: str
    pred: str
    sureness: float

    @property
    def hit(self) -> bool:
        return self.kind == HIT

    @property
    def said(self) -> str:
        """The decision and its probability."""
        return f"{self.pred or 'none'} {show_score(self.sureness)}"

    @property
    def text(self) -> str:
        """One line: what is true where it differs, the decision."""
        return self.said if self.hit else f"{self.label or 'none'}, said {self.said}"


class Drawn(NamedTuple):
    """A case in pixels.

    Attributes:
        case: whose.
        image: uint8 `[V,H,W,C]`, of an image V is 1.
        heat: `[V,H,W]` from 0; None where the net has none.
        weight: `[V]`, share of each slice in the answer.
        score: `[V]`, a probability of each slice; None where slices have no head.
        position: of each slice; empty of an image.
    """

    case: Case
    image: np.ndarray
    heat: np.ndarray | None
    weight: np.ndarray
    score: np.ndarray | None
    position: list[int]


def _take_some(drawn: Sequence[Drawn], most: int) -> list[Drawn]:
    """Take up to half of `most` the misses, and fill up with hits."""
    missed = [one for one in drawn if not one.case.hit][: most // 2]
    return [*missed, *(one for one in drawn if one.case.hit)][:most]


def _tell(drawn: Drawn, samples: Samples) -> CaseCaption:
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
    return CaseCaption(rows, facts)


def _draw_sheet(drawn: Sequence[Drawn]) -> Figure:
    """Draw images in a row, and below them what spoke for the decision."""
    plain = np.concatenate([one.image for one in drawn])
    if any(one.heat is None for one in drawn):
        return draw_grid(plain, [one.case.text for one in drawn], columns=len(plain))
    hot = np.concatenate([overlay(one.image, one.heat) for one in drawn if one.heat is not None])
    both = np.concatenate([np.broadcast_to(plain, hot.shape), hot])
    truth = [f"true {one.case.label or 'none'}" for one in drawn]
    return draw_grid(both, [*truth, *(one.case.said for one in drawn)], columns=len(plain))


MOST_PIXELS = 2**24  # of a series whose heat is drawn: one pass keeps the maps of all its slices


def draw_image_cases(model: Model, samples: Samples, cases: Sequence[Case]) -> Iterator[Drawn]:
    """Yield images and what spoke for the decision, of one pass through the net."""
    index = np.array([case.sample for case in cases])
    image = torch.cat([b["image"] for b in samples.batches(index, len(index))]).to(model.device)
    target = torch.tensor([case.target for case in cases])
    part = _find_encoder(model)
    heat = None if part is None else draw_heat(part, model.net, image, target)
    hot = None if heat is None else heat.cpu().double().numpy()
    for n, (case, pixels) in enumerate(zip(cases, _to_bytes(image), strict=True)):
        own = None if hot is None else hot[n : n + 1]
        yield Drawn(case, pixels[None], own, np.ones(1), None, [])


def draw_series_cases(model: Model, samples: Samples, cases: Sequence[Case]) -> Iterator[Drawn]:
    """Yield the slices of each series, their heat and what each of them counts."""
    part = _find_encoder(model)
    # Heat is of one pass through the encoder.
    model.net.encode_batch = None  # type: ignore[assignment]
    for case in cases:
        index = np.array([case.sample])
        (batch,) = samples.batches(index, 1)
        there = {name: value.to(model.device) for name, value in batch.items()}
        with torch.inference_mode():
            answer = {k: v.cpu() for k, v in answer_batch(model, there).items()}

        def answer_study(image: Tensor, there: dict[str, Tensor] = there) -> Tensor:
            logits: Tensor = model.net(image, there["length"], there["step"])["logits"]
            return logits

        heat = None
        if part is not None and there["image"][:, :, 0].numel() <= MOST_PIXELS:
            heat = draw_heat(part, answer_study, there["image"], case.target)
        score, even = None, torch.full_like(there["step"][0], 1 / there["step"].numel())
        if "slice_logits" in answer:
            probs = apply_temperature(answer["slice_logits"].numpy(), 1.0, model.question)
            score = probs[:, case.target]
        yield Drawn(
            case,
            _to_bytes(there["image"][0, :, samples.shown_channels]),
            None if heat is None else heat.cpu().double().numpy(),
            answer.get("attention", even.cpu()).double().numpy(),
            score,
            samples.slices_for(index)["position"].tolist(),
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


MISSES, HITS = 12, 4  # shown at most


def tell_kinds(model: Model, predictions: pd.DataFrame) -> list[str]:
    """Name what each prediction is: a hit, or which kind of miss; "" = unlabelled."""
    pairs = zip(predictions["label"], predictions["pred"], strict=True)
    return [name_kind(label, pred, model.classes, model.question) for label, pred in pairs]


def choose_cases(
    model: Model, index: np.ndarray, predictions: pd.DataFrame, kinds: Sequence[str],
    misses: int = MISSES, hits: int = HITS,
) -> Iterator[Case]:  # fmt: skip
    """Yield the surest misses, one of each kind in turn, then hits, one of each decision in turn.

    A patient is shown once of a kind of miss, and once among the hits. Sure is who gives what was
    decided, or of several labels the likeliest, a high probability.
    """
    probs = predictions[[f"prob_{name}" for name in model.classes]].to_numpy()
    decided = predictions["pred"].map({name: k for k, name in enumerate(model.classes)})
    target = decided.fillna(pd.Series(probs.argmax(axis=1), decided.index)).to_numpy(int)
    sureness = probs[np.arange(len(probs)), target]
    kind, pred = np.array(kinds, dtype=object), predictions["pred"].to_numpy()
    label = predictions["label"].replace(NOTHING, "").to_numpy()
    order = pd.Series(np.argsort(-sureness, kind="stable"))
    whose = predictions[["dataset", "patient"]].iloc[order].assign(kind=kind[order])
    order = order[~whose.duplicated().to_numpy()].to_numpy()
    missed = _in_turn(order[(kind[order] != HIT) & (kind[order] != "")], kind)[:misses]
    for row in [*missed, *_in_turn(order[kind[order] == HIT], pred)[:hits]]:
        yield Case(int(index[row]), int(target[row]), kind[row], label[row], pred[row],
                   float(sureness[row]))  # fmt: skip


def _in_turn(rows: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Order rows so that each name comes once before any comes again."""
    turn = pd.Series(rows, dtype=int).groupby(names[rows]).cumcount()
    return rows[np.argsort(turn.to_numpy(), kind="stable")]
