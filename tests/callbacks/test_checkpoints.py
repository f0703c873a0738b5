import errno
import io
import time
from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader

from medvision.callbacks.checkpoints import CheckpointFile, Checkpoints, CurvesFirst
from medvision.errors import MedvisionError


class Learner(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        loss = self.net(batch).square().mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/auroc", float(self.current_epoch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)


def fit(folder, epochs=2, more=(), resume=None, logger=False):
    data = DataLoader(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)), 4)
    best = ModelCheckpoint(folder, "best", "val/auroc", mode="max", enable_version_counter=False)
    last = ModelCheckpoint(
        folder, "last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    torch.manual_seed(0)
    task = Learner()
    Trainer(
        max_epochs=epochs, accelerator="cpu", logger=logger, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[CurvesFirst(), *more, best, last],
        plugins=[Checkpoints()],
    ).fit(task, data, data, ckpt_path=resume, weights_only=True)  # fmt: skip
    return task


def load(path):
    return torch.load(path, weights_only=True)


def test_the_best_keeps_weights_alone_and_the_last_resumes(tmp_path):
    whole = fit(tmp_path / "whole", 3)
    fit(tmp_path / "torn", 2)
    best, last = (load(tmp_path / "torn" / f"{name}.ckpt") for name in ("best", "last"))
    assert set(best) == {"epoch", "global_step", "pytorch-lightning_version", "state_dict"}
    assert best["epoch"] == last["epoch"] == 1
    torch.testing.assert_close(best["state_dict"], last["state_dict"], atol=0, rtol=0)
    assert last["optimizer_states"]
    resumed = fit(tmp_path / "torn", 3, resume=str(tmp_path / "torn" / "last.ckpt"))
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), atol=0, rtol=0)
    assert {path.name for path in (tmp_path / "torn").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_the_best_is_the_average_where_weights_are_averaged(tmp_path):
    task = fit(tmp_path, 1, [EMAWeightAveraging(decay=0.5)])
    best, last = (load(tmp_path / f"{name}.ckpt") for name in ("best", "last"))
    assert "current_model_state" not in best
    torch.testing.assert_close(best["state_dict"], last["state_dict"], atol=0, rtol=0)
    assert not torch.equal(
        best["state_dict"]["net.weight"], last["current_model_state"]["net.weight"]
    )
    torch.testing.assert_close(task.state_dict(), best["state_dict"])  # as Lightning leaves it


class Points(CSVLogger):
    """Tells whether the points of an epoch come before its checkpoint."""

    def __init__(self, folder):
        super().__init__(folder, name="points")
        self.seen = []

    def log_metrics(self, metrics, step=None):
        if "train/loss" in metrics:
            time.sleep(0.1)  # it is written in the background
            path = Path(self.save_dir, "last.ckpt")
            self.seen.append(load(path)["epoch"] if path.exists() else None)


def test_the_points_of_an_epoch_are_logged_before_its_checkpoint(tmp_path):
    """Else a run killed in between would go on behind an epoch whose points nobody has."""
    points = Points(tmp_path)
    fit(tmp_path, 3, logger=points)
    assert [seen is None or seen < epoch for epoch, seen in enumerate(points.seen)] == [True] * 3
    assert load(tmp_path / "last.ckpt")["epoch"] == 2


def test_a_file_shows_the_weights_of_its_moment(tmp_path, monkeypatch):
    """The copy is taken before training goes on, however late the file is written."""
    late, written = torch.save, []

    def save(content, stream):
        written.append(content["state_dict"]["net.weight"].clone())
        late(content, stream)

    monkeypatch.setattr(torch, "save", save)
    plugin = Checkpoints()
    weight = torch.zeros(1, 2)
    plugin.save_checkpoint({"state_dict": {"net.weight": weight}}, tmp_path / "last.ckpt")
    weight += 1
    plugin.teardown()
    assert torch.equal(load(tmp_path / "last.ckpt")["state_dict"]["net.weight"], torch.zeros(1, 2))
    assert len(written) == 1


def test_a_full_disk_is_told_and_keeps_the_file_before(tmp_path, monkeypatch):
    fit(tmp_path, 1)
    before = (tmp_path / "last.ckpt").read_bytes()

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", refuse)
    with pytest.raises(MedvisionError, match=r"cannot write .*\.ckpt: the disk is full; free some"):
        fit(tmp_path, 3)
    assert (tmp_path / "last.ckpt").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_checkpoint_names_no_folder_and_finds_its_own(tmp_path):
    fit(tmp_path / "here", 2)
    assert str(tmp_path).encode() not in (tmp_path / "here" / "last.ckpt").read_bytes()
    (tmp_path / "here").rename(tmp_path / "there")
    loaded = CheckpointFile().load_checkpoint(tmp_path / "there" / "last.ckpt", weights_only=True)
    states = [state for state in loaded["callbacks"].values() if "best_model_path" in state]
    assert {state["dirpath"] for state in states} == {str(tmp_path / "there")}
    (best,) = (state for state in states if state["monitor"])
    assert best["best_model_path"] == str(tmp_path / "there" / "best.ckpt")
    assert list(best["best_k_models"]) == [best["best_model_path"]]
    assert float(best["best_model_score"]) == 1.0


def test_a_disk_that_fills_while_torch_writes_is_told(tmp_path, monkeypatch):
    """Torch tells it as a broken archive where a large write fails and the last small one fits."""

    class Full(io.FileIO):
        def write(self, data):
            if memoryview(data).nbytes > 9_999:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    checkpoint, file = {"state_dict": {"net.weight": torch.zeros(99_999)}}, CheckpointFile()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode: Full(path, mode))
        with pytest.raises(MedvisionError, match=r"best\.ckpt: the disk is full") as told:
            file.save_checkpoint(checkpoint, tmp_path / "best.ckpt")
    assert isinstance(told.value.__cause__, RuntimeError)
    file.save_checkpoint(checkpoint, tmp_path / "last.ckpt")  # it would tell of the best
    assert not [*tmp_path.iterdir()]
