import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from medvision.callbacks.replay import Replay


class Drawing(LightningModule):
    """Keeps one random number of each step."""

    def __init__(self):
        super().__init__()
        self.weight, self.drawn = torch.nn.Parameter(torch.zeros(1)), []

    def training_step(self, batch, batch_idx):
        self.drawn.append(float(torch.rand(1)))
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def draw(folder, seed=0, epochs=2, resume=None, **options):
    made = Drawing()
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True,
                           enable_version_counter=False)  # fmt: skip
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, callbacks=[Replay(seed), last],
        **options,
    )  # fmt: skip
    trainer.fit(made, DataLoader(range(4), batch_size=1), ckpt_path=resume, weights_only=True)
    return made.drawn


def test_a_steps_randomness_depends_on_seed_and_step_alone(tmp_path):
    torch.manual_seed(1)
    first = draw(tmp_path)
    torch.manual_seed(2)
    assert draw(tmp_path) == first
    assert len(set(first)) == 8
    assert not set(draw(tmp_path, seed=1)) & set(first)


def test_a_resumed_run_goes_on_where_it_would_have_been(tmp_path):
    whole = draw(tmp_path / "whole", epochs=3)
    draw(tmp_path / "torn", epochs=1)
    torch.rand(17)
    resumed = draw(tmp_path / "torn", epochs=3, resume=str(tmp_path / "torn" / "last.ckpt"))
    assert resumed == whole[4:]


@pytest.mark.parametrize("accumulated", [1, 2, 4])
def test_batches_that_accumulate_into_one_step_differ(tmp_path, accumulated):
    drawn = draw(tmp_path, accumulate_grad_batches=accumulated)
    assert len(set(drawn)) == 8
    assert drawn == draw(tmp_path)  # a batch draws the same, however many make a step
