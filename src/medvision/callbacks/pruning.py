"""Ends a trial of a search that falls behind the others."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from medvision.errors import Stopped


class Prune(Checkpoint):
    """Reports the monitor of every epoch, and stops where it is told that this suffices.

    A `Checkpoint` because Lightning calls those last, in their order: behind the one that writes
    `last.ckpt`, so that what is stopped could be resumed.

    Args:
        monitor: logged key, such as `val/auroc`.
        report: is told the value and its epoch, counted from 0.
        should_prune: asked while another epoch is to come; what is trained to its end stays.
    """

    def __init__(
        self,
        monitor: str,
        report: Callable[[float, int], None],
        should_prune: Callable[[], bool],
    ) -> None:
        self.monitor = monitor
        self.report = report
        self.should_prune = should_prune

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report(self._read(trainer))

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["reported"] = self._read(trainer)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Report the last epoch, where a trial was killed before it had, or could be stopped."""
        if "reported" in checkpoint:
            self._report(checkpoint["reported"])

    def _read(self, trainer: Trainer) -> dict[str, Any]:
        """Return an epoch, its value, and whether no other is to come."""
        epoch, value = trainer.current_epoch, trainer.callback_metrics.get(self.monitor)
        ends = trainer.should_stop or epoch + 1 == trainer.max_epochs
        return {"epoch": epoch, "value": None if value is None else float(value), "ends": ends}

    def _report(self, told: dict[str, Any]) -> None:
        epoch, value = told["epoch"], told["value"]
        if value is None:
            return
        self.report(value, epoch)
        if not told["ends"] and self.should_prune():
            raise Stopped(
                f"pruned after epoch {epoch}: {self.monitor} {value:.4f} falls behind "
                "the other trials"
            )
