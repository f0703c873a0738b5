"""The samples that tell most of a model: its surest misses and hits, drawn with Grad-CAM."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from medvision.commands.infer import answer_batch
from medvision.data.samples import Samples
from medvision.errors import MedvisionError
from medvision.evaluation.calibration import apply_temperature
from medvision.evaluation.evidence import NOTHING
from medvision.evaluation.figures import draw_grid
from medvision.evaluation.heat import draw_heat
from medvision.evaluation.strips import draw_strip, overlay
from medvision.evaluation.style import save_figure, show_score
from medvision.model import Model
from medvision.nets.encoder import encoder

IMAGES, SERIES = 8, 6  # drawn at most; up to half of them misses
MOST_PIXELS = 2**24  # of a series whose heat is drawn: one pass keeps the maps of all its slices


class Case(NamedTuple):
    """A sample and what was said of it; `target` is the class that the heat speaks for."""

    sample: int
    target: int
    series: str
    label: str
    pred: str
    sureness: float

    @property
    def said(self) -> str:
        """The decision and its probability."""
        return f"{self.pred or 'none'} {show_score(self.sureness)}"

    @property
    def text(self) -> str:
        """One line: the series, what is true where it differs, the decision."""
        told = self.said if self.label == self.pred else f"{self.label or 'none'}, said {self.said}"
        return f"{self.series}: {told}" if self.series else told


def draw_cases(
    folder: Path, model: Model, samples: Samples, index: np.ndarray, predictions: pd.DataFrame
) -> list[Path]:
    """Draw the surest misses and hits into `figures/`: images as one sheet, each series as a strip.

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
    cases = list(choose_cases(model, index, predictions, SERIES if model.series else IMAGES))
    if not cases:
        return []
    model.net.requires_grad_(False)  # heat asks for the gradients of maps alone
    if model.series is None:
        return [save_figure(_draw_images(model, samples, cases), place / "cases.png")]
    strips = enumerate(_draw_series(model, samples, cases), start=1)
    return [save_figure(strip, place / f"case_{number}.png") for number, strip in strips]


def choose_cases(
    model: Model, index: np.ndarray, predictions: pd.DataFrame, most: int
) -> Iterator[Case]:
    """Yield up to half of `most` the surest misses, then hits, one of each decision in turn.

    Sure is who gives what was decided, or of several labels the likeliest, a high probability.
    """
    probs = predictions[[f"prob_{name}" for name in model.classes]].to_numpy()
    decided = predictions["pred"].map({name: k for k, name in enumerate(model.classes)})
    target = decided.fillna(pd.Series(probs.argmax(axis=1), decided.index)).to_numpy(int)
    sureness = probs[np.arange(len(probs)), target]
    label, pred = predictions["label"].to_numpy(), predictions["pred"].to_numpy()
    order = [row for row in np.argsort(-sureness, kind="stable") if label[row] != ""]
    label = np.where(label == NOTHING, "", label)
    hit = {row: label[row] == pred[row] for row in order}
    misses = [row for row in order if not hit[row]][: most // 2]
    hits = pd.Series([row for row in order if hit[row]], dtype=int)
    turn = hits.groupby(pred[hits]).cumcount().sort_values(kind="stable")
    for row in [*misses, *hits[turn.index]][:most]:
        series = predictions["series"].iloc[row] if model.series else ""
        yield Case(int(index[row]), int(target[row]), series, label[row], pred[row],
                   float(sureness[row]))  # fmt: skip


def _draw_images(model: Model, samples: Samples, cases: Sequence[Case]) -> Figure:
    """Draw images in a row, and below them what spoke for the decision."""
    index = np.array([case.sample for case in cases])
    image = torch.cat([b["image"] for b in samples.batches(index, len(index))]).to(model.device)
    target = torch.tensor([case.target for case in cases])
    part = _find_encoder(model)
    heat = None if part is None else draw_heat(part, model.net, image, target)
    plain, said = _to_bytes(image), [case.said for case in cases]
    if heat is None:
        return draw_grid(plain, [case.text for case in cases], columns=len(plain))
    hot = overlay(plain, heat.cpu().double().numpy())
    both = np.concatenate([np.broadcast_to(plain, hot.shape), hot])
    truth = [f"true {case.label or 'none'}" for case in cases]
    return draw_grid(both, [*truth, *said], columns=len(plain))


def _draw_series(model: Model, samples: Samples, cases: Sequence[Case]) -> Iterator[Figure]:
    """Draw each series as a strip, its slices in order."""
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
        yield draw_strip(
            _to_bytes(there["image"][0, :, samples.shown_channels]),
            None if heat is None else heat.cpu().double().numpy(),
            answer.get("attention", even.cpu()).double().numpy(),
            score,
            samples.slices_for(index)["position"].tolist(),
            case.text,
            f"P({model.classes[case.target]})",
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
