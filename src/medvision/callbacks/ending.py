"""That training has come to its end is written down, so that a resumed run does not go on."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class Ending(Callback):
    """Stays stopped where a run was killed after something had ended its training.

    Whoever stops early says so to the Trainer, whose word no checkpoint of Lightning's holds.
    """

    def __init__(self) -> None:
        self.stopped = False

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["stopped"] = trainer.should_stop

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.stopped = checkpoint.get("stopped", False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop |= self.stopped
