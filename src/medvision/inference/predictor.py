"""A frozen model over rows: what its net answers, and what evaluates that."""

from collections.abc import Iterable
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
from medvision.data.units.series import add_difference, drop_difference
from medvision.data.units.series_form import SeriesForm
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
        slices: of series, what the net says of their slices: `attention` `[T]` and `slice_logits`
            `[T,K]`, as it has them, T = all slices, one series after the other.
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


def predict_samples(model: Model, samples: Samples, index: np.ndarray) -> Outputs:
    """Answer for the samples `index`, in their order."""
    return run_net(model, samples.batches(index, BATCH), index, "predicting")


def run_net(model: Model, batches: Iterable[Batch], keys: np.ndarray, task: str) -> Outputs:
    """Run the net over batches, averaging augmented views if the model asks.

    Args:
        model: its net is moved to the best device there is.
        batches: `image` `[B,C,H,W]` or, of series, `[B,S,C,H,W]` with `length` and `step`.
        keys: an integer a sample, from which its augmented views are drawn.
        task: what the progress bar says.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.net.to(device)
    if all(weight.ndim <= 4 for weight in model.net.parameters()):  # of 3-D nets there is no such
        model.net.to(memory_format=torch.channels_last)
    augment: Augment | None = instantiate(model.augment) if model.tta else None
    console, parts, done = Console(stderr=True), [], 0
    with (
        torch.inference_mode(),
        Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
    ):
        bar = progress.add_task(task, total=len(keys))
        for batch in batches:
            there = {name: value.to(device) for name, value in batch.items()}
            answer = answer_batch(model, there)
            for view in range(model.tta):
                assert augment is not None
                chosen = keys[done : done + len(there["image"])]
                seen = change(there, model, augment, 1_000_000 + view, chosen)
                more = answer_batch(model, seen)
                answer = {name: value + more[name] for name, value in answer.items()}
            parts.append({name: (v / (1 + model.tta)).cpu() for name, v in answer.items()})
            done += len(there["image"])
            progress.update(bar, completed=done)
    if not parts:
        return Outputs(torch.empty(0, len(model.classes)))
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Outputs(joined.pop("logits"), joined)


def answer_batch(model: Model, batch: Batch) -> Batch:
    """Return float32 `logits` and, of series, what is said of their slices, without padding."""
    answer = find_infer(model.task)(model.net, batch, model.decision)
    if model.series is None:
        return {"logits": answer["logits"].float()}
    image, length = batch["image"], batch["length"]
    valid = torch.arange(image.shape[1], device=image.device) < length[:, None]
    names = [name for name in ("attention", "slice_logits") if name in answer]
    told = {name: answer[name][valid].float() for name in names}
    return {"logits": answer["logits"].float()} | told


def change(batch: Batch, model: Model, augment: Augment, view: int, keys: np.ndarray) -> Batch:
    """Draw one augmented view, as in training.

    All slices of a series move alike, each with noise of its own, and the difference of two
    channels is that of the changed ones.
    """
    image = batch["image"]
    size = (image.shape[-2], image.shape[-1])
    if model.series is None:
        draws = augment.draw(model.seed, view, keys, size)
        return batch | {"image": augment_on_device.augment(image, draws)}
    form = SeriesForm(**model.series)
    valid = torch.arange(image.shape[1], device=image.device) < batch["length"][:, None]
    each = np.repeat(keys, batch["length"].cpu().numpy())
    draws = augment.draw(model.seed, view, each, size).with_own_noise(count_repeats(each))
    moved = augment_on_device.augment(drop_difference(image[valid], form), draws)
    changed = torch.zeros_like(image)
    changed[valid] = add_difference(moved, form)
    return batch | {"image": changed}
