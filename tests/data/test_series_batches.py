"""What `ImageDataModule` serves with `unit=series`, pixels and all."""

from itertools import product
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from medvision.augment.draw import Augment
from medvision.augment.sequence import SequenceAugment
from medvision.data.batches.assemble import assemble_foreign
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.manifest.manifest import read_manifest
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError

LENGTHS = [5, 3, 1, 4, 2, 5, 3, 4, 6, 2]
SPLIT = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
AUGMENT = Augment(rotate_degrees=25.0, shift_x=0.2, contrast=0.3, noise=0.05)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))


def plant(folder, lengths=LENGTHS, channels=("",), draw=None, change=None, depth=np.uint8):
    """Series in random order of rows, files named against the order of the slices."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = []
    for n, (length, split) in enumerate(zip(lengths, SPLIT, strict=False)):
        for at, channel in product(range(length), channels):
            name = f"images/{n}_{99 - at}{channel}.png"
            pixels = random.integers(0, np.iinfo(depth).max, (16, 16), dtype=depth)
            cv2.imwrite(str(folder / name), pixels if draw is None else draw(n, at, channel))
            rows.append({"path": name, "patient": f"p{n}", "series": f"s{n}", "position": at,
                         "position_mm": 2.5 * at + 1, "channel": channel,
                         "label": "ab"[n % 2], "split": split})  # fmt: skip
    table = pd.DataFrame(rows).sample(frac=1, random_state=1)
    table = table if change is None else change(table)
    table.to_csv(folder / "manifest.csv", index=False)
    return str(folder / "manifest.csv")


@pytest.fixture
def manifest(tmp_path):
    return plant(tmp_path / "own")


def module(manifest, stage="train", epoch=0, **options):
    options = {"reader": Reader(size=(16, 16)), "batch_size": 2, "unit": "series"} | options
    data = ImageDataModule(manifest=manifest, **options)
    data.trainer = SimpleNamespace(
        training=stage == "train", current_epoch=epoch, global_rank=0, world_size=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip
    return data


def serve(data, part="train", epoch=0):
    loader = data.train_dataloader() if part == "train" else data.val_dataloader()
    if part == "train":
        loader.sampler.set_epoch(epoch)
    for batch in loader:
        yield data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)


def stored(data, index, at, channel=""):
    """The pixels of one slice as float, found in the table by name."""
    table = data.ready.table
    series = table["series"][index]
    chosen = (table["series"] == series) & (table["position"] == at)
    (row,) = np.flatnonzero(chosen & (table["channel"] == channel))
    return torch.from_numpy(data.ready.gather(np.array([row]))[0, :, :, 0].astype(np.float32)) / 255


def test_a_batch_keeps_its_contract(manifest):
    data = module(manifest)
    batches = list(serve(data))
    assert sum(len(batch["index"]) for batch in batches) == 6
    for batch in batches:
        assert set(batch) == {"image", "length", "step", "label", "slice_label", "index"}
        shape = (2, int(batch["length"].max()))
        assert batch["image"].shape == (*shape, 1, 16, 16)
        assert batch["step"].shape == batch["slice_label"].shape == shape
        for key in ("image", "step"):
            assert batch[key].dtype == torch.float32
        for key in ("length", "label", "slice_label", "index"):
            assert batch[key].dtype == torch.int64
        assert (batch["slice_label"] == -1).all()
        for b, (index, length) in enumerate(zip(batch["index"], batch["length"], strict=True)):
            own = data.ready.table.loc[int(index)]
            assert (own["position"], "ab"[batch["label"][b]]) == (0, own["label"])
            assert length == LENGTHS[int(own["series"][1:])]
            for at in range(length):
                assert torch.equal(batch["image"][b, at, 0], stored(data, int(index), at))
            assert (batch["image"][b, length:] == 0).all()
            assert batch["step"][b].tolist() == (
                [2.5 if length > 1 else 1.0] * int(length) + [0.0] * (shape[1] - int(length))
            )


def test_classes_parts_and_counts_are_of_series(manifest):
    data = module(manifest)
    assert len(data.train_rows()) == len(data.ready.rows("train")) == 6
    assert data.ready.count(data.train_rows())["per_class"] == {"a": 3, "b": 3}
    counts = data.audit.counts["train"]
    assert (counts["images"], counts["patients"], counts["series"]) == (20, 6, 6)
    assert counts["series_per_class"] == {"a": 3, "b": 3}
    assert "10 series of 1 to 6 slices (median 3.5)" in data.audit.notes
    shown = data.ready.shown("val")
    assert (len(shown.patients), len(shown.images)) == (2, 7)


def test_the_split_is_that_of_its_images(tmp_path):
    place = plant(tmp_path / "own", change=lambda t: t.assign(split=""))
    parts = [module(place, unit=unit).ready.table["split"].tolist() for unit in ("image", "series")]
    assert parts[0] == parts[1]


@pytest.mark.parametrize(("backend", "depth"), [("host", 8), ("device", 16)])
@pytest.mark.parametrize("part", ["train", "val"])
def test_where_pixels_live_changes_no_bit(tmp_path, backend, part, depth):
    dtype = np.uint16 if depth == 16 else np.uint8
    place = plant(tmp_path / "own", channels=("x", "y"), depth=dtype)
    served = [
        list(serve(module(place, part, residency=residency, backend=backend, augment=AUGMENT,
                          difference=True, neighbours=1, sequence=SequenceAugment(drop=0.3),
                          reader=Reader(size=(16, 16), depth=depth)), part))
        for residency in ("disk", "host", "device")
    ]  # fmt: skip
    assert len(served[0]) == (3 if part == "train" else 1)
    assert served[0][0]["image"].shape[2] == 9
    for others in served[1:]:
        for batch, same in zip(served[0], others, strict=True):
            assert all(torch.equal(batch[key], same[key]) for key in batch)


@pytest.mark.parametrize("backend", ["host", "device"])
def test_all_slices_of_a_series_move_alike(tmp_path, backend):
    board = 255 * ((np.indices((16, 16)) // 4).sum(axis=0) % 2).astype(np.uint8)
    # Parts differ by a grey level, or they would be copies of one another.
    boards = {part: np.where(board, 255 - n, n) for n, part in enumerate(dict.fromkeys(SPLIT))}
    place = plant(tmp_path / "own", channels=("x", "y"), draw=lambda n, at, c: boards[SPLIT[n]])
    moving = Augment(rotate_degrees=25.0, shift_x=0.2, scale=0.2, contrast=0.3, erase=0.2)
    data, moved = module(place, backend=backend, augment=moving, neighbours=1), {}
    for batch in serve(data):
        for index, image, length in zip(
            batch["index"].tolist(), batch["image"], batch["length"], strict=True
        ):
            planes = image[:length].flatten(0, 1)
            assert torch.equal(planes, planes[:1].expand_as(planes))
            moved[index] = planes[0].numpy().tobytes()
    assert len(set(moved.values())) == 6  # each series another way


def test_noise_of_slices_is_not_the_same(tmp_path):
    place = plant(tmp_path / "own", draw=lambda n, at, c: np.full((16, 16), 128, np.uint8))
    for backend in ("host", "device"):
        batch = next(serve(module(place, augment=Augment(noise=0.2), backend=backend)))
        first, second = batch["image"][int(batch["length"].argmax()), :2, 0]
        assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 0.3


def test_sequence_augmentation_is_for_training_and_drawn_anew(manifest):
    wish = SequenceAugment(crop=4, drop=0.3, reverse=True)

    def lengths(epoch, stage="train"):
        data = module(manifest, stage, epoch=epoch, sequence=wish)
        batches = list(serve(data, stage, epoch=epoch))
        return [batch["length"].tolist() for batch in batches], batches

    assert lengths(1)[0] == lengths(1)[0]
    assert len({str(lengths(epoch)[0]) for epoch in range(6)}) > 3
    for _, batches in map(lengths, range(4)):
        for batch in batches:
            assert 1 <= batch["length"].min() <= batch["length"].max() <= 4
            gaps = batch["step"][batch["step"] > 0] / 2.5
            assert ((gaps >= 1) | (gaps == 0.4)).all()  # 0.4: the series of one slice
    assert sorted(lengths(1, "val")[0][0]) == [3, 4]


@pytest.mark.parametrize("part", ["val", "test"])
def test_evaluation_is_the_same_however_it_is_batched(manifest, part):
    samples = module(manifest, part, augment=AUGMENT).ready
    rows = samples.rows(part)
    (whole,) = samples.batches(rows, 100)
    for b, batch in enumerate(samples.batches(rows, 1)):
        length = int(batch["length"][0])
        assert torch.equal(batch["image"][0], whole["image"][b, :length])
        assert torch.equal(batch["step"][0], whole["step"][b, :length])
    served = next(serve(module(manifest, part, augment=AUGMENT), "val"))
    if part == "val":
        assert all(torch.equal(served[key], whole[key]) for key in served)
    facts = samples.facts_for(rows)
    assert facts["label"].tolist() == samples.target.decode_labels(whole["label"].numpy())


def test_a_batch_of_long_series_is_cut(manifest, monkeypatch):
    samples = module(manifest).ready
    rows = samples.rows("train")
    monkeypatch.setattr("medvision.data.batches.samples.BATCH_BYTES", 4 * 16 * 16 * 6)
    batches = list(samples.batches(rows, 4))
    assert torch.cat([batch["index"] for batch in batches]).tolist() == rows.tolist()
    assert all(len(b["index"]) == 1 or b["step"].numel() <= 6 for b in batches)
    assert len(batches) > 3


def test_slices_are_listed_in_the_order_they_are_served(tmp_path):
    def label_slices(table):
        some = table["series"].isin(["s0", "s8"])
        odd = table["position"] % 2 == 1
        return table.assign(series_label=table["label"], label=table["label"].mask(some & odd, "b"))

    data = module(plant(tmp_path / "own", change=label_slices))
    samples = data.ready
    rows = samples.rows("test")
    told = samples.tables_for(rows)["slices"]
    (batch,) = samples.batches(rows, 9)
    assert told["position"].tolist() == [at for n in batch["length"] for at in range(n)]
    assert samples.table["position"][told["row"]].tolist() == told["position"].tolist()
    assert told["index"].tolist() == np.repeat(rows, batch["length"]).tolist()
    assert told["label"].tolist() == samples.table["label"][told["row"]].tolist()
    first = batch["slice_label"][0, : batch["length"][0]].tolist()
    assert first == [samples.target.names.index(each) for each in told["label"][: len(first)]]
    assert (batch["slice_label"][batch["step"] == 0] == -1).all()
    assert "no slice is annotated by itself" not in data.audit.notes


def test_several_labels_a_series(tmp_path):
    def label(table):
        whole = table["series"].map(lambda name: ["a|b", "none", "b", ""][int(name[1:]) % 4])
        return table.assign(series_label=whole, label=whole.mask(table["position"] == 1, "none"))

    data = module(plant(tmp_path / "own", change=label), negative="none")
    assert data.ready.target.kind == "multilabel"
    (batch,) = data.ready.batches(data.ready.rows("train"), 9)
    assert (batch["label"].shape, batch["slice_label"].shape) == ((6, 2), (6, 5, 2))
    assert batch["slice_label"][batch["step"] == 0].isnan().all()
    first = data.ready.facts_for(batch["index"].numpy())["label"].tolist().index("a|b")
    assert batch["slice_label"][first, :2].tolist() == [[1, 1], [0, 0]]
    assert len(data.train_rows()) == 5  # s3 is unlabelled


def test_a_frozen_model_reads_another_manifest_as_its_own(manifest):
    data = module(manifest)
    samples, unit = data.ready, data.ready.unit
    given = read_manifest(manifest)
    foreign = assemble_foreign(given, data.options.reader, samples.target, "stop", "test", unit)
    assert foreign.rows("test").tolist() == samples.rows("test").tolist()
    for own, same in zip(
        samples.batches(samples.rows("test"), 2), foreign.batches(foreign.rows("test"), 2),
        strict=True,
    ):  # fmt: skip
        assert all(torch.equal(own[key], same[key]) for key in own)


def test_faults_are_told_before_anything_is_decoded(tmp_path):
    place = plant(
        tmp_path / "own", change=lambda t: t[(t["series"] != "s0") | (t["position"] != 2)]
    )
    (tmp_path / "own" / "images" / "1_99.png").write_bytes(b"no image")
    with pytest.raises(MedvisionError, match=r"series 's0' has none between 1 and 3"):
        module(place).setup()
    counts = module(place, on_gap="exclude", on_unreadable="exclude")
    assert [counts.ready.rows(part).size for part in ("train", "val", "test")] == [4, 2, 2]
    told = " ".join(counts.audit.notes)
    assert "'s0' has none between 1 and 3, 's1' lost 1 unreadable): 2 series were left out" in told
    with pytest.raises(MedvisionError, match=r"'s1' lost 1 unreadable.*data\.on_gap=exclude"):
        module(whole_but_one(tmp_path / "two"), on_unreadable="exclude").setup()


def whole_but_one(folder):
    place = plant(folder)
    (folder / "images" / "1_99.png").write_bytes(b"no image")
    return place


def test_two_sizes_are_made_alike_or_refused(tmp_path):
    def draw(n, at, channel):
        return np.full((16 + (n == 0) * at, 16), 90, np.uint8)

    place = plant(tmp_path / "own", draw=draw)
    data = module(place)
    data.setup()
    assert any("differ in size (series 's0' of" in note for note in data.audit.notes)
    with pytest.raises(MedvisionError, match=r"0_\d+\.png.*data\.reader\.size=\[H,W\]"):
        module(place, reader=Reader(size=None)).setup()


def test_an_unknown_unit_is_refused():
    with pytest.raises(MedvisionError, match=r"data\.unit=study cannot be; choose image or series"):
        ImageDataModule(unit="study")


class Listener(LightningModule):
    """Keeps the batches Lightning hands over."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.served = []

    def training_step(self, batch, batch_idx):
        self.served.append(batch)
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_serves_what_was_promised(manifest, tmp_path):
    options = {"backend": "device", "residency": "device", "augment": AUGMENT,
               "sequence": SequenceAugment(drop=0.3)}  # fmt: skip
    data, listener = module(manifest, **options), Listener()
    Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        use_distributed_sampler=False, num_sanity_val_steps=0,
    ).fit(listener, train_dataloaders=None, datamodule=data)  # fmt: skip
    by_hand = list(serve(module(manifest, **options)))
    assert len(listener.served) == 3
    for batch, same in zip(listener.served, by_hand, strict=True):
        assert set(batch) == set(same)
        assert all(torch.equal(batch[key], same[key]) for key in batch)
