"""Notes what a training spends: a callback for `+callbacks.clock._target_=clock.Clock`."""

import json
import time
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer


class Clock(Callback):
    """Appends moments (of the system's clock, which other processes share) to a file of JSON lines.

    An epoch ends where the next begins, so that validation, checkpoints and logs are in it.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def note(self, moment: str) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps([moment, time.time()]) + "\n")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.note("epoch")

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.fit_loop.total_batch_idx == 0:
            self.note("first step")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.note("validation")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.note("epoch")
