import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from medvision.callbacks.averaging import Averaging, Mean


class Small(LightningModule):
    """A net with weights, statistics and a counter."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, averaging, epochs=2, resume=None):
    made = Small()
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True,
                           enable_version_counter=False)  # fmt: skip
    data = torch.rand(16, 3, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(data, batch_size=4)
    Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=[averaging, last],
    ).fit(made, loader, loader, ckpt_path=resume, weights_only=True)  # fmt: skip
    return torch.load(folder / "last.ckpt", weights_only=True), made.state_dict()


@pytest.mark.parametrize(
    "options", [{}, {"update_every_n_steps": 3}, {"update_starting_at_step": 5}]
)
def test_it_is_lightnings_mean(tmp_path, options):
    theirs, _ = fit(tmp_path / "theirs", EMAWeightAveraging(decay=0.7, **options))
    ours, left = fit(tmp_path / "ours", Averaging(decay=0.7, **options))
    assert ours["averaging_state"] == theirs["averaging_state"]
    assert set(ours["state_dict"]) == set(theirs["state_dict"])
    for name, value in ours["state_dict"].items():
        if value.is_floating_point():  # of a counter there is no mean
            torch.testing.assert_close(value, theirs["state_dict"][name])
        assert torch.equal(value, left[name])  # and the net is left with it


def test_a_resumed_mean_is_an_uninterrupted_one(tmp_path):
    whole, _ = fit(tmp_path / "whole", Averaging(decay=0.7), epochs=3)
    fit(tmp_path / "torn", Averaging(decay=0.7), epochs=1)
    rest, _ = fit(tmp_path / "torn", Averaging(decay=0.7), 3, str(tmp_path / "torn" / "last.ckpt"))
    for name, value in whole["state_dict"].items():
        assert torch.equal(rest["state_dict"][name], value), name


def test_the_mean_follows_the_net_to_its_device():
    """Lightning moves the net after callbacks are set up; `meta` stands for a GPU."""
    averaging, made = Averaging(), Small()
    averaging.setup(None, made, "fit")
    averaging.on_fit_start(None, made.to("meta"))
    assert {t.device.type for t in averaging._average_model.state_dict().values()} == {"meta"}


def test_other_stages_have_no_mean():
    averaging = Averaging()
    averaging.setup(None, Small(), "validate")
    averaging.on_fit_start(None, Small())
    assert averaging._average_model is None


def test_the_first_weights_are_taken_as_they_are():
    net = nn.Linear(2, 2)
    mean = Mean(net, 0.9)
    with torch.no_grad():
        net.weight.add_(1)
    mean.update_parameters(net)
    assert torch.equal(mean.module.weight, net.weight)
