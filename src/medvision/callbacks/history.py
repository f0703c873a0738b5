"""`history.csv`: every logged number of every epoch; TensorBoard is its view."""

import math
import time
from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

import medvision.files as files

RATE = "train/lr"
"""What the loggers call the learning rate; the column is `lr`."""


class History(Checkpoint):
    """Adds a row an epoch, and cuts the file back to the checkpoint when a run resumes.

    A `Checkpoint` because Lightning calls those after the task has logged its epoch, and because
    the file must agree with `last.ckpt`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self.started = time.perf_counter()
        self.rate = math.nan  # of the last step: the highest of all groups of weights

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.path.exists():
            # Python's float is exact in every version of pandas.
            past = pd.read_csv(self.path, dtype=str).map(float).astype({"epoch": int})
            self.rows = past[past["epoch"] < trainer.current_epoch].to_dict("records")
        self.started = time.perf_counter()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Before the step: after it the schedule holds the rate of the next one, which may never be.
        self.rate = max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Together with the scores of the task, and so on their axis.
        if math.isfinite(self.rate):
            pl_module.log(RATE, self.rate)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        logged = trainer.callback_metrics.items()
        values = {k: float(v) for k, v in logged if "/" in k and k != RATE}
        now = time.perf_counter()
        row = {"epoch": trainer.current_epoch, "lr": self.rate, **values,
               "seconds": round(now - self.started, 3)}  # fmt: skip
        self.started = now
        self.rows.append(row)
        if trainer.is_global_zero:
            files.write_text(self.path, pd.DataFrame(self.rows).to_csv(index=False))
