"""Near copies are told wherever rows come in: hand-written tables, data.extra, other manifests."""

import cv2
import numpy as np
import pandas as pd
import pytest

from medvision.data.audit.near_duplicates import SOUGHT
from medvision.data.batches import near_copies
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.batches.near_copies import describe_store, find_between, recall_trained
from medvision.data.batches.read import decode_rows
from medvision.data.manifest.manifest import read_manifest
from medvision.data.store.reader import Reader

READER = Reader(size=(72, 72), window="full")
SPLIT = ["train"] * 16 + ["val"] * 4 + ["test"] * 4


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "key"))


def draw(seed):
    random = np.random.default_rng(seed)
    image = cv2.GaussianBlur(random.normal(size=(72, 72)), (0, 0), 2)
    return (230 * (image - image.min()) / (image.max() - image.min()) + 10).astype(np.uint8)


def write(folder, images, **columns):
    """A table by hand, a patient an image."""
    folder.mkdir()
    for row, image in enumerate(images):
        cv2.imwrite(str(folder / f"{row}.png"), image)
    rows = range(len(images))
    table = {"path": [f"{row}.png" for row in rows], "label": [("a", "b")[row % 2] for row in rows],
             "patient": [f"{folder.name}{row}" for row in rows]}  # fmt: skip
    pd.DataFrame(table | columns).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def read(manifest, *extra, **options):
    options = {
        "reader": READER,
        "batch_size": 4,
        "extra": [str(place) for place in extra],
    } | options
    data = ImageDataModule(manifest=str(manifest), **options)
    data.setup()
    return data


def notes(data):
    return [note for note in data.audit.notes if "near copies" in note]


@pytest.fixture
def drawn():
    """24 images, the last of which is the mirror image of the first."""
    images = [draw(seed) for seed in range(23)]
    return [*images, images[0][:, ::-1]]


@pytest.mark.parametrize("seed", range(3))
def test_near_copies_of_a_table_by_hand_are_in_one_part(drawn, tmp_path, seed):
    data = read(write(tmp_path / "own", drawn), split_seed=seed)
    parts = data.ready.table["split"].tolist()
    assert parts[0] == parts[23]
    (note,) = notes(data)
    assert note.startswith(
        "1 pair of near copies between 1 pair of patients, such as lines 2 and 25"
    )
    assert note.endswith(f"joined, so that no computed split parts them; {SOUGHT}")


def test_in_a_given_split_they_are_told(drawn, tmp_path):
    data = read(write(tmp_path / "own", drawn, split=SPLIT))
    assert data.ready.table["split"].tolist() == SPLIT
    assert any("; 1 of them lie in two parts of the given split" in note for note in notes(data))


def test_a_clean_table_is_as_it_was(drawn, tmp_path):
    assert notes(read(write(tmp_path / "own", drawn[:23]))) == []


def test_extra_images_that_are_near_copies_of_tested_ones_stand_on_every_table(drawn, tmp_path):
    own = write(tmp_path / "own", drawn[1:23], split=SPLIT[:22])
    extra = write(tmp_path / "extra", [draw(99), np.rot90(drawn[21]), np.rot90(drawn[2])])
    data = read(own, extra, different_patients=True)
    told = [note for note in data.ready.unchecked if "near copies" in note]
    assert told == [
        "1 of 3 images of data.extra (extra) are near copies of images of val or test, "
        "such as line 3 of its manifest: look at them"
    ]


def open_rows(manifest):
    return decode_rows(read_manifest(manifest), READER, "stop")


def describe(manifest):
    rows = open_rows(manifest)
    return describe_store(rows.store, rows.manifest, READER)


def test_rows_are_compared_with_what_a_model_has_seen(drawn, tmp_path):
    own, other = write(tmp_path / "own", drawn[:20]), write(tmp_path / "new", [draw(50), drawn[23]])
    described = describe(own)
    trained = set(described.digests[:10])

    def knows(digests):
        return [digest in trained for digest in digests]

    recalled = recall_trained([open_rows(own).manifest, "another"], READER, knows)
    assert sorted(recalled.digests) == sorted(trained)
    assert find_between(describe(other), recalled) == [1]
    assert find_between(describe(other), described.take(range(10, 20))) == []
    assert recall_trained(["another"], READER, knows).digests == []


def test_images_are_described_once_and_again_when_their_pixels_change(drawn, tmp_path, monkeypatch):
    own = write(tmp_path / "own", drawn[:4])
    first = describe(own)
    with monkeypatch.context() as patch:
        patch.setattr(near_copies, "describe_look", None)
        again = describe(own)
    assert list(again.digests) == first.digests
    for one, two in zip(first.descriptors, again.descriptors, strict=True):
        assert np.array_equal(one.texture, two.texture)
        assert np.array_equal(one.thumbnail, two.thumbnail)
    cv2.imwrite(str(tmp_path / "own" / "2.png"), draw(77))
    changed = describe(own)
    assert not np.array_equal(changed.descriptors[2].texture, first.descriptors[2].texture)


def test_a_damaged_memory_is_made_anew_and_nobody_else_may_read_it(drawn, tmp_path):
    own = write(tmp_path / "own", drawn[:4])
    describe(own)
    (held,) = (tmp_path / "cache" / "descriptors").iterdir()
    assert held.stat().st_mode & 0o077 == 0
    held.write_bytes(held.read_bytes()[:200])
    assert describe(own).descriptors[0] is not None


def test_images_of_less_than_64_pixels_are_like_nothing(drawn, tmp_path):
    own = write(tmp_path / "own", drawn)
    assert notes(read(own, reader=Reader(size=(63, 72), window="full"))) == []
    assert not (tmp_path / "cache" / "descriptors").exists()
