"""One datamodule in any loop: what a Trainer's hooks serve, a plain loop gets from a loader."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from pytorch_lightning import LightningModule, Trainer

import medvision.files as files
from medvision.augment.draw import Augment
from medvision.augment.sequence import SequenceAugment
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.store.reader import Reader
from medvision.nets.convnet import ConvNet
from medvision.runs import Run
from medvision.tasks.classification.task import Classifier

EPOCHS = 3
SETTINGS = {
    "image": {"unit": "image", "balance": True},
    "series": {"unit": "series", "sequence": SequenceAugment(drop=0.4, reverse=True)},
}  # fmt: skip


@pytest.fixture(scope="module")
def extra(places, medvision) -> Path:
    """Rows of other patients, which only train."""
    done = medvision("prepare", "source=phantom", f"output={places / 'extra'}", "patients=5",
                     "slices=4", "size=32", "seed=7", "dataset=more")  # fmt: skip
    assert done.status == 0, done.err
    return places / "extra" / "manifest.csv"


def module(manifest, **options):
    augment = Augment(rotate_degrees=20.0, shift_x=0.2, contrast=0.3, noise=0.05)
    options = {"reader": Reader(size=(32, 32), window=(-100, 200)), "batch_size": 8,
               "augment": augment, "workers": 1, "seed": 3} | options  # fmt: skip
    return ImageDataModule(manifest=str(manifest), **options)


class Listener(LightningModule):
    """Keeps the batches that a Trainer hands over, by epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.train_batches = [[] for _ in range(EPOCHS)]
        self.val_batches = [[] for _ in range(EPOCHS)]
        self.fails = False

    def training_step(self, batch, batch_idx):
        self.train_batches[self.current_epoch].append(batch)
        if self.fails:
            raise RuntimeError("the user's own")
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.val_batches[self.current_epoch].append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(**options):
    return Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, **options,
    )  # fmt: skip


def assert_same(ones, others):
    for one, other in zip(ones, others, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].dtype == other[name].dtype
            assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("unit", SETTINGS)
@pytest.mark.parametrize("backend", ["host", "device"])
def test_a_plain_loop_gets_the_batches_of_a_trainer_epoch_by_epoch(phantom, extra, unit, backend):
    options = SETTINGS[unit] | {"backend": backend, "extra": [str(extra)]}
    listener = Listener()
    trainer().fit(listener, module(phantom, **options))
    data = module(phantom, **options)
    loader = data.train_dataloader()
    for epoch in range(EPOCHS):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert_same(batches, listener.train_batches[epoch])
        assert_same(data.val_dataloader(), listener.val_batches[epoch])
    loader.sampler.set_epoch(1)
    assert_same(loader, listener.train_batches[1])
    first = next(iter(data.train_dataloader()))
    assert_same([first], listener.train_batches[0][:1])
    held = data.ready.table.loc[torch.cat([b["index"] for b in batches]).numpy(), "dataset"]
    assert (held == "more").any()


@pytest.mark.parametrize("unit", SETTINGS)
def test_fabric_and_a_trainer_without_the_module_get_them_too(phantom, unit):
    listener, other = Listener(), Listener()
    trainer().fit(listener, module(phantom, **SETTINGS[unit]))
    data = module(phantom, **SETTINGS[unit])
    fabric = Fabric(accelerator="cpu", devices=1)
    served = fabric.setup_dataloaders(data.train_dataloader())
    for epoch in range(EPOCHS):
        assert_same(served, listener.train_batches[epoch])
    trainer().fit(other, data.train_dataloader(), data.val_dataloader())
    for epoch in range(EPOCHS):
        assert_same(other.train_batches[epoch], listener.train_batches[epoch])
        assert_same(other.val_batches[epoch], listener.val_batches[epoch])


@pytest.mark.parametrize("fails", [False, True])
def test_a_loop_of_ones_own_may_follow_a_trainers(phantom, fails):
    data, listener = module(phantom), Listener()
    listener.fails = fails
    if fails:
        with pytest.raises(RuntimeError, match="the user's own"):
            trainer().fit(listener, data)
    else:
        trainer().fit(listener, data)
    assert_same([next(iter(data.train_dataloader()))], listener.train_batches[0][:1])


def test_processes_of_ones_own_share_an_epoch(phantom, monkeypatch):
    alone = module(phantom, augment=None)
    expected = [batch["index"].tolist() for batch in alone.train_dataloader()]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        shares.append([batch["index"].tolist() for batch in alone.train_dataloader()])
    assert [b for pair in zip(*shares, strict=True) for b in pair] == expected[: 2 * len(shares[0])]


@pytest.fixture
def unlabelled(phantom, tmp_path) -> Path:
    """The phantom, split, with a test row that nobody labelled."""
    folder = shutil.copytree(phantom.parent, tmp_path / "own")
    table = module(phantom).ready.table
    rows = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    rows["split"] = table["split"].to_numpy()
    rows.loc[rows.index[rows["split"] == "test"][2], "label"] = ""
    rows.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def test_the_test_part_is_served_in_order_and_that_is_said(unlabelled, capsys):
    data = module(unlabelled)
    data.setup()
    capsys.readouterr()
    rows = data.ready.rows("test")
    known, whole = data.test_dataloader(), data.predict_dataloader()
    said = f"note: the test part is opened ({len(rows)} samples); no run folder records it\n"
    assert capsys.readouterr().out == 2 * said
    assert torch.cat([batch["index"] for batch in whole]).tolist() == rows.tolist()
    index = torch.cat([batch["index"] for batch in known])
    assert index.tolist() == np.delete(rows, 2).tolist()
    plain = torch.cat([batch["image"] for batch in data.ready.batches(index.numpy(), 500)])
    assert torch.equal(torch.cat([batch["image"] for batch in known]), plain)


def task():
    torch.manual_seed(0)
    return Classifier(ConvNet(2, 1, widths=(4, 8)))


def test_a_trainer_tests_and_predicts_and_says_that_nothing_records_it(
    unlabelled, tmp_path, capsys
):
    data, tool = module(unlabelled), trainer(default_root_dir=tmp_path / "elsewhere")
    (scores,) = tool.test(task(), data, verbose=False)
    assert 0 <= scores["test/auroc"] <= 1
    answers = tool.predict(task(), data)
    assert torch.cat([a["logits"] for a in answers]).shape == (len(data.ready.rows("test")), 2)
    assert capsys.readouterr().out.count("no run folder records it") == 2


@pytest.mark.parametrize("place", ["folder", "below", "checkpoint"])
def test_a_trainer_in_a_run_folder_has_the_opening_recorded(phantom, tmp_path, place, capsys):
    run, data = Run(tmp_path / "runs" / "mine" / "seed=0"), module(phantom)
    run.note(status="done")
    files.write_text(run.manifest, "path\n")
    root = {"folder": run.folder, "below": run.folder / "logs"}.get(place, tmp_path)
    tool, path = trainer(default_root_dir=root), None
    if place == "checkpoint":
        tool.fit(task(), data)
        path = run.folder / "checkpoints" / "best.ckpt"
        tool.save_checkpoint(path)
    tool.test(task(), data, ckpt_path=path, verbose=False)
    (opening,) = run.record["test_openings"]
    assert opening["model"] == (files.digest_file(path)[:16] if path else "in memory")
    assert "note: the test part" not in capsys.readouterr().out
