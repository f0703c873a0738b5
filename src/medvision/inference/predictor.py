"""A frozen model over rows: what its net answers, and what evaluates that."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from medvision.augment import device as augment_on_device
from medvision.augment.draw import Augment
from medvision.data.batches.samples import Samples
from medvision.data.batches.sampling import count_repeats
from medvision.data.units.unit import Unit, read_unit
from medvision.evaluation.evaluator import Evaluator, open_evaluator
from medvision.model import Model
from medvision.tasks import find_infer

BATCH = 128
Batch = dict[str, Tensor]


@dataclass
class Outputs:
    """What a net says of N samples, on the CPU.

    Attributes:
        logits: float32 `[N,K]`.
        slices: what the net says of the images of samples that have several: `attention` `[T]` and
            `slice_logits` `[T,K]`, as it has them, T = all images, one sample after the other.
    """

    logits: Tensor
    slices: dict[str, Tensor] = field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it by name, as an evaluator takes it."""
        return {name: v.numpy() for name, v in {"logits": self.logits, **self.slices}.items()}


def open_model_evaluator(model: Model) -> Evaluator:
    """Open what tabulates and scores the answers of a frozen model."""
    return open_evaluator(model.task, model.target, model.decision)


def open_model_unit(model: Model) -> Unit:
    """Open what a sample of a frozen model is."""
    return read_unit(model.unit)


def predict_samples(model: Model, samples: Samples, index: np.ndarray) -> Outputs:
    """Answer for the samples `index`, in their order."""
    return run_net(model, samples.batches(index, BATCH), index, "predicting")


def run_net(model: Model, batches: Iterable[Batch], keys: np.ndarray, task: str) -> Outputs:
    """Run one net over batches: see `run_nets`."""
    return run_nets([model], batches, keys, task)[0]


def run_nets(
    models: Sequence[Model], batches: Iterable[Batch], keys: np.ndarray, task: str
) -> list[Outputs]:
    """Run nets over the same batches, averaging augmented views if a model asks.

    Args:
        models: their nets are moved to the best device there is.
        batches: as the models' unit makes them.
        keys: an integer a sample, from which its augmented views are drawn.
        task: what the progress bar says.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for model in models:
        model.net.to(device)
        if all(weight.ndim <= 4 for weight in model.net.parameters()):  # of 3-D nets there is none
            model.net.to(memory_format=torch.channels_last)
    parts: list[list[Batch]] = [[] for _ in models]
    console, done = Console(stderr=True), 0
    with (
        torch.inference_mode(),
        Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
    ):
        bar = progress.add_task(task, total=len(keys))
        for batch in batches:
            there = {name: value.to(device) for name, value in batch.items()}
            chosen = keys[done : done + len(there["image"])]
            for model, part in zip(models, parts, strict=True):
                part.append(_average_views(model, there, chosen))
            done += len(chosen)
            progress.update(bar, completed=done)
    return [_join(model, part) for model, part in zip(models, parts, strict=True)]


def _average_views(model: Model, batch: Batch, keys: np.ndarray) -> Batch:
    """Answer for a batch, as the mean of the plain and the augmented views, on the CPU."""
    answer = answer_batch(model, batch)
    augment: Augment | None = instantiate(model.augment) if model.tta else None
    for view in range(model.tta):
        assert augment is not None
        more = answer_batch(model, change(batch, model, augment, 1_000_000 + view, keys))
        answer = {name: value + more[name] for name, value in answer.items()}
    return {name: (value / (1 + model.tta)).cpu() for name, value in answer.items()}


def _join(model: Model, parts: Sequence[Batch]) -> Outputs:
    if not parts:
        return Outputs(torch.empty(0, len(model.classes)))
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Outputs(joined.pop("logits"), joined)


def answer_batch(model: Model, batch: Batch) -> Batch:
    """Return float32 `logits` and what is said of the images of samples, without padding."""
    return open_model_unit(model).unpad(find_infer(model.task)(model.net, batch), batch)


def change(batch: Batch, model: Model, augment: Augment, view: int, keys: np.ndarray) -> Batch:
    """Draw one augmented view, as in training.

    All images of a sample move alike, each with noise of its own; channels that follow from others
    follow from the changed ones.
    """
    unit = open_model_unit(model)
    image, sample, slots = unit.take_apart(batch)
    each = keys[sample]
    draws = augment.draw(model.seed, view, each, (image.shape[-2], image.shape[-1]))
    moved = augment_on_device.augment(image, draws.with_own_noise(count_repeats(each)))
    return unit.finish(moved, batch | slots)
