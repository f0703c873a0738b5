import pandas as pd
import pytest

from medvision.data.sources.label_table import join_labels, read_sidecar
from medvision.errors import MedvisionError

ROWS = pd.DataFrame({"patient": ["007", "8"], "study": ["s", ""], "series": ["x.1", "x.2"]})


def write(tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("patient,label\n007,sick\n8,well\n", ["sick", "well"]),
        ("study;label\ns;sick\n", ["sick", ""]),
        ("series,label\nx.2,well\nx.1, sick \n", ["sick", "well"]),
        ("patient,series,label\n8,x.1,sick\n8,x.2,well\n", ["sick", "well"]),  # the finest
    ],
)
def test_labels_come_by_the_finest_id(tmp_path, text, labels):
    assert join_labels(read_sidecar(write(tmp_path, text)), ROWS)[0].tolist() == labels


def test_foreign_names_are_mapped(tmp_path):
    path = write(tmp_path, "Case,series,Diagnosis\n007,q,sick\n")
    found = read_sidecar(path, {"patient": "Case", "label": "Diagnosis"})
    assert found.key == "patient"
    assert join_labels(found, ROWS)[0].tolist() == ["sick", ""]


def test_what_does_not_meet_is_counted_by_number_never_by_id(tmp_path):
    path = write(tmp_path, "patient,label\n7,sick\n007,sick\n,well\n")
    facts = join_labels(read_sidecar(path), ROWS)[1]
    assert facts == {
        "file": "labels.csv", "by": "patient", "lines": 3, "lines_without_images": 2,
        "such_lines": [2, 4], "images_without_label": 1, "such_images": [2],
    }  # fmt: skip


def test_an_empty_id_meets_nothing(tmp_path):
    path = write(tmp_path, "study,label\n,sick\ns,well\n")
    assert join_labels(read_sidecar(path), ROWS)[0].tolist() == ["well", ""]


def test_mistakes_are_told_without_ids(tmp_path):
    with pytest.raises(MedvisionError, match=r"no column 'label' \(did you mean 'labels'\?\); say"):
        read_sidecar(write(tmp_path, "patient,labels\n007,sick\n"))
    with pytest.raises(MedvisionError, match="no column 'series' or 'study' or 'patient'"):
        read_sidecar(write(tmp_path, "id,label\n007,sick\n"))
    twice = write(tmp_path, "patient,label\n007,sick\n8,well\n007,well\n")
    with pytest.raises(MedvisionError, match="lines 2 and 4 give one patient two labels") as caught:
        read_sidecar(twice)
    assert "007" not in str(caught.value)
    none = read_sidecar(write(tmp_path, "patient,label\n7,sick\n"))
    with pytest.raises(
        MedvisionError, match=r"none of the 1 patient ids .* leading zeros included"
    ):
        join_labels(none, ROWS)
