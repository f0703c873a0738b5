from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from medvision.callbacks.pruning import Prune
from medvision.errors import Stopped


def epoch(number, value=0.5, stops=False, last=9):
    """A trainer at the end of an epoch."""
    metrics = {} if value is None else {"val/auroc": torch.tensor(value)}
    return SimpleNamespace(
        current_epoch=number, callback_metrics=metrics, should_stop=stops, max_epochs=last + 1
    )


def test_every_epoch_is_reported_and_nothing_ends_unasked():
    told = []
    prune = Prune("val/auroc", lambda *pair: told.append(pair), lambda: False)
    for number, value in enumerate([0.5, 0.25, None, 0.75]):
        prune.on_train_epoch_end(epoch(number, value), None)
    assert told == [(0.5, 0), (0.25, 1), (0.75, 3)]


def test_what_falls_behind_is_stopped_with_the_reason():
    told = []
    prune = Prune("val/auroc", lambda *pair: told.append(pair), lambda: len(told) == 2)
    prune.on_train_epoch_end(epoch(0), None)
    with pytest.raises(Stopped, match=r"^pruned after epoch 1: val/auroc 0\.2500 falls behind"):
        prune.on_train_epoch_end(epoch(1, 0.25), None)


@pytest.mark.parametrize("end", [epoch(9), epoch(3, stops=True)])
def test_what_is_trained_to_its_end_is_kept(end):
    told = []
    prune = Prune("val/auroc", lambda *pair: told.append(pair), lambda: True)
    prune.on_train_epoch_end(end, None)
    assert told == [(0.5, end.current_epoch)]


class Learner(LightningModule):
    """Logs as validation does: before the epoch of training ends."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val/auroc", 0.75)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_checkpoint_of_its_last_epoch_is_written_first(tmp_path):
    told = []
    last = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True,
                           enable_version_counter=False)  # fmt: skip
    prune = Prune("val/auroc", lambda *pair: told.append(pair), lambda: len(told) == 2)
    trainer = Trainer(
        max_epochs=5, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, callbacks=[last, prune],
    )  # fmt: skip
    loader = DataLoader(torch.rand(4, 2), batch_size=2)
    with pytest.raises(Stopped):
        trainer.fit(Learner(), loader, loader)
    assert told == [(0.75, 0), (0.75, 1)]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 1


def test_a_trial_killed_before_it_was_stopped_is_stopped_when_it_resumes(tmp_path):
    """The last epoch is in the checkpoint, and may not have been reported."""
    told = []

    def resume(limit):
        last = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True,
                               enable_version_counter=False)  # fmt: skip
        prune = Prune("val/auroc", lambda *pair: told.append(pair), lambda: len(told) == limit)
        loader = DataLoader(torch.rand(4, 2), batch_size=2)
        path = tmp_path / "last.ckpt"
        Trainer(
            max_epochs=5, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0, callbacks=[last, prune],
        ).fit(Learner(), loader, loader, ckpt_path=path if path.exists() else None,
              weights_only=True)  # fmt: skip

    with pytest.raises(Stopped):
        resume(2)
    told.pop()  # as if it had been killed between the checkpoint and the report
    with pytest.raises(Stopped, match="pruned after epoch 1"):
        resume(2)
    assert told == [(0.75, 0), (0.75, 1)]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 1
