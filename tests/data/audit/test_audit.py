import json

import pandas as pd

from medvision.data.audit.audit import Audit, count_parts
from medvision.data.splits.leaks import count_overlaps, note_absent, note_conflicts, note_few
from medvision.files import read_json, write_json


def make_table(patients, labels, split, dataset="made"):
    return pd.DataFrame(
        {
            "path": [f"{row}.png" for row in range(len(patients))],
            "frame": 0,
            "dataset": dataset,
            "patient": list(patients),
            "label": list(labels),
            "split": split,
            "group": range(len(patients)),
        }
    )


def test_audit_is_plain_json(tmp_path):
    table = make_table("ab", "xy", ["train", "val"])
    audit = Audit("given", count_parts(table, table["label"]))
    assert read_json(write_json(tmp_path / "audit.json", audit.to_json())) == audit.to_json()
    assert list(json.loads(json.dumps(audit.to_json()))) == [
        *("mode", "counts", "overlaps", "dropped", "remaining", "notes", "generated", "flow")
    ]


def test_odd_labels_are_counted():
    table = make_table("abcdefgh", ["", "a", "a|b", "b"] * 2, "train")
    expected = {"images": 8, "patients": 8, "unlabelled": 2, "per_class": {"a": 4, "b": 4}}
    assert count_parts(table, table["label"]) == {"train": expected}


def test_overlaps_count_patients_and_images_once():
    table = make_table("aaab", "xxxx", ["train", "val", "test", "test"])
    assert count_overlaps(table, ["1", "2", "1", "1"], table["split"]) == {
        "patients": 1,
        "images": 1,
    }


def test_equal_ids_of_two_datasets_are_two_patients():
    table = make_table("aa", "xy", ["train", "test"], dataset=["one", "two"])
    assert count_overlaps(table, ["", ""], table["split"]) == {"patients": 0, "images": 0}
    assert note_conflicts(table, ["", ""], table["label"]) == [
        "1 patient id under more than one dataset name, such as 'a': counted as different patients"
    ]


def test_conflicting_copies_are_noted():
    table = make_table("abc", ["x", "y", ""], "train")
    notes = note_conflicts(table, ["1", "1", "1"], table["label"])
    assert notes == ["1 image with copies under different labels, such as 0.png: check the labels"]


def test_an_image_that_ties_many_patients_is_noted():
    table = make_table("abcd", "xxxx", "train").assign(group=[0, 0, 0, 1])
    assert note_conflicts(table, ["1", "1", "1", "2"], table["label"]) == [
        "one group of copies joins 3 patients and 3 images, such as 0.png: are there blank images?"
    ]


def test_a_class_absent_from_a_part_is_noted():
    table = make_table("abcd", ["x", "y", "x", ""], ["train", "train", "val", "test"])
    assert note_absent(table, table["label"]) == ["no image of 'y' in val"]


def test_a_part_with_few_patients_of_a_class_is_noted():
    patients = [f"p{n}" for n in range(18)] + ["p0"] * 9
    table = make_table(patients, ["x"] * 9 + ["x|y"] * 9 + ["y"] * 9, "train")
    table.loc[10:17, "split"] = "val"
    assert note_few(table, table["label"]) == [
        "only 2 patients of 'y' in train (rule of thumb: at least 10): what is said of them "
        "is uncertain"
    ]
    table = make_table("abcde", "xxxxx", "test")
    assert note_few(table, table["label"]) == []
    table = make_table("abcd", "xxx ", "val")
    assert len(note_few(table, table["label"])) == 2
