import sys
from types import SimpleNamespace

import numpy as np
import pytest

from medvision.data.formats.decode import decode
from medvision.data.sources.medmnist import find as find_medmnist
from medvision.errors import MedvisionError


def make(path, order=("train", "val", "test"), labels=None, shape=(6, 5), **more):
    rng = np.random.default_rng(0)
    counts = {"train": 4, "val": 2, "test": 3}
    arrays = {}
    for part in order:
        n = counts[part]
        arrays[f"{part}_images"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"{part}_labels"] = (
            np.arange(n)[:, None] % 2 if labels is None else labels[:n]
        ).astype(np.uint8)
    np.savez(path, **(arrays | more))
    return arrays


def find(path, **options):
    return find_medmnist(path, columns={"patient": "path"}, **options)


def test_where_0_is_the_disease_it_is_the_positive_class(tmp_path):
    make(tmp_path / "breastmnist_64.npz")
    found = find(tmp_path / "breastmnist_64.npz")
    assert found.table["label"].tolist()[:2] == ["malignant", "not malignant"]
    assert found.classes == ["not malignant", "malignant"]


def test_rows_point_into_the_file_with_names_for_classes(tmp_path):
    path = tmp_path / "pneumoniamnist.npz"
    arrays = make(path)
    found = find(path)
    table = found.table
    assert table["split"].tolist() == ["train"] * 4 + ["val"] * 2 + ["test"] * 3
    assert table["label"].tolist()[:5] == ["normal", "pneumonia", "normal", "pneumonia", "normal"]
    assert table["frame"].tolist() == list(range(9))
    assert table["patient"].tolist()[8] == "pneumoniamnist.npz#8"
    assert set(table["path"]) == {str(path)}
    assert (found.dataset, found.classes) == ("pneumoniamnist", ["normal", "pneumonia"])
    assert found.facts == {}
    images = np.concatenate([arrays[f"{part}_images"] for part in ("train", "val", "test")])
    for row in (0, 4, 8):
        np.testing.assert_array_equal(decode(path, row)[..., 0], images[row])


def test_frames_follow_the_stored_order_and_parts_may_be_missing(tmp_path):
    path = tmp_path / "xmnist_64.npz"
    arrays = make(path, order=("test", "train"))
    table = find(path).table
    assert table["split"].tolist() == ["test"] * 3 + ["train"] * 4
    assert find(path).dataset == "xmnist"
    np.testing.assert_array_equal(decode(path, 3)[..., 0], arrays["train_images"][0])


def test_unknown_sets_keep_their_numbers_in_numeric_order(tmp_path):
    labels = np.array([[11], [0], [2], [10]])
    make(tmp_path / "xmnist.npz", order=("train",), labels=labels, shape=(6, 5, 3))
    found = find(tmp_path / "xmnist.npz")
    assert found.table["label"].tolist() == ["11", "0", "2", "10"]
    assert found.classes == [str(number) for number in range(12)]


def test_several_findings_are_joined_and_no_finding_is_a_label(tmp_path):
    labels = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]])
    make(tmp_path / "chest.npz", labels=labels)
    found = find(tmp_path / "chest.npz")
    assert found.table["label"].tolist()[:4] == ["1|2", "none", "0", "2"]
    assert found.classes == ["0", "1", "2"]
    assert found.facts == {"multilabel": True, "negative": "none"}


def test_images_without_labels_are_unlabelled(tmp_path):
    np.savez(tmp_path / "x.npz", test_images=np.zeros((2, 4, 4), np.uint8))
    found = find(tmp_path / "x.npz")
    assert found.table["label"].tolist() == ["", ""]
    assert found.classes is None


@pytest.mark.parametrize("patient", [None, "(p)"])
def test_the_patient_rule_must_be_said(tmp_path, patient):
    make(tmp_path / "x.npz")
    with pytest.raises(MedvisionError, match=r"which has no patient ids .* columns.patient=path"):
        find_medmnist(tmp_path / "x.npz", columns={"patient": patient})


def test_a_folder_stands_for_its_file(tmp_path):
    make(tmp_path / "a.npz")
    assert find(tmp_path).dataset == "a"
    make(tmp_path / "a_64.npz")
    with pytest.raises(MedvisionError, match=r"should hold one npz file \(npz files there: a.npz"):
        find(tmp_path)
    assert find(tmp_path, name="a", size=64).table["path"][0].endswith("a_64.npz")
    with pytest.raises(MedvisionError, match=r"should hold b\.npz"):
        find(tmp_path, name="b")


def test_what_is_no_such_file_is_refused(tmp_path):
    def refused(match, **options):
        with pytest.raises(MedvisionError, match=match):
            find(tmp_path / "pneumoniamnist.npz", **options)

    path = tmp_path / "pneumoniamnist.npz"
    refused("is not a readable npz")
    path.write_bytes(b"text")
    refused("is not a readable npz")
    np.savez(path, scans=np.zeros((2, 4, 4)))
    refused("holds the arrays scans; a MedMNIST file has train_images, val_images, test_images")
    make(path, shape=(4, 4, 4))
    refused("holds volumes in train_images; only 2-D sets")
    make(path, labels=np.array([[0], [1], [2], [0]]))
    refused("has the label 2, but normal, pneumonia are all its classes; say name=")
    make(path, train_labels=np.array([[0], [1]]))
    refused("has 4 images but 2 labels in train")
    make(path, train_labels=np.array([[0.5]] * 4))
    refused("train_labels must be whole numbers from 0")


def test_without_the_package_the_way_out_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(MedvisionError, match=r"medvision\[medmnist\], or get xmnist_64.npz on an"):
        find(None, name="xmnist", size=64)
    with pytest.raises(MedvisionError, match=r"needs input=FILE.npz, or name="):
        find(None)


def test_the_package_downloads_into_the_cache(monkeypatch, tmp_path):
    def fetch(split, download, size, root):
        assert (split, download, size) == ("train", True, 28)
        make(f"{root}/pneumoniamnist.npz")

    def fail(**_):
        raise RuntimeError("Automatic download failed!")

    package = SimpleNamespace(
        INFO={"pneumoniamnist": {"python_class": "Fetch"}, "down": {"python_class": "Fail"}},
        Fetch=fetch, Fail=fail,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "medmnist", package)
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path))
    assert len(find(None, name="pneumoniamnist").table) == 9
    assert (tmp_path / "downloads" / "pneumoniamnist.npz").exists()
    with pytest.raises(MedvisionError, match=r"could not be downloaded \(Automatic .*input=FILE"):
        find(None, name="down")
    with pytest.raises(MedvisionError, match="no set of MedMNIST"):
        find(None, name="pneumonia")
