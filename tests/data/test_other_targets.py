"""A target that is no classification: a column of files and a ragged one, as far as a batch."""

import runpy
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from medvision.augment.draw import Augment
from medvision.data.batches.assemble import assemble_foreign
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.manifest.card import Card
from medvision.data.manifest.manifest import read_manifest, write_manifest
from medvision.data.sources.prepare import prepare
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError
from medvision.target import Ragged

H, W = 16, 20


Findings = runpy.run_path(str(Path(__file__).parents[1] / "planted" / "outline.py"))["Findings"]


def draw(number):
    """A black image with one white rectangle, and where that is: y0, x0, y1, x1."""
    random = np.random.default_rng(number)
    y, x = random.integers(2, 7), random.integers(2, 9)
    h, w = random.integers(4, 7), random.integers(4, 8)
    image = np.zeros((H, W), np.uint8)
    image[y : y + h, x : x + w] = 255 - number % 60
    return image, (y, x, y + h, x + w)


def plant(folder, patients=12, change=lambda table: table, mask=lambda image: image // 128, **more):
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = []
    for n in range(patients):
        image, (y0, x0, y1, x1) = draw(n)
        cv2.imwrite(str(folder / f"images/{n}.png"), image)
        cv2.imwrite(str(folder / f"masks/{n}.png"), mask(image))
        rows.append({"path": f"images/{n}.png", "mask": f"masks/{n}.png", "patient": f"p{n}",
                     "boxes": f"{x0} {y0} {x1} {y1} 1",
                     "split": ["train", "train", "val", "test"][n % 4]})  # fmt: skip
    change(pd.DataFrame(rows).assign(**more)).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "key"))


