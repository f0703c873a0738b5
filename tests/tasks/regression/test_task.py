from functools import partial

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from medvision import losses
from medvision.tasks.regression.target import Number
from medvision.tasks.regression.task import Regressor, name_outputs


def batches(rows=64, size=16, seed=0):
    """Images as bright as their number says; of some rows it is not known."""
    draw = torch.Generator().manual_seed(seed)
    value = 100 + 20 * torch.rand(rows, 2, generator=draw)
    image = (value.mean(dim=1) - 100)[:, None, None, None] / 20
    image = image + 0.02 * torch.rand(rows, 1, 8, 8, generator=draw)
    told = value.mean(dim=1, keepdim=True).expand(-1, 2).clone()
    told[::5, 0] = torch.nan
    parts = torch.arange(rows).split(size)
    return [{"image": image[part], "value": told[part], "index": part} for part in parts]


class Brightness(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(1, num_classes)

    def forward(self, image):
        return self.head(image.mean(dim=(2, 3)))


class Rows:
    """What a task is told of a run: its samples."""

    def __init__(self, value):
        self.value = value

    def of(self, part):
        return np.arange(len(self.value))

    def truth(self, index):
        return {"value": self.value[index]}

    def patients(self, index):
        return [f"p{k}" for k in index]


class Context:
    def __init__(self, made, given):
        self.config = OmegaConf.create({"data": {"batch_size": 2}})
        self.target = Number(["a", "b"])
        self.rows = Rows(torch.cat([batch["value"] for batch in given]).numpy())
        image = torch.cat([batch["image"] for batch in given])
        self.answer = lambda index: {"logits": made.net(image[index]).detach().numpy()}


LOSSES = {
    "absolute_error": (losses.absolute_error, 1), "squared_error": (losses.squared_error, 1),
    "gaussian": (losses.gaussian, 2), "quantile": (losses.quantile, 3),
    "torch": (nn.HuberLoss(), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_says_what_a_net_answers_and_a_net_learns_from_what_is_known(name, tmp_path):
    loss, outputs = LOSSES[name]
    assert len(name_outputs(loss)) == outputs
    config = OmegaConf.create({"loss": {"_target_": "torch.nn.HuberLoss"} if name == "torch" else {
        "_target_": f"medvision.losses.{name}", "_partial_": True}})  # fmt: skip
    assert Regressor.net_facts(Number(["a", "b"]), config) == {"num_classes": 2 * outputs}
    torch.manual_seed(0)
    made = Regressor(Brightness(2 * outputs), targets=2, loss=loss,
                     optimizer=partial(torch.optim.Adam, lr=0.2))  # fmt: skip
    given = batches()
    context = Context(made, given)
    made.prepare(context)
    assert made.center.tolist() == pytest.approx(np.nanmean(context.rows.value, 0).tolist())
    assert made.spread.tolist() == pytest.approx(
        np.nanstd(context.rows.value, 0).tolist(), rel=1e-5
    )
    trainer = Trainer(max_epochs=15, accelerator="cpu", logger=False, enable_progress_bar=False,
                      enable_model_summary=False, default_root_dir=tmp_path,
                      enable_checkpointing=False, num_sanity_val_steps=0)  # fmt: skip
    trainer.fit(made, *(DataLoader(part, batch_size=None) for part in (given, batches(seed=1))))
    logged = {key: float(value) for key, value in trainer.callback_metrics.items()}
    assert logged["val/r2"] > 0.95
    assert logged["val/mae"] < 0.2  # of two targets: in standard deviations
    decision = made.eval().finish(context)
    assert decision["outputs"] == [*name_outputs(loss)]
    evaluator = Regressor.evaluator(context.target.plain(), decision)
    said = evaluator.bound(context.answer(np.arange(64)))
    known = ~np.isnan(context.rows.value)
    inside = (said["low"] <= context.rows.value) & (context.rows.value <= said["high"])
    assert 0.88 <= inside[known].mean() <= 0.97
    assert np.abs(said["pred"] - context.rows.value)[known].mean() < 1


def test_scores_are_in_the_users_units():
    made = Regressor(Brightness(2), targets=1)
    made.center.fill_(50)
    made.spread.fill_(10)
    answer = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    batch = {"value": torch.tensor([[60.0], [45.0]])}
    kept = made.keep({"logits": answer}, batch)
    assert kept["pred"].tolist() == [[60], [40]]
    assert made.score(kept)["mae"] == 2.5
    expected = losses.gaussian(answer[:, :1], answer[:, 1:], torch.tensor([[1.0], [-0.5]]))
    torch.testing.assert_close(made.loss(answer, batch), expected)


def test_a_level_reaches_the_loss_that_takes_one():
    made = Regressor(Brightness(3), loss=losses.quantile, level=0.5)
    answer, value = torch.randn(6, 3), torch.randn(6, 1)
    expected = losses.quantile(*answer.T[:, :, None], value, level=0.5)
    torch.testing.assert_close(made.loss(answer, {"value": value}), expected)


def test_a_number_that_never_varies_keeps_its_unit():
    made = Regressor(Brightness(4), targets=2)
    given = batches()
    for batch in given:
        batch["value"][:, 1] = 7.0
    made.prepare(Context(made, given))
    assert made.spread[1] == 1
    assert made.center[1] == 7
