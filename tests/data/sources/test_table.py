import pytest

from medvision.data.manifest.card import Card
from medvision.data.manifest.manifest import read_manifest, write_manifest
from medvision.data.sources.table import find as find_table
from medvision.errors import MedvisionError


def plant(folder, text, name="labels.csv"):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for image in "abc":
        (folder / "images" / f"{image}.png").write_bytes(b"")
    (folder / name).write_text(text)
    return folder / name


TEXT = "file,pid,label_name,kV,split\nimages/a.png,007,x,120,test\nimages/b.png,8,,90,test\n"
COLUMNS = {"path": "file", "patient": "pid", "label": "label_name"}


def test_a_foreign_table_with_test_rows_only_is_read(tmp_path):
    found = find_table(plant(tmp_path / "covid", TEXT), columns=COLUMNS)
    table = found.table
    assert table["path"].tolist() == [str(tmp_path / f"covid/images/{n}.png") for n in "ab"]
    assert table["patient"].tolist() == ["007", "8"]
    assert table["label"].tolist() == ["x", ""]
    assert table["split"].tolist() == ["test", "test"]
    assert table["kV"].tolist() == ["120", "90"]
    assert (found.dataset, found.classes) == ("covid", None)
    assert found.patient_rule == "the column 'pid'"
    assert found.facts == {"table": "labels.csv", "carried": ["kV"], "notes": []}


def test_what_was_found_becomes_the_same_manifest(tmp_path):
    found = find_table(plant(tmp_path / "in", TEXT), columns=COLUMNS)
    manifest = read_manifest(write_manifest(tmp_path / "out", found.table, Card(found.dataset)))
    for name in ("patient", "label", "split", "kV", "dataset"):
        assert manifest.table[name].tolist() == found.table[name].tolist()
    assert [str(path.resolve()) for path in manifest.files()] == found.table["path"].tolist()


def test_masks_become_absolute_too(tmp_path):
    text = "path,patient,mask\nimages/a.png,1,images/c.png\nimages/b.png,1,\n"
    table = find_table(plant(tmp_path, text)).table
    assert table["mask"].tolist() == [str(tmp_path / "images" / "c.png"), ""]


def test_the_dataset_of_the_rows_wins_over_the_folder(tmp_path):
    text = "path,patient,dataset\nimages/a.png,1,DRIVE\nimages/b.png,1,{}\n"
    assert find_table(plant(tmp_path, text.format("DRIVE"))).dataset == "DRIVE"
    assert find_table(plant(tmp_path, text.format("other"))).dataset == tmp_path.name


def test_a_folder_stands_for_its_one_table(tmp_path):
    plant(tmp_path, "path,patient\nimages/a.png,1\n", "rows.csv")
    assert find_table(tmp_path).facts["table"] == "rows.csv"
    plant(tmp_path, "path,patient\nimages/b.png,1\n")
    assert find_table(tmp_path).facts["table"] == "labels.csv"
    plant(tmp_path, "path,patient\nimages/b.png,1\n", "manifest.csv")
    with pytest.raises(MedvisionError, match=r"several tables \(labels.csv, manifest.csv\); say"):
        find_table(tmp_path)
    with pytest.raises(MedvisionError, match=r"holds no CSV; say which table with input=FILE\.csv"):
        find_table(tmp_path / "images")


def test_a_prepared_manifest_tells_that_its_patients_are_hashed(tmp_path):
    path = plant(tmp_path, "path,patient\nimages/a.png,p1\n", "manifest.csv")
    card = Card("ds", ["x", "y"], key="12ab34cd", facts={"sizes": 1})
    found = find_table(
        write_manifest(path.parent, read_manifest(path).table.drop(columns="dataset"), card)
    )
    assert found.facts["hashed_with"] == "12ab34cd"
    assert found.facts["sizes"] == 1
    assert (found.dataset, found.classes) == ("ds", ["x", "y"])
