import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from medvision.callbacks.curves import Curves
from medvision.callbacks.event_files import EventFiles, cut_events
from medvision.callbacks.history import History


class Learner(LightningModule):
    """Logs over epochs, as tasks do; its loss is the number of the step."""

    def __init__(self, stop_at=None):
        super().__init__()
        self.net, self.stop_at = torch.nn.Linear(2, 1), stop_at

    def training_step(self, batch, batch_idx):
        step = self.trainer.fit_loop.total_batch_idx
        if step == self.stop_at:
            raise RuntimeError("killed")
        return 0 * self.net(batch).sum() + float(step)

    def validation_step(self, batch, batch_idx):
        pass

    def on_validation_epoch_end(self):
        self.log_dict({"val/loss": 1.0, "step": float(self.current_epoch)})

    def on_train_epoch_end(self):
        self.log_dict({"train/loss": 1.0, "step": float(self.current_epoch)})

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.25)


class Theirs(Callback):
    """Logs by step, as callbacks of Lightning do."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.logger.log_metrics({"theirs": float(trainer.global_step)}, trainer.global_step)


def fit(folder, learner, resume=None, accumulate=1):
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True,
                           enable_version_counter=False)  # fmt: skip
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", logger=EventFiles(folder), enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, num_sanity_val_steps=0,
        log_every_n_steps=2, accumulate_grad_batches=accumulate,
        callbacks=[Curves(), Theirs(), History(folder / "history.csv"), last],
    )  # fmt: skip
    loader = DataLoader(torch.rand(12, 2), batch_size=2)
    trainer.fit(learner, loader, loader, ckpt_path=resume, weights_only=True)


def read_points(folder):
    board = EventAccumulator(str(folder), {"scalars": 0})
    board.Reload()
    return {tag: sorted((e.step, e.value) for e in board.Scalars(tag))
            for tag in board.Tags()["scalars"]}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The points of three epochs of six steps."""
    folder = tmp_path_factory.mktemp("whole")
    fit(folder, Learner())
    return read_points(folder)


def test_the_loss_of_a_step_stands_over_steps_and_the_rate_over_epochs(whole):
    assert whole["train/loss_step"] == [(step, step - 1) for step in range(2, 19, 2)]
    assert whole["train/lr"] == [(0, 0.25), (1, 0.25), (2, 0.25)]
    assert whole["val/loss"] == whole["train/loss"] == [(0, 1), (1, 1), (2, 1)]


def test_a_callback_that_logs_by_step_loses_no_point(whole, tmp_path):
    assert [step for step, _ in whole["theirs"]] == [*range(1, 19)]
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path, Learner(stop_at=9))
    assert read_points(tmp_path)["theirs"][-1] == (9, 9)
    cut_events(tmp_path, 1)
    fit(tmp_path, Learner(), resume=str(tmp_path / "last.ckpt"))
    assert read_points(tmp_path) == whole


def test_scores_of_what_was_fitted_without_steps_stay(tmp_path):
    loader = DataLoader(torch.rand(4, 2), batch_size=2)
    trainer = Trainer(
        accelerator="cpu", logger=EventFiles(tmp_path), enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Curves()],
    )  # fmt: skip
    trainer.validate(Learner(), loader, verbose=False)
    later = EventFiles(tmp_path)
    later.log_metrics({"later": 1.0}, 0)
    later.finalize("success")
    cut_events(tmp_path)
    assert read_points(tmp_path) == {"val/loss": [(0, 1)]}


def test_a_loss_that_is_shared_out_over_batches_is_told_as_it_is(tmp_path):
    fit(tmp_path, Learner(), accumulate=3)
    assert read_points(tmp_path)["train/loss_step"][:2] == [(2, 1), (4, 3)]
