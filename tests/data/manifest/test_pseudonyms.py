import hashlib
import hmac

import pytest

from medvision.data.manifest.pseudonyms import (
    describe_rule,
    patients_from_names,
    pseudonym,
)
from medvision.errors import MedvisionError

KEY = bytes(range(32))


def test_pseudonym_is_an_hmac_of_dataset_and_patient():
    told = hmac.new(KEY, b"2:ds:007", hashlib.sha256).hexdigest()
    assert pseudonym("ds", "007", KEY) == "p" + told[:12]


def test_pseudonyms_differ_by_dataset_patient_and_key():
    names = {
        pseudonym(*parts)
        for parts in [
            ("a", "1", KEY), ("b", "1", KEY), ("a", "2", KEY), ("a", "1", KEY[::-1]),
            ("a:1", "", KEY), ("a", "1:", KEY), ("a", "01", KEY),
        ]
    }  # fmt: skip
    assert len(names) == 7


def test_path_rule_makes_each_file_its_own_patient_but_of_arrays_each_image():
    names, frames = ["a/x.png", "b/x.png", "s.npz", "s.NPY"], [0, 0, 0, 17]
    told = patients_from_names(names, frames, "path")
    assert told == ["a/x.png", "b/x.png", "s.npz#0", "s.NPY#17"]
    for name in ("c.dcm", "v.nii.gz", "film.mp4"):  # a person's slices are no persons
        assert patients_from_names([name] * 2, [0, 31], "path") == [name] * 2


def test_pattern_takes_its_group_from_the_name():
    names = ["train/PNEUMONIA/person12_virus_3.jpeg", "NORMAL/person007_1.jpeg"]
    assert patients_from_names(names, [0, 0], r"(person\d+)_") == ["person12", "person007"]
    assert patients_from_names(["p1/x.png"], [0], r"([^/]+)/(?:x|y)") == ["p1"]


def test_names_without_a_patient_are_all_counted():
    names = [f"img{n}.png" for n in range(7)] + ["p1_.png"]
    with pytest.raises(MedvisionError, match=r"no patient in 7 of 8 .*'img0.png'.*and 2 more"):
        patients_from_names(names, [0] * 8, r"(p\d)_")


def test_an_empty_group_is_no_patient():
    with pytest.raises(MedvisionError, match="no patient in 1 of 1"):
        patients_from_names(["_x.png"], [0], r"^(\d*)_")


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("(p", "is not a regular expression"),
        (r"(p)(\d)", "has 2 groups"),
        (r"\(p\)", "has 0 groups"),
    ],
)
def test_a_broken_pattern_is_refused(rule, told):
    with pytest.raises(MedvisionError, match=told):
        patients_from_names(["p1"], [0], rule)


def test_the_path_rule_is_said_aloud():
    assert describe_rule("path") == "each image is its own patient (columns.patient=path)"
    assert "(p.)_" in describe_rule("(p.)_")
