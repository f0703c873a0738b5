"""Cases in pixels: their images or slices, with Grad-CAM where the net has maps."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from medvision.commands.cases import Case
from medvision.commands.infer import answer_batch
from medvision.data.samples import Samples
from medvision.errors import MedvisionError
from medvision.evaluation.calibration import apply_temperature
from medvision.evaluation.heat import draw_heat
from medvision.model import Model
from medvision.nets.encoder import encoder

MOST_PIXELS = 2**24  # of a series whose heat is drawn: one pass keeps the maps of all its slices


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


def draw_images(model: Model, samples: Samples, cases: Sequence[Case]) -> Iterator[Drawn]:
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


def draw_series(model: Model, samples: Samples, cases: Sequence[Case]) -> Iterator[Drawn]:
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
