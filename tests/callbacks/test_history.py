from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from medvision.callbacks.history import History


def epoch(number, loss, rates=(0.1,), main=True):
    """A trainer at the end of an epoch."""
    return SimpleNamespace(
        current_epoch=number, is_global_zero=main,
        callback_metrics={"val/loss": torch.tensor(loss), "step": torch.tensor(1.0)},
        optimizers=[SimpleNamespace(param_groups=[{"lr": rate} for rate in rates])],
    )  # fmt: skip


def step_through(history, trainer):
    """An epoch of one step."""
    history.on_train_batch_start(trainer, None, None, 0)
    history.on_train_epoch_end(trainer, None)


def test_a_row_an_epoch_with_what_was_logged(tmp_path):
    history = History(tmp_path / "history.csv")
    history.on_train_start(epoch(0, 0.0), None)
    step_through(history, epoch(0, 0.5, rates=(0.1, 0.3)))
    step_through(history, epoch(1, 0.25))
    table = pd.read_csv(tmp_path / "history.csv")
    assert list(table) == ["epoch", "lr", "val/loss", "seconds"]
    assert table["epoch"].tolist() == [0, 1]
    assert table["lr"].tolist() == [0.3, 0.1]
    assert table["val/loss"].tolist() == [0.5, 0.25]


def test_only_the_first_process_writes(tmp_path):
    history = History(tmp_path / "history.csv")
    history.on_train_epoch_end(epoch(0, 0.5, main=False), None)
    assert not (tmp_path / "history.csv").exists()


def test_a_resumed_run_forgets_what_its_checkpoint_does_not_know(tmp_path):
    value = 0.1 + 0.2  # seventeen digits
    first = History(tmp_path / "history.csv")
    for number in range(4):
        first.on_train_epoch_end(epoch(number, value + number), None)
    resumed = History(tmp_path / "history.csv")
    resumed.on_train_start(epoch(2, 0.0), None)
    resumed.on_train_epoch_end(epoch(2, 9.0), None)
    table = pd.read_csv(tmp_path / "history.csv", dtype=str)
    assert table["epoch"].tolist() == ["0", "1", "2"]
    expected = [float(torch.tensor(value)), float(torch.tensor(value + 1)), 9.0]
    assert [float(cell) for cell in table["val/loss"]] == expected


class Learner(LightningModule):
    """Logs after its own hook what only a late callback can see."""

    def __init__(self, stop_after=None):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.stop_after = torch.nn.Linear(2, 1), stop_after

    def training_step(self, batch, batch_idx):
        if self.stop_after is not None and self.current_epoch > self.stop_after:
            raise RuntimeError("killed")
        return self.net(batch).square().mean()

    def on_train_epoch_end(self):
        self.log("train/weight", self.net.weight.sum())

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=8)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def fit(folder, learner, resume=None):
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True,
                           enable_version_counter=False)  # fmt: skip
    trainer = Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
        callbacks=[History(folder / "history.csv"), last],
    )  # fmt: skip
    torch.manual_seed(0)
    loader = DataLoader(torch.rand(6, 2), batch_size=3)
    trainer.fit(learner, loader, ckpt_path=resume, weights_only=True)


def test_killed_and_resumed_is_the_history_of_an_uninterrupted_run(tmp_path):
    fit(tmp_path / "whole", Learner())
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "torn", Learner(stop_after=1))
    with (tmp_path / "torn" / "history.csv").open("a") as stream:
        stream.write("2,0.1,77.0,1.0\n")  # written, but its checkpoint was not
    fit(tmp_path / "torn", Learner(), resume=str(tmp_path / "torn" / "last.ckpt"))
    whole, torn = (pd.read_csv(tmp_path / name / "history.csv") for name in ("whole", "torn"))
    assert torn["epoch"].tolist() == [0, 1, 2, 3]
    assert torn["train/weight"].tolist() == whole["train/weight"].tolist()
    assert whole["train/weight"].nunique() == 4
    # Two steps an epoch, eight in all: the rate of each epoch's last step, not of the next one.
    assert whole["lr"].tolist() == pytest.approx([0.0875, 0.0625, 0.0375, 0.0125])
    assert torn["lr"].tolist() == whole["lr"].tolist()
