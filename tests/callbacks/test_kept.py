import math

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from medvision.callbacks.kept import BestCheckpoint, EarlyStopping


class Told(LightningModule):
    """Logs what it is given, an epoch after the other."""

    ties = {"val/loss": "min"}  # noqa: RUF012 -- read only

    def __init__(self, keeps_last=False, **scores):
        super().__init__()
        self.keeps_last = keeps_last
        self.net = torch.nn.Linear(2, 1)
        self.scores = scores

    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        for name, values in self.scores.items():
            self.log(f"val/{name}", values[self.current_epoch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, task, patience=2, epochs=None, resume=None):
    """Return the epochs that were trained, and the one that was kept."""
    best = BestCheckpoint(folder, "val/auroc", "max")
    last = ModelCheckpoint(
        folder, "last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    stop = EarlyStopping("val/auroc", mode="max", patience=patience)
    trainer = Trainer(
        max_epochs=epochs or len(task.scores["auroc"]), accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[stop, best, last],
    )  # fmt: skip
    data = DataLoader(torch.randn(4, 2), 2)
    trainer.fit(task, data, data, ckpt_path=resume, weights_only=True)
    kept = torch.load(folder / "best.ckpt", weights_only=True)["epoch"]
    return trainer.current_epoch, kept, float(best.best_model_score)


@pytest.mark.parametrize("stuck", [1.0, 0.0])
def test_where_the_monitor_is_stuck_the_loss_decides_and_renews_patience(tmp_path, stuck):
    """Lightning's own keep epoch 0 and stop after two more."""
    task = Told(auroc=[stuck] * 9, loss=[0.69, 0.6, 0.65, 0.5, 0.3, 0.4, 0.31, 0.32, 0.33])
    assert fit(tmp_path, task) == (7, 4, stuck)


def test_a_better_monitor_wins_whatever_the_loss(tmp_path):
    task = Told(auroc=[0.8, 0.9, 0.8, 0.8, 0.8], loss=[0.5, 0.9, 0.4, 0.3, 0.2])
    assert fit(tmp_path, task) == (4, 1, pytest.approx(0.9))


def test_a_resumed_training_goes_on_comparing(tmp_path):
    told = {"auroc": [1.0] * 8, "loss": [0.5, 0.2, 0.4, 0.3, 0.25, 0.1, 0.4, 0.4]}
    assert fit(tmp_path, Told(**told), patience=3, epochs=3)[1] == 1
    resumed = fit(tmp_path, Told(**told), patience=3, resume=str(tmp_path / "last.ckpt"))
    assert resumed == (5, 1, 1.0)


def test_what_is_not_a_number_stops_and_is_no_score(tmp_path):
    task = Told(auroc=[math.nan] * 4, loss=[0.5, 0.4, 0.3, 0.2])
    trained, _, score = fit(tmp_path, task)
    assert trained == 1
    assert not math.isfinite(score)


def test_where_val_cannot_tell_all_epochs_are_trained_and_the_last_is_kept(tmp_path):
    """Of fourteen patients the best epoch was one that called all of them one class."""
    told = {"auroc": [0.9, *[0.5] * 7], "loss": [0.1, *[0.9] * 7]}
    assert fit(tmp_path, Told(True, **told)) == (8, 7, 0.5)
    short = tmp_path / "short"
    assert fit(short, Told(True, **told), epochs=2)[1] == 1
    assert fit(short, Told(True, **told), resume=str(short / "last.ckpt")) == (8, 7, 0.5)


def test_the_last_epoch_with_a_score_is_kept(tmp_path):
    task = Told(True, auroc=[0.5, 0.6, 0.4, math.nan, math.nan], loss=[0.1] * 5)
    assert fit(tmp_path, task) == (4, 2, pytest.approx(0.4))
