"""A frozen model over rows: what its net answers, and what evaluates that."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from hydra.utils import instantiate
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
from medvision.target import Array, Encoded, Ragged
from medvision.tasks import find_infer

BATCH = 128
_ROW = "_row"  # ends the name of what says to which sample each value belongs
Batch = dict[str, Tensor]


def open_model_evaluator(model: Model) -> Evaluator:
    """Open what tabulates and scores the answers of a frozen model."""
    return open_evaluator(model.task, model.target, model.decision)


def open_model_unit(model: Model) -> Unit:
    """Open what a sample of a frozen model is."""
    return read_unit(model.unit)


def predict_samples(model: Model, samples: Samples, index: np.ndarray) -> Encoded:
    """Answer for the samples `index`, in their order."""
    return run_net(model, samples.batches(index, BATCH), index, "predicting")


def run_net(model: Model, batches: Iterable[Batch], keys: np.ndarray, task: str) -> Encoded:
    """Run one net over batches: see `run_nets`."""
    return run_nets([model], batches, keys, task)[0]


def run_nets(
    models: Sequence[Model], batches: Iterable[Batch], keys: np.ndarray, task: str
) -> list[Encoded]:
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
    augments = [instantiate(model.augment) if model.tta else None for model in models]
    parts: list[list[Batch]] = [[] for _ in models]
    counts: list[int] = []
    console, done = Console(stderr=True), 0
    with (
        torch.inference_mode(),
        Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
    ):
        bar = progress.add_task(task, total=len(keys))
        for batch in batches:
            there = {name: value.to(device) for name, value in batch.items()}
            chosen = keys[done : done + len(there["image"])]
            for model, augment, part in zip(models, augments, parts, strict=True):
                part.append(_average_views(model, there, augment, chosen))
            counts.append(len(chosen))
            done += len(chosen)
            progress.update(bar, completed=done)
    return [_join(part, counts) for part in parts]


def _average_views(
    model: Model, batch: Batch, augment: Augment | None, keys: np.ndarray
) -> Batch:  # fmt: skip
    """Answer for a batch, as the mean of the plain and the augmented views, on the CPU."""
    answer = answer_batch(model, batch)
    if augment is None:
        return {name: value.cpu() for name, value in answer.items()}
    averaged = [name for name in answer if not name.endswith(_ROW)]
    for view in range(model.tta):
        more = answer_batch(model, change(batch, model, augment, 1_000_000 + view, keys))
        answer |= {name: answer[name] + more[name] for name in averaged}
    answer |= {name: answer[name] / (1 + model.tta) for name in averaged}
    return {name: value.cpu() for name, value in answer.items()}


def _join(parts: Sequence[Batch], counts: Sequence[int]) -> Encoded:
    """Join the answers to batches of so many samples each: see `Trainable.infer`."""
    first = np.cumsum([0, *counts])
    names = list(parts[0]) if parts else []
    joined: dict[str, Array | Ragged] = {}
    for name in [name for name in names if not name.endswith(_ROW)]:
        values = torch.cat([part[name] for part in parts]).numpy()
        if (row := f"{name}{_ROW}") not in names:
            joined[name] = values
            continue
        rows = [part[row].numpy() + start for part, start in zip(parts, first, strict=False)]
        joined[name] = Ragged.of_rows(values, np.concatenate(rows), int(first[-1]))
    return joined


def answer_batch(model: Model, batch: Batch) -> Batch:
    """Answer for a batch, with what is said of the images of samples out of its padding."""
    answer = find_infer(model.task)(model.net, batch, model.decision)
    single = {n: v.float() if v.is_floating_point() else v for n, v in answer.items()}
    return open_model_unit(model).unpad(single, batch)


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
