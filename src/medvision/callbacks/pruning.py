"""Ends a trial of a search that falls behind the others."""

from collections.abc import Callable

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
        epoch, value = trainer.current_epoch, trainer.callback_metrics.get(self.monitor)
        if value is None:
            return
        self.report(float(value), epoch)
        ends = trainer.should_stop or epoch + 1 == trainer.max_epochs
        if not ends and self.should_prune():
            raise Stopped(
                f"pruned after epoch {epoch}: {self.monitor} {float(value):.4f} falls behind "
                "the other trials"
            )
