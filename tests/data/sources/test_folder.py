import numpy as np
import pytest

from medvision.data.manifest.card import Card
from medvision.data.manifest.manifest import read_manifest, write_manifest
from medvision.data.sources.folder import find as find_folder
from medvision.errors import MedvisionError


def plant(top, *names):
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(b"x")
    return top


def rows(found):
    return found.table[["label", "split"]].to_numpy().tolist()


def test_class_folders_are_labels(tmp_path):
    found = find_folder(
        plant(tmp_path / "set", "b/1.png", "a/deep/er/2.JPG"), columns={"patient": "path"}
    )
    assert rows(found) == [["a", ""], ["b", ""]]
    assert found.table["patient"].tolist() == ["a/deep/er/2.JPG", "b/1.png"]
    assert found.table["path"].tolist()[1] == str(tmp_path / "set" / "b" / "1.png")
    assert (found.dataset, found.classes) == ("set", None)
    assert found.patient_rule == "each image is its own patient (columns.patient=path)"


@pytest.mark.parametrize(
    "pattern",
    ["{split}/{label}/x/1.png", "chest_xray/{split}/{label}/1.png", "{label}/{split}/1.png"],
)
def test_split_folders_are_understood_in_their_usual_spellings(tmp_path, pattern):
    spellings = {"Training": "train", "valid": "val", "test": "test"}
    names = [pattern.format(split=s, label=label) for s in spellings for label in ("sick", "well")]
    found = find_folder(plant(tmp_path, *names), columns={"patient": "path"})
    assert sorted(rows(found)) == sorted(
        [label, split] for split in spellings.values() for label in ("sick", "well")
    )


def test_a_flat_folder_is_unlabelled(tmp_path):
    assert (
        rows(find_folder(plant(tmp_path, "1.png", "2.dcm"), columns={"patient": "path"}))
        == [["", ""]] * 2
    )
    flat = find_folder(plant(tmp_path / "s", "train/1.png"), columns={"patient": "path"})
    assert rows(flat) == [["", "train"]]


def test_images_beside_split_folders_are_refused(tmp_path):
    plant(tmp_path, "train/a/1.png", "test/a/2.png", "extra/a/3.png", "4.png")
    with pytest.raises(MedvisionError, match=r"split folders, these do not: \.; extra\. Name"):
        find_folder(tmp_path, columns={"patient": "path"})


def test_patients_are_told_by_pattern_across_folders(tmp_path):
    plant(tmp_path, "well/p1_a.png", "sick/p1_b.png", "sick/p2_b.png")
    found = find_folder(tmp_path, columns={"patient": r"(p\d)_"})
    assert found.table["patient"].tolist() == ["p1", "p2", "p1"]
    with pytest.raises(MedvisionError, match="finds no patient in 1 of 3"):
        find_folder(tmp_path, columns={"patient": r"(p1)_"})


def test_without_a_patient_rule_the_ways_out_are_told(tmp_path):
    with pytest.raises(MedvisionError) as caught:
        find_folder(plant(tmp_path, "a/p1.png"))
    told = str(caught.value)
    assert told.startswith(f"no patient rule was given for {tmp_path}, where files are called")
    assert "'a/p1.png'; say columns.patient=path" in told
    assert "columns.patient='(p[0-9]+)_'" in told


def test_hidden_and_other_files_are_skipped_and_counted(tmp_path):
    plant(tmp_path, "a/1.png", "a/._1.png", ".cache/2.png", "Thumbs.db", "x.csv", "__MACOSX/3.png")
    found = find_folder(tmp_path, columns={"patient": "path"})
    assert len(found.table) == 1
    assert found.facts == {"skipped": 5}


def test_array_files_give_a_row_a_frame(tmp_path):
    plant(tmp_path, "b/broken.npz")
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "s.npy", np.zeros((3, 4, 4), np.uint8))
    np.savez(tmp_path / "b" / "t.npz", x=np.zeros((2, 4, 4)), y=np.zeros((1, 4, 4, 3)), z=[1, 2])
    table = find_folder(tmp_path, columns={"patient": "path"}).table
    assert table["frame"].tolist() == [0, 1, 2, 0, 0, 1, 2]
    assert table["patient"].tolist()[1:4] == ["a/s.npy#1", "a/s.npy#2", "b/broken.npz#0"]
    assert table["patient"].is_unique


def test_nothing_to_find_is_said(tmp_path):
    with pytest.raises(MedvisionError, match=r"no image was found in .* \(1 other files\)"):
        find_folder(plant(tmp_path, "notes.txt"), columns={"patient": "path"})
    with pytest.raises(MedvisionError, match="is no folder; source=folder needs input=DIR"):
        find_folder(tmp_path / "notes.txt", columns={"patient": "path"})


def test_names_that_are_not_utf8_are_refused(tmp_path):
    try:
        plant(tmp_path, "a/\udcff.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    with pytest.raises(MedvisionError, match="file names that are not UTF-8"):
        find_folder(tmp_path, columns={"patient": "path"})


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    plant(tmp_path / "far", "1.png")
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "a").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "loop").symlink_to(tmp_path / "top")
    assert rows(find_folder(tmp_path / "top", columns={"patient": "path"})) == [["a", ""]]


def test_what_was_found_becomes_a_manifest(tmp_path):
    found = find_folder(
        plant(tmp_path / "in", "val/a b/ü 1.png", "train/c/(2).png"), columns={"patient": "path"}
    )
    manifest = read_manifest(write_manifest(tmp_path / "out", found.table, Card(found.dataset)))
    assert [str(path.resolve()) for path in manifest.files()] == found.table["path"].tolist()
    assert manifest.table[["label", "split"]].to_numpy().tolist() == rows(found)