def module(manifest, stage="train", **options):
    options = {"reader": Reader(size=None), "batch_size": 4, "target": Findings} | options
    data = ImageDataModule(manifest=str(manifest), **options)
    data.trainer = SimpleNamespace(
        training=stage == "train", current_epoch=0, global_rank=0, world_size=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # fmt: skip
    return data


def serve(data, part="train"):
    loader = data.train_dataloader() if part == "train" else data.val_dataloader()
    for batch in loader:
        sent = data.on_before_batch_transfer(batch, 0)
        sent = data.transfer_batch_to_device(sent, torch.device("cpu"), 0)
        yield data.on_after_batch_transfer(sent, 0)


def test_a_batch_holds_the_masks_and_boxes_of_its_images(tmp_path):
    for batch in serve(module(plant(tmp_path / "in"), "val"), "val"):
        assert set(batch) == {"image", "index", "mask", "boxes", "boxes_row", "drawn"}
        assert batch["mask"].dtype == torch.int64
        assert batch["boxes"].dtype == torch.float32
        assert torch.equal(batch["mask"], (batch["image"][:, 0] > 0.5).long())
        assert batch["boxes_row"].tolist() == list(range(len(batch["image"])))
        for mask, box in zip(batch["mask"], batch["boxes"], strict=True):
            assert bounds(mask) == box[:4].tolist()


def bounds(mask):
    y, x = np.nonzero(np.asarray(mask))
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


@pytest.mark.parametrize("fill", ["background", "nearest", "reflect"])
@pytest.mark.parametrize("backend", ["host", "device"])
def test_masks_and_boxes_move_as_images_do(tmp_path, backend, fill):
    moves = {"rotate_degrees": 25.0, "shift_x": 0.1, "scale": 0.2, "shear_degrees": 8.0}
    tones = {"contrast": 0.2, "noise": 0.02}
    moving = Augment(flip_horizontal=True, probability=0.8, fill=fill, **moves, **tones)
    place = plant(tmp_path / "in", patients=40)
    for residency in ("disk", "device"):
        data = module(place, augment=moving, backend=backend, residency=residency)
        for batch in serve(data):
            sure = (batch["image"][:, 0] - 0.5).abs() > 0.35  # no edge runs through the pixel
            said = (batch["image"][:, 0] > 0.5).long()
            assert torch.equal(batch["mask"][sure], said[sure])
            assert sure.float().mean() > 0.7
            for row, box in zip(batch["boxes_row"].tolist(), batch["boxes"], strict=True):
                if fill == "background":
                    x0, y0, x1, y1 = bounds(batch["mask"][row])
                    assert box[0] - 1 <= x0
                    assert box[1] - 1 <= y0
                    assert box[2] + 1 >= x1
                    assert box[3] + 1 >= y1


@pytest.mark.parametrize("backend", ["host", "device"])
def test_flips_and_quarter_turns_keep_boxes_exact(tmp_path, backend):
    turning = Augment(flip_horizontal=True, flip_vertical=True, rotate_quarter=True)
    seen = set()
    for batch in serve(
        module(plant(tmp_path / "in", patients=60), augment=turning, backend=backend)
    ):
        assert torch.equal(batch["mask"], (batch["image"][:, 0] > 0.5).long())
        assert batch["boxes_row"].tolist() == list(range(len(batch["image"])))
        for mask, box in zip(batch["mask"], batch["boxes"].tolist(), strict=True):
            assert np.allclose(bounds(mask), box[:4], atol=1e-4)
            seen.add(tuple(box))
    assert len(seen) > 20


def test_both_backends_move_alike(tmp_path):
    moving = Augment(rotate_degrees=25.0, scale=0.2)
    place = plant(tmp_path / "in", patients=40)
    host, device = (serve(module(place, augment=moving, backend=b)) for b in ("host", "device"))
    for one, two in zip(host, device, strict=True):
        assert (one["mask"] == two["mask"]).float().mean() > 0.995
        assert torch.equal(one["boxes"], two["boxes"])


def test_boxes_that_leave_the_image_are_lost(tmp_path):
    far = Augment(shift_x=0.9)
    batches = list(serve(module(plant(tmp_path / "in", patients=60), augment=far)))
    rows, boxes = (torch.cat([batch[key] for batch in batches]) for key in ("boxes_row", "boxes"))
    assert 0 < len(rows) < sum(len(batch["index"]) for batch in batches)
    assert boxes[:, [0, 2]].min() >= 0
    assert boxes[:, [0, 2]].max() <= W


@pytest.mark.parametrize(
    ("fit", "size"), [("stretch", (32, 60)), ("pad", (48, 40)), ("crop", (32, 20))]
)
def test_the_reader_brings_all_to_the_same_place(tmp_path, fit, size):
    data = module(plant(tmp_path / "in"), "val", reader=Reader(size=size, fit=fit))
    for batch in serve(data, "val"):
        assert batch["mask"].shape[1:] == size
        sure = (batch["image"][:, 0] - 0.5).abs() > 0.25
        assert torch.equal(batch["mask"][sure], (batch["image"][:, 0] > 0.5)[sure].long())
        for row, box in zip(batch["boxes_row"].tolist(), batch["boxes"].tolist(), strict=True):
            assert np.allclose(bounds(batch["mask"][row]), box[:4], atol=1e-3)


def test_what_the_reader_cuts_off_is_told(tmp_path):
    def corner(table):
        return table.assign(boxes=["0 0 2 2 1", *table["boxes"][1:]])

    data = module(plant(tmp_path / "in", change=corner), reader=Reader(size=None, center=0.9))
    data.setup()
    assert "1 of 12 boxes lie outside of what is kept" in data.audit.notes
    assert len(data.ready.targets["boxes"][np.array([0])].values) == 0


def test_images_without_a_mask_have_none(tmp_path):
    place = plant(tmp_path / "in", change=lambda t: t.assign(mask=["", *t["mask"][1:]], boxes=""))
    (batch,) = module(place).ready.batches(np.arange(3), 8)
    assert (batch["mask"][0] == -1).all()
    assert (batch["mask"][1:] >= 0).all()
    assert batch["boxes"].shape == (0, 5)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (
            lambda image: image[:10],
            r"12 label maps do not fit: .*10 x 20 pixels and its image 16 x 20",
        ),
        (
            lambda image: np.stack([image, image // 2, image], -1),
            "is a colour image and no label map",
        ),
    ],
)
def test_masks_that_are_none_are_refused(tmp_path, mask, told):
    with pytest.raises(MedvisionError, match=told):
        module(plant(tmp_path / "in", mask=mask)).setup()


def test_an_unreadable_mask_counts_as_its_image(tmp_path):
    place = plant(tmp_path / "in")
    (tmp_path / "in/masks/3.png").write_text("no image")
    with pytest.raises(MedvisionError, match=r"cannot read 1 of 12 images: .*masks/3\.png"):
        module(place).setup()
    data = module(place, on_unreadable="exclude")
    assert len(data.ready) == 11
    assert any("1 unreadable images were left out" in note for note in data.audit.notes)
    (batch,) = data.ready.batches(np.arange(11), 16)
    assert torch.equal(batch["mask"], (batch["image"][:, 0] > 0.5).long())


def test_boxes_outside_of_their_files_are_refused(tmp_path):
    place = plant(tmp_path / "in", change=lambda t: t.assign(boxes=["3 3 3 8 1", *t["boxes"][1:]]))
    with pytest.raises(MedvisionError, match=r"1 boxes do not fit .*0\.png: 3 3 3 8 in 20 x 16"):
        module(place).setup()


def test_a_run_is_known_by_its_masks_too(tmp_path):
    place = plant(tmp_path / "in")
    before = module(place).identity()
    cv2.imwrite(str(tmp_path / "in/masks/5.png"), np.zeros((H, W), np.uint8))
    after = module(place).identity()
    assert before[:2] == after[:2]
    assert before != after


def test_leaks_counts_and_strata_are_the_targets(tmp_path):
    place = plant(tmp_path / "in", change=lambda t: t.assign(patient=["p1", *t["patient"][1:]]))
    assert len(module(place).ready.rows("train")) == 6  # both rows of p1 train
    leaky = plant(tmp_path / "leaky", change=lambda t: t.assign(patient=["p3", *t["patient"][1:]]))
    with pytest.raises(MedvisionError, match="leaks, with 1 patient and 0 images"):
        module(leaky).setup()
    undrawn = plant(tmp_path / "few", change=lambda t: t.assign(mask=["", *t["mask"][1:]]))
    data = module(undrawn, mode="patient")
    data.setup()
    counts = data.audit.counts.values()
    assert sum(part["per_class"]["drawn"] for part in counts) == 11
    assert sum(part["unlabelled"] for part in counts) == 1
    parts = data.audit.flow["parts"].values()
    assert sum(part["boxes"] for part in parts) == 12
    assert any("of 'drawn' in val (rule of thumb" in note for note in data.audit.notes)


def test_options_that_mean_nothing_to_a_target_are_refused(tmp_path):
    place = plant(tmp_path / "in")
    assert module(place, annotation={"least": 3}).ready.target.least == 3
    with pytest.raises(MedvisionError, match=r"data\.classes means nothing to findings"):
        module(place, classes=["a", "b"]).setup()


def test_no_file_is_named_once_ids_are_hashed(tmp_path):
    plant(tmp_path / "in", change=lambda t: t.assign(scribble_pen=t["mask"]))
    place = tmp_path / "in" / "manifest.csv"
    made = prepare("table", tmp_path / "out", input=place, dataset="d", carry=["scribble_"])
    data = module(made.manifest, "val")
    hidden = data.ready.table
    for name in ("path", "mask", "scribble_pen"):
        assert hidden[name].str.startswith("hashed-").all()
    run = write_manifest(tmp_path / "run", hidden, Card("d", key=made.card.key))
    again = read_manifest(run, target=Findings)
    assert again.file_columns == ["path", "mask", "scribble_pen"]
    samples = assemble_foreign(again, Reader(size=None), data.ready.target, "stop", "test")
    rows = data.ready.rows("val")
    for one, two in zip(data.ready.batches(rows, 9), samples.batches(rows, 9), strict=True):
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert set(one) == {"image", "index", "mask", "scribble_pen", "boxes", "boxes_row", "drawn"}


def test_rows_that_only_train_bring_their_masks(tmp_path):
    more = plant(tmp_path / "more", patients=4, dataset="more", change=lambda t: t.assign(
        path=t["path"], patient="q" + t["patient"], split="train"))  # fmt: skip
    for n in range(4):  # other pixels than those that test
        image = cv2.imread(str(tmp_path / f"more/images/{n}.png"), 0)
        cv2.imwrite(str(tmp_path / f"more/images/{n}.png"), np.where(image, 150 + n, 0))
    bare = tmp_path / "more" / "bare.csv"
    pd.read_csv(more).drop(columns="mask").iloc[:1].assign(patient="r").to_csv(bare, index=False)
    data = module(plant(tmp_path / "in"), extra=[str(more), str(bare)])
    (batch,) = data.ready.batches(np.arange(12, 17), 9)
    assert torch.equal(batch["mask"][:4], (batch["image"][:4, 0] > 0.5).long())
    assert (batch["mask"][4] == -1).all()


def plant_series(folder, lengths=(3, 1, 4, 2, 3, 2, 3, 4)):
    """Series whose masks lie in one file each."""
    folder.mkdir(parents=True)
    rows = []
    for n, length in enumerate(lengths):
        images = [draw(20 * n + at) for at in range(length)]
        np.save(folder / f"{n}.npy", np.stack([image for image, _ in images]))
        np.save(
            folder / f"{n}_mask.npy",
            np.stack([image > 128 for image, _ in images]).astype(np.uint8),
        )
        rows += [{"path": f"{n}.npy", "mask": f"{n}_mask.npy", "frame": at, "patient": f"p{n}",
                  "series": f"s{n}", "position": at, "boxes": f"{x0} {y0} {x1} {y1} 1",
                  "split": ["train", "train", "val", "test"][n % 4]}
                 for at, (_, (y0, x0, y1, x1)) in enumerate(images)]  # fmt: skip
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


@pytest.mark.parametrize(("backend", "stage"), list(product(["host", "device"], ["train", "val"])))
def test_slices_of_series_bring_theirs(tmp_path, backend, stage):
    turning = Augment(flip_horizontal=True, flip_vertical=True)
    data = module(plant_series(tmp_path / "in"), stage, unit="series", neighbours=1,
                  augment=turning, backend=backend)  # fmt: skip
    for batch in serve(data, stage):
        shape = batch["step"].shape
        assert batch["mask"].shape == (*shape, H, W)
        inside = torch.arange(shape[1]) < batch["length"][:, None]
        own = batch["image"][:, :, 1] > 0.5  # of three neighbours the slice itself
        assert torch.equal(batch["mask"][inside], own[inside].long())
        assert (batch["mask"][~inside] == -1).all()
        flat = batch["mask"].flatten(0, 1)
        assert batch["slice_boxes_row"].tolist() == inside.flatten().nonzero()[:, 0].tolist()
        for row, box in zip(batch["slice_boxes_row"], batch["slice_boxes"].tolist(), strict=True):
            assert np.allclose(bounds(flat[row]), box[:4], atol=1e-4)
        assert (batch["slice_drawn"][inside] == 1).all()
        assert (batch["slice_drawn"][~inside] == -1).all()


def test_ragged_rows_come_in_any_order():
    ragged = Ragged(np.arange(12).reshape(6, 2), np.array([0, 2, 2, 3, 6]))
    some = ragged[np.array([3, 1, 0, 3])]
    assert some.start.tolist() == [0, 3, 3, 5, 8]
    assert some.values[:, 0].tolist() == [6, 8, 10, 0, 2, 6, 8, 10]
    assert some.row.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]
    few = some.keep(some.values[:, 0] > 6)
    assert few.start.tolist() == [0, 2, 2, 2, 4]
    assert len(ragged[np.array([], dtype=int)]) == 0
