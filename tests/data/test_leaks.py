"""Ten planted leaks, from files to a split: each refused, joined or told; a clean set silent."""

import cv2
import numpy as np
import pandas as pd
import pytest

from medvision.data.audit.near_duplicates import SOUGHT
from medvision.data.formats.decode import decode, pixel_digest
from medvision.data.manifest.manifest import read_manifest
from medvision.data.sources.prepare import prepare
from medvision.data.splits.splits import assign_splits
from medvision.errors import MedvisionError

PARTS = ["train"] * 30 + ["val"] * 12 + ["test"] * 18


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "key"))


def draw(seed):
    random = np.random.default_rng(seed)
    coarse = cv2.resize(random.normal(size=(9, 9)), (72, 72), interpolation=cv2.INTER_CUBIC)
    image = coarse + cv2.GaussianBlur(random.normal(size=(72, 72)), (0, 0), 2)
    return (230 * (image - image.min()) / (image.max() - image.min()) + 10).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Sixty images of as many patients, none like another."""
    place = tmp_path_factory.mktemp("pictures")
    for n in range(60):
        cv2.imwrite(str(place / f"{n:02d}.png"), draw(n))
    return place


@pytest.fixture
def rows(pictures):
    """A clean table of them: a patient each, two classes, a split."""
    return pd.DataFrame(
        {
            "path": [str(pictures / f"{n:02d}.png") for n in range(60)],
            "patient": [f"p{n}" for n in range(60)],
            "label": ["ill", "well"] * 30,
            "split": PARTS,
        }
    )


class Told:
    """What `prepare` and the split say of a table."""

    def __init__(self, rows, place, **asked):
        rows.to_csv(place / "rows.csv", index=False)
        self.prepared = prepare("table", place / "out", input=place / "rows.csv", dataset=None)
        manifest = read_manifest(self.prepared.manifest)
        files = zip(manifest.files(), manifest.table["frame"], strict=True)
        digests = [pixel_digest(decode(path, frame)) for path, frame in files]
        labels = manifest.table["label"]
        self.table, self.audit = assign_splits(manifest.table, digests, labels, **asked)
        self.notes = self.audit.notes + self.prepared.audit

    def says(self, words):
        return any(words in note for note in self.notes)

    def joins(self, one, two):
        return self.table["split"][one] == self.table["split"][two]


def test_a_clean_set_raises_no_alarm(rows, tmp_path):
    told = Told(rows, tmp_path)
    assert [note for note in told.notes if "the positive class is" not in note] == []
    assert told.prepared.copies == 0
    assert len(told.table) == 60


def test_1_a_patient_in_two_parts_is_refused(rows, tmp_path):
    rows.loc[0, "patient"] = rows.loc[59, "patient"]
    with pytest.raises(MedvisionError, match="leaks, with 1 patient and 0 images in more than one"):
        Told(rows, tmp_path)


def test_2_a_copied_file_in_two_parts_is_refused(rows, tmp_path):
    rows.loc[0, "path"] = place = str(tmp_path / "copy.png")
    cv2.imwrite(place, draw(59))
    with pytest.raises(MedvisionError, match="leaks, with 0 patients and 1 image in more than one"):
        Told(rows, tmp_path)


def test_3_a_copy_in_another_format_is_refused(rows, tmp_path):
    rows.loc[0, "path"] = place = str(tmp_path / "copy.tiff")
    cv2.imwrite(place, cv2.cvtColor(draw(59), cv2.COLOR_GRAY2BGR))
    with pytest.raises(MedvisionError, match="leaks, with 0 patients and 1 image in more than one"):
        Told(rows, tmp_path)


def test_4_a_resized_copy_is_joined_in_computed_splits(rows, tmp_path):
    rows.loc[0, "path"] = place = str(tmp_path / "small.png")
    cv2.imwrite(place, cv2.resize(draw(59), (64, 64), interpolation=cv2.INTER_AREA))
    for seed in (0, 1):
        told = Told(rows.drop(columns="split"), tmp_path, split_seed=seed)
        assert told.says("1 pair of near copies between 1 pair of patients, such as lines 2 and 61")
        assert told.says("1 of them under different labels: joined")
        assert told.joins(0, 59)


def test_5_a_copy_under_another_label_is_told(rows, tmp_path):
    rows.loc[0, "path"] = place = str(tmp_path / "copy.png")
    cv2.imwrite(place, draw(1))
    told = Told(rows, tmp_path)
    assert told.says("1 image with copies under different labels")
    assert told.says(
        "1 image held by more than one patient, pixel for pixel (2 patients, such as those of "
        "lines 2 and 3)"
    )


def test_6_a_patient_of_two_sites_is_tested_as_a_whole(rows, tmp_path):
    rows["site"] = ["North"] * 40 + ["South"] * 20
    rows.loc[0, "patient"] = rows.loc[59, "patient"]
    told = Told(rows, tmp_path, mode="site")
    assert told.says("1 rows of other sites are test with their patients")
    assert told.joins(0, 59)
    assert told.table["split"][0] == "test"


def test_7_a_group_of_ones_own_is_kept_whole_or_told(rows, tmp_path):
    rows["group"] = ["family" if n in (0, 59) else "" for n in range(60)]
    assert Told(rows, tmp_path).says("1 group of the manifest lie in more than one given part")
    told = Told(rows.drop(columns="split"), tmp_path)
    assert told.joins(0, 59)


def test_8_a_copy_in_another_data_set_is_refused(rows, tmp_path):
    rows["dataset"] = ["east"] * 30 + ["west"] * 30
    rows.loc[0, "path"] = place = str(tmp_path / "copy.png")
    cv2.imwrite(place, draw(59))
    with pytest.raises(MedvisionError, match="leaks, with 0 patients and 1 image"):
        Told(rows, tmp_path)
    assert Told(rows.drop(columns="split"), tmp_path).joins(0, 59)


def test_9_a_copied_frame_of_an_array_file_is_refused(rows, tmp_path):
    frames = [draw(n) for n in range(60)]
    frames[0] = frames[59]
    np.savez(tmp_path / "all.npz", np.stack(frames))
    rows = rows.assign(path=str(tmp_path / "all.npz"), frame=range(60))
    with pytest.raises(MedvisionError, match=r"all.npz in train is the same image as .* frame 59"):
        Told(rows, tmp_path)
    assert Told(rows.drop(columns="split"), tmp_path).joins(0, 59)


def test_10_a_near_copy_in_a_given_split_is_only_told(rows, tmp_path):
    rows.loc[0, "path"] = place = str(tmp_path / "copy.jpg")
    cv2.imwrite(place, draw(59), [cv2.IMWRITE_JPEG_QUALITY, 75])
    told = Told(rows, tmp_path)
    assert told.table["split"].tolist() == PARTS
    assert told.says("1 of them lie in two parts of the given split")
    assert told.says("lie in more than one given part (near copies, or a `group` of your own), "
                     "such as that of its lines 2 (train) and 61 (test)")  # fmt: skip
    assert told.prepared.card.facts["audit"]["near_copies"] == {
        "pairs": 1, "across": 1, "lines": [[2, 61]], "sought": SOUGHT
    }  # fmt: skip
