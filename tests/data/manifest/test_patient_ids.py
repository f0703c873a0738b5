import pandas as pd
import pytest

from medvision.data.manifest.manifest import read_manifest
from medvision.data.manifest.patient_ids import normalise_id
from medvision.errors import MedvisionError


@pytest.mark.parametrize(
    ("one", "other"),
    [("P1", "p1"), (" p 1", "p1"), ("001", "1"), ("1.0", "1"), ("P007", "p7"), ("é", "e\u0301")],
)
def test_ids_that_differ_only_in_writing_are_one(one, other):
    assert normalise_id(one) == normalise_id(other)


@pytest.mark.parametrize(("one", "other"), [("1", "10"), ("1.5", "1"), ("a1", "b1"), ("1.0", "10")])
def test_other_ids_stay_apart(one, other):
    assert normalise_id(one) != normalise_id(other)


@pytest.fixture
def manifest(tmp_path):
    ids = ["p1", "P1", "007", "7", "7.0", "N/A", "p2", "unknown"]
    names = [f"{number}.png" for number in range(len(ids))]
    for name in names:
        (tmp_path / name).touch()
    pd.DataFrame({"path": names, "patient": ids}).to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path / "manifest.csv"


def test_ids_in_two_writings_and_words_for_missing_are_counted(manifest):
    found = read_manifest(manifest)
    writing, missing = found.notes
    assert "5 patient ids differ only in writing and may be 2 patients" in writing
    assert "those of lines" in writing
    assert "columns.patient_normalise=true joins them" in writing
    assert missing.startswith("2 rows with a word for missing as the patient ('N/A', 'unknown')")


def test_they_are_joined_when_that_is_asked_for(manifest):
    found = read_manifest(manifest, {"patient_normalise": True})
    assert found.table["patient"].tolist()[:5] == ["p1", "p1", "7", "7", "7"]
    assert len(found.notes) == 1
    with pytest.raises(MedvisionError, match="patient_normalise=5 must be true or false"):
        read_manifest(manifest, {"patient_normalise": "5"})
