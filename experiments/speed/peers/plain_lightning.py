"""The article's net as one would write it today: Lightning, torchmetrics, a loader with workers.

    python plain_lightning.py torchvision|monai FOLDER CHANNELS WARM STEPS [data]

`torchvision` decodes and augments with transforms v2 in two worker processes; `monai` keeps decoded
images in a `CacheDataset` and augments in a `ThreadDataLoader`. Prints images a second of STEPS
batches of 32 after WARM ones; with `data` of the loader alone.
"""

import json
import logging
import sys
import time
import warnings
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics import AUROC, Accuracy, F1Score, MetricCollection, Precision, Recall

SIDE, BATCH, WORKERS = 224, 32, 2
CLASSES = ("lesion", "normal")


class Plain(pl.LightningModule):
    """Float32, channels first, Adam, five metrics updated and logged at every step."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 128)
        stages = [(nn.Conv2d(a, b, 3), nn.ReLU(), nn.MaxPool2d(2))
                  for a, b in pairwise(widths)]  # fmt: skip
        self.net = nn.Sequential(
            *(layer for stage in stages for layer in stage), nn.Flatten(),
            nn.Linear(128 * 26 * 26, 512), nn.ReLU(), nn.Linear(512, 1),
        )  # fmt: skip
        kinds = (Accuracy, Precision, Recall, F1Score, AUROC)
        self.metrics = MetricCollection([kind(task="binary") for kind in kinds])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        image, label = (batch["image"], batch["label"]) if isinstance(batch, dict) else batch
        logit = self.net(image)[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logit, label.float())
        self.metrics.update(logit.sigmoid().detach(), label)
        self.log("train/loss", loss)
        self.log_dict(self.metrics)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class Clock(pl.Callback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: object) -> None:
        self.ends.append(time.perf_counter())


def load_torchvision(folder: str, channels: int) -> Iterable[Any]:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    change = v2.Compose([
        *([v2.Grayscale()] if channels == 1 else []),
        v2.PILToTensor(), v2.Resize((SIDE, SIDE)),
        v2.RandomAffine(40, (0.2, 0.2), (0.8, 1.2), 11.5), v2.RandomHorizontalFlip(),
        v2.ToDtype(torch.float32, scale=True),
    ])  # fmt: skip
    images = ImageFolder(folder, change)
    return torch.utils.data.DataLoader(images, BATCH, shuffle=True, num_workers=WORKERS)


def load_monai(folder: str, channels: int, count: int) -> Iterable[Any]:
    from monai.data import CacheDataset, ThreadDataLoader
    from monai.transforms import (
        Compose,
        Lambdad,
        LoadImaged,
        RandAffined,
        RandFlipd,
        Resized,
        ScaleIntensityRanged,
    )

    paths = sorted(Path(folder).glob("*/*.jpg"), key=lambda path: path.name)[:count]
    rows = [{"image": path, "label": CLASSES.index(path.parent.name)} for path in paths]
    change = Compose([
        LoadImaged("image", image_only=True, ensure_channel_first=True),
        Lambdad("image", lambda image: image[:channels]),
        Resized("image", (SIDE, SIDE)), ScaleIntensityRanged("image", 0, 255, 0, 1),
        RandAffined("image", prob=1, rotate_range=0.7, shear_range=0.2, translate_range=45,
                    scale_range=0.2, padding_mode="border"),
        RandFlipd("image", prob=0.5, spatial_axis=1),
    ])  # fmt: skip
    cached = CacheDataset(rows, change, num_workers=WORKERS, progress=False)
    return ThreadDataLoader(cached, batch_size=BATCH, shuffle=True, num_workers=0)


def main(peer: str, folder: str, channels: str, warm: str, steps: str, part: str = "") -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    first, count = int(warm), int(warm) + int(steps)
    loader = (
        load_torchvision(folder, int(channels))
        if peer == "torchvision"
        else load_monai(folder, int(channels), BATCH * count)
    )
    clock = Clock()
    if part == "data":
        for _, _ in zip(range(count), loader, strict=False):
            clock.on_train_batch_end()
    else:
        pl.Trainer(
            max_epochs=1, limit_train_batches=count, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[clock],
            accelerator="auto",
        ).fit(Plain(int(channels)), loader)  # fmt: skip
    print(json.dumps({"rate": BATCH * int(steps) / (clock.ends[-1] - clock.ends[first - 1])}))


if __name__ == "__main__":
    main(*sys.argv[1:])
