"""A frozen model over rows: logits, and the table of predictions they become."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from rich.console import Console
from rich.progress import track
from torch import Tensor

from medvision.augment import device as augment_on_device
from medvision.augment.draw import Augment
from medvision.data.samples import Samples
from medvision.evaluation.calibration import apply_temperature
from medvision.evaluation.evidence import decide_labels
from medvision.model import Model

BATCH = 128


def predict_logits(model: Model, samples: Samples, rows: np.ndarray) -> Tensor:
    """Return logits float32 `[N,K]` of the rows, in their order, on the CPU."""
    batches = samples.batches(rows, BATCH)
    return run_net(model, (batch["image"] for batch in batches), rows, "predicting")


def run_net(model: Model, images: Iterable[Tensor], keys: np.ndarray, task: str) -> Tensor:
    """Run the net over batches of images `[B,C,H,W]`, averaging augmented views if the model asks.

    Args:
        model: its net is moved to the best device there is.
        images: batches of at most `BATCH` images.
        keys: an integer an image, from which its augmented views are drawn.
        task: what the progress bar says.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = model.net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    augment: Augment | None = instantiate(model.augment) if model.tta else None
    console, parts, done = Console(stderr=True), [], 0
    total = -(-len(keys) // BATCH)
    with torch.inference_mode():
        for batch in track(images, task, total, console=console, disable=not console.is_terminal,
                           transient=True):  # fmt: skip
            image = batch.to(device)
            logits = net(image).float()
            for view in range(model.tta):
                assert augment is not None
                chosen = keys[done : done + len(image)]
                size = (image.shape[-2], image.shape[-1])
                draws = augment.draw(model.seed, 1_000_000 + view, chosen, size)
                logits = logits + net(augment_on_device.augment(image, draws)).float()
            done += len(image)
            parts.append((logits / (1 + model.tta)).cpu())
    return torch.cat(parts) if parts else torch.empty(0, len(model.classes))


def tabulate(model: Model, facts: pd.DataFrame, logits: Tensor) -> pd.DataFrame:
    """Put logits, calibrated probabilities and decisions beside the facts of their rows."""
    table = facts.reset_index(drop=True)
    probs = apply_temperature(logits.numpy(), model.temperature, model.kind)
    for k, name in enumerate(model.classes):
        table[f"logit_{name}"] = logits[:, k].double().numpy()
    for k, name in enumerate(model.classes):
        table[f"prob_{name}"] = probs[:, k]
    return table.assign(pred=decide_labels(probs, model.classes, model.kind, model.threshold))
