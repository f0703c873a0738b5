"""What a step tells, every few steps; and where TensorBoard's curves of an epoch end."""

import time
from collections.abc import Mapping
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from medvision.callbacks.event_files import EventFiles

_LATEST = 30  # seconds that points wait in a long epoch


class Curves(Callback):
    """Logs losses as `train/…_step` over batches, each `trainer.log_every_n_steps` of them.

    It is the first callback: what others log of an epoch then stands behind the mark of the one
    before. Points are written together, since to read one the host waits for the device.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[int, dict[str, Tensor]]] = []
        self.written = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.fit_loop.total_batch_idx + 1
        every: int = cast(Any, trainer).log_every_n_steps
        if not every or step % every or not isinstance(outputs, Mapping):
            return
        self.waiting.append((step, _pick_numbers(outputs, trainer.accumulate_grad_batches)))
        if time.monotonic() - self.written > _LATEST:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "validate":  # of what was fitted without steps
            self._mark(trainer)

    def _write(self, trainer: Trainer) -> None:
        waiting, self.waiting = self.waiting, []
        for step, values in waiting:
            numbers = {f"train/{name}_step": float(value) for name, value in values.items()}
            for logger in trainer.loggers:
                logger.log_metrics(numbers, step)
        self.written = time.monotonic()

    @staticmethod
    def _mark(trainer: Trainer) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, EventFiles):
                logger.mark(trainer.current_epoch)


def _pick_numbers(outputs: Mapping[str, Any], accumulated: int) -> dict[str, Tensor]:
    """Return the single numbers of a step; Lightning shares its loss out over those of a batch."""
    numbers = {name: value.detach().as_subclass(Tensor) for name, value in outputs.items()
               if isinstance(value, Tensor) and value.numel() == 1}  # fmt: skip
    return {n: value * accumulated if n == "loss" else value for n, value in numbers.items()}
