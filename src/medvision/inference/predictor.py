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
from medvision.data.units.series import add_difference, drop_difference
from medvision.data.units.series_form import SeriesForm
from medvision.evaluation.evaluator import Evaluator, open_evaluator
from medvision.model import Model
from medvision.target import Array, Encoded, Ragged
from medvision.tasks import find_infer

BATCH = 128
ROW = "_row"  # ends the name of what says to which sample each value belongs
Batch = dict[str, Tensor]


def open_model_evaluator(model: Model) -> Evaluator:
    """Open what tabulates and scores the answers of a frozen model."""
    return open_evaluator(model.task, model.target, model.decision)


def predict_samples(model: Model, samples: Samples, index: np.ndarray) -> Encoded:
    """Answer for the samples `index`, in their order."""
    return run_net(model, samples.batches(index, BATCH), index, "predicting")


def run_net(model: Model, batches: Iterable[Batch], keys: np.ndarray, task: str) -> Encoded:
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
    console, done = Console(stderr=True), 0
    parts: list[tuple[int, Batch]] = []
    with (
        torch.inference_mode(),
        Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
    ):
        bar = progress.add_task(task, total=len(keys))
        for batch in batches:
            there = {name: value.to(device) for name, value in batch.items()}
            chosen = keys[done : done + len(there["image"])]
            views = [answer_batch(model, there)]
            for view in range(model.tta):
                assert augment is not None
                seen = change(there, model, augment, 1_000_000 + view, chosen)
                views.append(answer_batch(model, seen))
            parts.append((len(chosen), average_views(views)))
            done += len(chosen)
            progress.update(bar, completed=done)
    return join_batches(parts)


def average_views(views: Sequence[Batch]) -> Batch:
    """Return the mean of what is answered to views of the same samples, on the CPU."""
    first, *others = views
    for other in others:
        first = {
            name: value if name.endswith(ROW) else value + other[name]
            for name, value in first.items()
        }
    return {
        name: (value / len(views) if others and not name.endswith(ROW) else value).cpu()
        for name, value in first.items()
    }


def join_batches(parts: Sequence[tuple[int, Batch]]) -> Encoded:
    """Join the answers to batches of so many samples each: see `Trainable.infer`."""
    first = np.cumsum([0, *(count for count, _ in parts)])
    names = dict.fromkeys(name for _, part in parts for name in part)
    joined: dict[str, Array | Ragged] = {}
    for name in [name for name in names if not name.endswith(ROW)]:
        values = torch.cat([part[name] for _, part in parts]).numpy()
        if (row := f"{name}{ROW}") not in names:
            joined[name] = values
            continue
        rows = [part[row].numpy() + start for (_, part), start in zip(parts, first, strict=False)]
        joined[name] = Ragged.of_rows(values, np.concatenate(rows), int(first[-1]))
    return joined


def answer_batch(model: Model, batch: Batch) -> Batch:
    """Answer for a batch; of series what is said of their slices is without padding."""
    answer = find_infer(model.task)(model.net, batch, model.decision)
    answer = {n: v.float() if v.is_floating_point() else v for n, v in answer.items()}
    if model.series is None:
        return answer
    image, length = batch["image"], batch["length"]
    valid = torch.arange(image.shape[1], device=image.device) < length[:, None]
    sample = torch.arange(len(length), device=image.device)[:, None].expand_as(valid)[valid]
    for name in [name for name in ("attention", "slice_logits") if name in answer]:
        answer |= {name: answer[name][valid], f"{name}{ROW}": sample}
    return answer


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
