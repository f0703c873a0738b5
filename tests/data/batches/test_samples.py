from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medvision.data.batches.samples import Samples, as_image
from medvision.data.store.store import Store
from medvision.seen import Shown
from medvision.tasks.classes import Classes


def store(rows, seed=0, dtype=np.uint8):
    pixels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (rows, 4, 6, 1), dtype)
    return Store(pixels, [f"d{seed}-{row}" for row in range(rows)], Path(), {})


def table(labels, split=None):
    rows = range(len(labels))
    return pd.DataFrame({
        "dataset": "toy", "path": [f"/data/{n}.png" for n in rows], "frame": list(rows),
        "patient": [f"p{n // 2}" for n in rows], "series": "", "label": labels,
        "split": split or "train",
    })  # fmt: skip


def samples(labels=("a", "b", "a", "", "b"), split=None, stores=None, where=None, kind="binary"):
    classes = Classes(["a", "b"], kind, "none")
    stores = stores or [store(len(labels))]
    if where is None:
        where = [(0, row) for row in range(len(labels))]
    digest = [stores[s].digests[row] for s, row in where]
    rows = table(list(labels), split)
    return Samples(rows, classes, classes.encode(rows), digest, stores, np.array(where))


def test_pixels_come_in_the_order_asked_for():
    made = samples()
    index = np.array([4, 0, 0, 2])
    assert np.array_equal(made.gather(index), made.stores[0].array[index])


def test_rows_of_several_stores_come_from_their_own():
    stores = [store(3, seed=1), store(4, seed=2)]
    where = [(1, 3), (0, 2), (0, 0), (1, 0), (0, 1)]
    made = samples(stores=stores, where=where)
    pixels = made.gather(np.arange(5))
    for row, (number, position) in enumerate(where):
        assert np.array_equal(pixels[row], stores[number].array[position])
    only_second = made.gather(np.array([3, 0]))
    assert np.array_equal(only_second, stores[1].array[[0, 3]])


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_images_are_floats_from_0_to_1_with_channels_last_memory(dtype, top):
    pixels = torch.from_numpy(np.array([0, top // 2, top] * 8, dtype).reshape(2, 2, 2, 3))
    image = as_image(pixels)
    assert image.shape == (2, 3, 2, 2)
    assert image.dtype == torch.float32
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert (float(image.min()), float(image.max())) == (0.0, 1.0)
    assert float(image[0, 1, 0, 0]) == pytest.approx((top // 2) / top, abs=1e-7)
    assert int(pixels.numpy().max()) == top  # the store itself is left alone


def test_batches_cover_the_rows_once_in_order():
    made, index = samples(), np.array([4, 2, 0, 1, 3])
    batches = list(made.batches(index, 2))
    assert [len(batch["index"]) for batch in batches] == [2, 2, 1]
    assert torch.cat([batch["index"] for batch in batches]).tolist() == index.tolist()
    assert torch.cat([batch["label"] for batch in batches]).tolist() == [1, 0, 0, 1, -1]
    images = torch.cat([batch["image"] for batch in batches])
    assert torch.equal(images, as_image(torch.from_numpy(made.gather(index))))


def test_a_part_is_its_rows_in_order():
    made = samples(split=["val", "train", "val", "test", "train"])
    assert len(made) == 5
    assert made.rows("val").tolist() == [0, 2]
    assert made.rows("nothing").tolist() == []


def test_a_part_shows_its_patients_and_images_once():
    made = replace(samples(split=["train", "train", "train", "val", "val"]), key="0a1b2c3d")
    images = frozenset({"d0-0", "d0-1", "d0-2"})
    assert made.shown("train") == Shown({"p0": "", "p1": ""}, images, "0a1b2c3d")
    assert made.shown("val").patients.keys() == {"p1", "p2"}
    given = replace(made, key=None).shown("val")  # ids as given need their dataset to be told apart
    people = {name.split("\x1f")[1]: person for name, person in given.patients.items()}
    assert people == {"p1": "p1", "p2": "p2"}


def test_facts_are_keyed_by_the_row_and_name_the_label_as_a_class():
    classes = Classes(["a", "b"], "binary", rename={"A": "a"})
    labels = ["A", "b", "A"]
    digests = ["x", "y", "z"]
    where = np.array([(0, 0), (0, 1), (0, 2)])
    rows = table(labels)
    made = Samples(rows, classes, classes.encode(rows), digests, [store(3)], where)
    facts = made.facts_for(np.array([2, 1]))
    assert facts["index"].tolist() == [2, 1]
    assert facts["label"].tolist() == ["a", "b"]
    assert facts["path"].tolist() == ["/data/2.png", "/data/1.png"]
    assert facts.columns[0] == "index"
    assert made.table["label"].tolist() == labels  # the table stays as it is


def test_facts_of_several_labels_come_back_as_they_were():
    made = samples(("a|b", "none", "b", "", "a"), kind="multilabel")
    assert made.facts_for(range(5))["label"].tolist() == ["a|b", "-", "b", "", "a"]
    assert np.isnan(made.targets["label"][3]).all()
