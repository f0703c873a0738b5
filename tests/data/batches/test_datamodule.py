import shutil
from itertools import product
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from medvision.augment.draw import Augment
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.batches.samples import as_image
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError

AUGMENT = Augment(rotate_degrees=20.0, shift_x=0.2, contrast=0.3, noise=0.05)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))


def plant(folder, labels, split, depth=np.uint8, seed=0):
    """An image a patient."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    names = [f"images/{n}.png" for n in range(len(labels))]
    for name in names:
        pixels = random.integers(0, np.iinfo(depth).max, (12, 14), dtype=depth)
        cv2.imwrite(str(folder / name), pixels)
    patients = [f"{folder.name}{n}" for n in range(len(labels))]
    table = {"path": names, "patient": patients, "label": labels, "split": split}
    pd.DataFrame(table).to_csv(folder / "manifest.csv", index=False)
    return str(folder / "manifest.csv")


SPLIT = ["train"] * 16 + ["val"] * 5 + ["test"] * 3
LABELS = ["a", "b", "a", "a"] * 6


@pytest.fixture
def manifest(tmp_path):
    return plant(tmp_path / "own", LABELS, SPLIT)


def module(manifest, stage="train", epoch=0, **options):
    """A datamodule with a trainer that is training (or not) in some epoch on a CPU."""
    options = {"reader": Reader(size=(10, 10)), "augment": AUGMENT, "batch_size": 4} | options
    data = ImageDataModule(manifest=manifest, **options)
    data.trainer = SimpleNamespace(
        training=stage == "train", current_epoch=epoch, global_rank=0, world_size=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip
    return data


def serve(data, part="train", epoch=0):
    """What Lightning does with a loader: sampler, hook, transfer, hook."""
    loader = data.train_dataloader() if part == "train" else data.val_dataloader()
    if part == "train":
        loader.sampler.set_epoch(epoch)
    for batch in loader:
        yield data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_batch_keeps_its_contract(tmp_path, depth):
    dtype = np.uint16 if depth == 16 else np.uint8
    data = module(plant(tmp_path / "own", LABELS, SPLIT, dtype),
                  reader=Reader(size=(10, 12), channels=3, depth=depth))  # fmt: skip
    batches = list(serve(data))
    assert [len(batch["index"]) for batch in batches] == [4, 4, 4, 4]
    for batch in batches:
        assert set(batch) == {"image", "label", "index"}
        assert batch["image"].dtype == torch.float32
        assert batch["image"].shape == (4, 3, 10, 12)
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        assert 0 <= float(batch["image"].min()) <= float(batch["image"].max()) <= 1
        assert batch["label"].dtype == torch.int64
        table = data.ready.table.loc[batch["index"].numpy()]
        assert data.ready.target.decode_labels(batch["label"].numpy()) == table["label"].tolist()
    rows = torch.cat([batch["index"] for batch in batches])
    assert sorted(rows.tolist()) == data.ready.rows("train").tolist()


@pytest.mark.parametrize("backend", ["host", "device"])
@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("depth", [8, 16])
def test_where_pixels_live_changes_no_bit(tmp_path, backend, part, depth):
    dtype = np.uint16 if depth == 16 else np.uint8
    own = plant(tmp_path / "own", LABELS, SPLIT, dtype)
    extra = plant(tmp_path / "more", ["a", "b"] * 3, ["train"] * 6, dtype, seed=1)
    served = []
    for residency, extras in product(("disk", "host", "device"), ([], [extra])):
        data = module(own, part, residency=residency, backend=backend, extra=extras,
                      reader=Reader(size=(10, 10), depth=depth))  # fmt: skip
        served.append((len(extras), list(serve(data, part))))
    for extras in (0, 1):
        first, *others = [batches for number, batches in served if number == extras]
        assert len(first) == (4 + extras if part == "train" else 1)
        for batches in others:
            for batch, same in zip(first, batches, strict=True):
                assert all(torch.equal(batch[key], same[key]) for key in batch)


@pytest.mark.parametrize("backend", ["host", "device"])
@pytest.mark.parametrize("residency", ["disk", "device"])
def test_only_training_is_augmented(manifest, backend, residency):
    options = {"backend": backend, "residency": residency}
    plain = {}
    for stage in ("train", "val"):
        data = module(manifest, stage, **options)
        for batch in serve(data):  # training rows, in training and outside of it
            stored = as_image(torch.from_numpy(data.ready.gather(batch["index"].numpy())))
            plain[stage] = torch.equal(batch["image"], stored)
    assert plain == {"train": False, "val": True}


@pytest.mark.parametrize("residency", ["disk", "device"])
def test_training_samples_are_served_unchanged(manifest, residency):
    data = module(manifest, residency=residency)
    numbers = [torch.tensor([5, 2, 2]), torch.tensor([9])]
    for index, batch in zip(numbers, data.serve_unchanged(numbers), strict=True):
        assert torch.equal(batch["index"], index)
        stored = as_image(torch.from_numpy(data.ready.gather(index.numpy())))
        assert torch.equal(batch["image"], stored)


@pytest.mark.parametrize("backend", ["host", "device"])
def test_an_epoch_is_drawn_anew_and_again_the_same(manifest, backend):
    def images(epoch, seed=0):
        data = module(manifest, epoch=epoch, backend=backend, seed=seed)
        batches = list(serve(data, epoch=0))
        order = torch.cat([b["index"] for b in batches]).argsort()
        return torch.cat([b["image"] for b in batches])[order]

    assert torch.equal(images(3), images(3))
    assert not torch.equal(images(3), images(4))
    assert not torch.equal(images(3), images(3, seed=1))


@pytest.mark.parametrize("backend", ["host", "device"])
def test_an_oversampled_row_is_augmented_anew(tmp_path, backend):
    labels = ["b"] + ["a"] * 15 + ["a", "b"] * 4
    data = module(plant(tmp_path / "own", labels, SPLIT), balance=True, backend=backend)
    batches = list(serve(data))
    index = torch.cat([batch["index"] for batch in batches])
    views = torch.cat([batch["image"] for batch in batches])[index == 0]
    assert len(views) > 3
    assert len({view.numpy().tobytes() for view in views}) == len(views)


def test_balance_draws_the_classes_about_equally(tmp_path):
    labels = ["a"] * 14 + ["b"] * 2 + ["a", "b"] * 4
    manifest = plant(tmp_path / "own", labels, SPLIT)
    data, counts = module(manifest, balance=True, augment=None), np.zeros(2)
    for epoch in range(30):
        for batch in serve(data, epoch=epoch):
            counts += np.bincount(batch["label"].numpy(), minlength=2)
    assert abs(counts[1] / counts.sum() - 0.5) < 0.07
    plain = torch.cat([batch["label"] for batch in serve(module(manifest))])
    assert plain.bincount().tolist() == [14, 2]


def test_the_split_does_not_follow_the_seed(tmp_path):
    manifest = plant(tmp_path / "own", LABELS, [""] * 24)

    def parts(**options):
        return module(manifest, **options).ready.table["split"].tolist()

    assert parts(seed=1) == parts(seed=2)
    assert parts(split_seed=1) != parts(split_seed=2)


def test_class_weights_count_the_training_part_only(tmp_path):
    labels = ["a"] * 12 + ["b"] * 4 + ["b"] * 8
    weights = module(plant(tmp_path / "own", labels, SPLIT)).class_weights()
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.5]))  # 1/12 : 1/4, mean 1


def test_a_class_without_training_rows_leaves_the_others_their_weights(tmp_path):
    labels = ["a"] * 12 + ["b"] * 4 + ["c"] * 8
    weights = module(plant(tmp_path / "own", labels, SPLIT)).class_weights()
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.5, 1.0]))


def test_unlabelled_rows_neither_train_nor_validate(tmp_path):
    labels = ["a", "", "b", "a"] * 6
    data = module(plant(tmp_path / "own", labels, SPLIT))
    for part in ("train", "val"):
        served = torch.cat([batch["index"] for batch in serve(data, part)])
        assert set(served.tolist()) <= set(np.flatnonzero(np.array(labels)).tolist())
    assert len(data.train_rows()) == 12
    assert counts(data) == {"a": 8, "b": 4}
    served = torch.cat([batch["index"] for batch in serve(data, "val")])
    assert (len(data.ready.rows("val")), len(served)) == (5, 4)


def test_several_labels_a_row(tmp_path):
    labels = ["a|b", "none", "b", "", "a", "none", "none", "none"] * 3
    data = module(plant(tmp_path / "own", labels, SPLIT), negative="none", balance=True)
    assert data.ready.target.kind == "multilabel"
    assert data.ready.target.names == ["a", "b"]
    assert counts(data) == {"a": 4, "b": 4}
    drawn = torch.cat([batch["label"] for epoch in range(20) for batch in serve(data, epoch=epoch)])
    assert drawn.dtype == torch.float32
    assert not drawn.isnan().any()
    (batch,) = serve(data, "val")
    told = data.ready.target.decode_labels(batch["label"].numpy())
    expected = data.ready.table["label"][batch["index"].numpy()].replace("none", "-").tolist()
    assert told == expected
    assert "" not in told


def counts(data):
    return data.ready.count(data.train_rows())["per_class"]


def test_setup_is_done_once(manifest, monkeypatch):
    data = module(manifest)
    data.setup("fit")
    samples = data.samples
    data.setup("validate")
    assert data.samples is samples


def identity(manifest, **options):
    data = module(manifest, **options)
    data.setup()
    return data.identity()


def test_a_run_is_known_by_its_manifests_and_pixels_wherever_they_lie(tmp_path, manifest):
    extra = plant(tmp_path / "more", ["a"] * 4, ["train"] * 4, seed=1)
    alone, both = identity(manifest), identity(manifest, extra=[extra])
    assert both[0] == alone[0]
    assert len(both) == len(alone) + 1
    assert both[-1] != alone[-1]
    moved = (tmp_path / "own").rename(tmp_path / "moved")
    assert identity(str(moved / "manifest.csv")) == alone
    shutil.copy(moved / "images" / "0.png", moved / "images" / "1.png")
    changed = identity(str(moved / "manifest.csv"))
    assert (changed[0] == alone[0], changed[1] == alone[1]) == (True, False)


def test_no_data_is_a_sentence():
    told = r"no data to train on; give data\.manifest=FILE\.csv or data\.source\.input=DIR"
    with pytest.raises(MedvisionError, match=told):
        ImageDataModule().setup()


class Listener(LightningModule):
    """Keeps the batches Lightning hands over."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.served = {"train": [], "val": []}

    def training_step(self, batch, batch_idx):
        self.served["train"].append((self.current_epoch, batch))
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.served["val"].append((self.current_epoch, batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_serves_what_was_promised(manifest, tmp_path):
    """Epochs in another order, validation inside training unchanged, both as served by hand."""
    data, listener = module(manifest, backend="device", residency="device"), Listener()
    Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        use_distributed_sampler=False, num_sanity_val_steps=0,
    ).fit(listener, data)  # fmt: skip
    orders = []
    for epoch in range(2):
        batches = [batch for at, batch in listener.served["train"] if at == epoch]
        by_hand = list(serve(module(manifest, epoch=epoch, backend="device"), epoch=epoch))
        for batch, same in zip(batches, by_hand, strict=True):
            assert torch.equal(batch["index"], same["index"])
            assert torch.equal(batch["image"], same["image"])
        orders.append(torch.cat([batch["index"] for batch in batches]).tolist())
    assert orders[0] != orders[1]
    assert len(listener.served["val"]) == 2
    for _, batch in listener.served["val"]:
        stored = as_image(torch.from_numpy(data.ready.gather(batch["index"].numpy())))
        assert torch.equal(batch["image"], stored)


def test_multilabel_weights_are_negatives_over_positives(tmp_path):
    labels = ["a", "a|b", "a", "none", "a|b", "b"] * 4
    data = module(plant(tmp_path / "own", labels, SPLIT), negative="none")
    label = data.ready.targets["label"][data.train_rows()]
    expected = (label == 0).sum(axis=0) / (label == 1).sum(axis=0)
    np.testing.assert_allclose(data.class_weights(), expected, rtol=1e-6)
