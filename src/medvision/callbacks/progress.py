"""Progress for a person at a terminal, one plain line an epoch for a log."""

import time
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, Checkpoint, RichProgressBar


class EpochLines(Checkpoint):
    """Prints one line an epoch: losses and the monitor. Called, as checkpoints are, last."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        values = trainer.callback_metrics
        shown = [name for name in ("train/loss", "val/loss", self.monitor) if name in values]
        scores = "  ".join(f"{name} {float(values[name]):.4f}" for name in dict.fromkeys(shown))
        passed = time.perf_counter() - self.started
        if trainer.is_global_zero:
            epoch = f"epoch {trainer.current_epoch:>3} of 0–{(trainer.max_epochs or 0) - 1}"
            print(f"{epoch}  {scores}  {passed:.0f} s", flush=True)


class _Bar(RichProgressBar):
    """Lightning's own bar without `v_num`, the end of a name that all runs share."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        shown: dict[str, Any] = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        return shown


def choose_progress(monitor: str, bar: bool) -> list[Callback]:
    """Return the lines of every epoch, with a bar where one is wanted."""
    bars: list[Callback] = [_Bar(leave=False)] if bar else []
    return [*bars, EpochLines(monitor)]
