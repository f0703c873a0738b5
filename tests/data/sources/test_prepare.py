import os
import shutil

import cv2
import nibabel
import numpy as np
import pandas as pd
import pytest

import medvision.files as files
from medvision.data.audit.near_duplicates import SOUGHT
from medvision.data.manifest.manifest import read_manifest
from medvision.data.manifest.pseudonyms import pseudonym
from medvision.data.sources import prepare as preparation
from medvision.data.sources.prepare import prepare, prepare_once
from medvision.errors import MedvisionError
from medvision.trust.user_key import fingerprint, user_key


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "key"))


@pytest.fixture
def folder(tmp_path):
    """Four patients, three images each, in class folders: `in/ill/p0_0.png` …"""
    random = np.random.default_rng(0)
    for patient in range(4):
        place = tmp_path / "in" / ("ill" if patient % 2 else "well")
        place.mkdir(parents=True, exist_ok=True)
        for number in range(3):
            pixels = random.integers(0, 255, (8 + number, 9), dtype=np.uint8)
            cv2.imwrite(str(place / f"p{patient}_{number}.png"), pixels)
    return tmp_path / "in"


RULE = {"patient": r"(p\d)_"}


def of_folder(folder, tmp_path, **options):
    return prepare("folder", tmp_path / "out", input=folder, columns=RULE, **options)


def test_patients_are_hashed_with_the_users_key(folder, tmp_path):
    prepared = of_folder(folder, tmp_path)
    key = user_key()
    expected = {pseudonym("in", f"p{n}", key) for n in range(4)}
    manifest = read_manifest(prepared.manifest)
    assert set(manifest.table["patient"]) == expected
    assert manifest.card.key == fingerprint(key)
    by_name = {path.name: p for path, p in zip(manifest.files(), manifest.table["patient"],
                                               strict=True)}  # fmt: skip
    assert by_name["p2_1.png"] == pseudonym("in", "p2", key)


def test_hashing_can_be_left_out_aloud(folder, tmp_path):
    prepared = of_folder(folder, tmp_path, deidentify=False)
    assert set(prepared.table["patient"]) == {"p0", "p1", "p2", "p3"}
    assert prepared.card.key is None
    assert not (tmp_path / "key").exists()


def test_a_data_set_name_keeps_patients_apart(folder, tmp_path):
    one = of_folder(folder, tmp_path, dataset="one").table
    two = of_folder(folder, tmp_path, dataset="two").table
    assert not set(one["patient"]) & set(two["patient"])
    assert set(two["dataset"]) == {"two"}


def test_copies_and_patients_are_joined_in_a_group(folder, tmp_path):
    shutil.copy(folder / "well" / "p0_0.png", folder / "ill" / "p3_9.png")
    prepared = of_folder(folder, tmp_path, deidentify=False)
    assert prepared.copies == 1
    table = prepared.table
    groups = {patient: set(rows["group"]) for patient, rows in table.groupby("patient")}
    assert groups["p0"] == groups["p3"]
    assert len({*map(tuple, groups.values())}) == 3
    assert all(len(found) == 1 for found in groups.values())


def test_sizes_are_counted(folder, tmp_path):
    prepared = of_folder(folder, tmp_path)
    assert prepared.sizes == {"8x9": 4, "9x9": 4, "10x9": 4}
    assert read_manifest(prepared.manifest).card.facts["sizes"] == prepared.sizes


def test_unreadable_files_stop_or_are_left_out_counted_and_named(folder, tmp_path):
    (folder / "ill" / "p1_1.png").write_text("text")
    (folder / "ill" / "p1_2.png").write_bytes(b"")
    with pytest.raises(MedvisionError, match=r"2 of 12 images cannot be used: .*p1_1\.png.*p1_2"):
        of_folder(folder, tmp_path)
    assert not (tmp_path / "out").exists()
    prepared = of_folder(folder, tmp_path, on_unreadable="exclude")
    manifest = read_manifest(prepared.manifest)
    assert len(manifest.table) == 10
    assert not {"p1_1.png", "p1_2.png"} & {path.name for path in manifest.files()}
    told = manifest.card.facts["left_out"]
    assert len(told) == 2
    assert "p1_1.png is not an image" in told[0]
    (only,) = (path for path in manifest.files() if path.name.startswith("p1_"))
    row = [path.name for path in manifest.files()].index(only.name)
    assert manifest.table["patient"][row] == pseudonym("in", "p1", user_key())


def test_nothing_usable_is_a_sentence(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "p1_1.png").write_text("text")
    with pytest.raises(MedvisionError, match="no usable image is left of 1"):
        of_folder(tmp_path / "in", tmp_path, on_unreadable="exclude")


@pytest.fixture
def table(folder, tmp_path):
    rows = [
        (path.relative_to(folder).as_posix(), path.name[:2], f"s{path.name[1]}", path.parent.name)
        for path in sorted(folder.rglob("*.png"))
    ]
    place = folder / "labels.csv"
    columns = ["path", "patient", "series", "label"]
    pd.DataFrame(rows, columns=columns).to_csv(place, index=False)
    return place


def test_series_are_hashed_too(table, tmp_path):
    prepared = prepare("table", tmp_path / "out", input=table)
    assert set(prepared.table["series"]) == {pseudonym("in", f"s{n}", user_key()) for n in range(4)}
    written = pd.read_csv(prepared.manifest, dtype=str)
    assert not set(written["patient"]) & {"p0", "p1", "p2", "p3"}
    assert set(written["series"]) == set(prepared.table["series"])


def test_a_hashed_manifest_is_not_hashed_twice(table, tmp_path, monkeypatch):
    first = prepare("table", tmp_path / "one", input=table)
    again = prepare("table", tmp_path / "two", input=first.manifest)
    assert again.table["patient"].tolist() == first.table["patient"].tolist()
    assert again.table["series"].tolist() == first.table["series"].tolist()
    assert again.card.key == first.card.key
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "other"))
    foreign = prepare("table", tmp_path / "three", input=first.manifest)
    assert not set(foreign.table["patient"]) & set(first.table["patient"])
    assert foreign.card.key == fingerprint(user_key()) != first.card.key


def test_the_tables_own_groups_stay_joined(table, tmp_path):
    rows = pd.read_csv(table, dtype=str)
    rows["group"] = ["near" if p in ("p0", "p1") else "" for p in rows["patient"]]
    rows.to_csv(table, index=False)
    made = prepare("table", tmp_path / "out", input=table, deidentify=False).table
    groups = {patient: set(found["group"]) for patient, found in made.groupby("patient")}
    assert groups["p0"] == groups["p1"]
    assert len({*map(tuple, groups.values())}) == 3


def test_an_output_over_its_input_is_refused(table, tmp_path):
    first = prepare("table", tmp_path / "one", input=table).manifest
    before = first.read_bytes()
    for place in (first, first.parent):
        with pytest.raises(MedvisionError, match=r"would overwrite its input .*another folder"):
            prepare("table", tmp_path / "one", input=place)
    assert first.read_bytes() == before
    prepare("folder", table.parent, input=table.parent, columns=RULE)
    prepare("folder", table.parent, input=table.parent, columns=RULE)  # may be repeated


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [
        ("folders", {}, r"source=folders is unknown \(did you mean 'folder'\?\)"),
        ("phantom", {"patient": 3}, r"no option 'patient' \(did you mean 'patients'\?\)"),
        ("folder", {}, "source=folder needs input=PATH"),
        ("folder", {"input": ".", "columns": {"label": "x"}}, "columns.label means nothing"),
        ("phantom", {"on_unreadable": "skip"}, "on_unreadable=skip cannot be; choose stop or ex"),
        ("folder", {"input": "none"}, "none does not exist"),
        ("folder", {"input": ".", "patient": "path"}, "say columns.patient=path"),
        ("medmnist", {"input": ".", "patient": "path"}, "say columns.patient=path"),
        ("table", {"input": ".", "patient": "x"}, "say columns.patient=x"),
        ("table", {"input": ".", "sizes": 3}, "has no option 'sizes'; it takes none"),
    ],
)
def test_mistakes_are_told_before_any_work(tmp_path, source, options, told):
    with pytest.raises(MedvisionError, match=told):
        prepare(source, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def counted(monkeypatch):
    calls = []

    def counting(*args, **options):
        calls.append(args)
        return prepare(*args, **options)

    monkeypatch.setattr(preparation, "prepare", counting)
    return calls


def touch(path):
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


def test_a_source_is_prepared_once_and_again_when_its_folder_changes(folder, counted):
    source = {"name": "folder", "input": str(folder), "columns": RULE, "dataset": None}
    first = prepare_once(source)
    assert prepare_once(source) == first
    assert len(counted) == 1
    assert first.is_relative_to(files.cache_folder())
    shutil.copy(folder / "ill" / "p1_0.png", folder / "ill" / "p1_7.png")
    second = prepare_once(source)
    assert second != first
    assert len(read_manifest(second).table) == 13
    touch(folder / "ill" / "p1_0.png")
    prepare_once(source)
    assert len(counted) == 3


def test_images_behind_a_link_are_noticed(folder, tmp_path, counted):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "in").symlink_to(folder)
    source = {"name": "folder", "input": str(tmp_path / "linked"), "columns": RULE}
    first = prepare_once(source)
    touch(folder / "ill" / "p1_0.png")
    assert prepare_once(source) != first


def test_a_changed_table_card_or_setting_is_prepared_anew(table, counted):
    source = {"name": "table", "input": str(table)}
    places = {prepare_once(source)}
    touch(table)
    places.add(prepare_once(source))
    files.write_json(table.with_name("card.json"), {"classes": ["well", "ill"]})
    places.add(prepare_once(source))
    assert read_manifest(prepare_once(source)).card.classes == ["well", "ill"]
    places.add(prepare_once(source | {"dataset": "x"}))
    assert len(places) == len(counted) == 4


def test_another_users_key_prepares_anew(table, counted, tmp_path, monkeypatch):
    source = {"name": "table", "input": str(table)}
    first = prepare_once(source)
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "other"))
    assert prepare_once(source) != first


def test_a_source_without_a_name_is_a_sentence():
    with pytest.raises(MedvisionError, match=r"data\.source has no name; .*dicom\|folder"):
        prepare_once({"input": "x"})


def test_a_half_prepared_source_is_prepared_again(table, counted):
    source = {"name": "table", "input": str(table)}
    manifest = prepare_once(source)
    manifest.unlink()  # it is written last
    assert prepare_once(source) == manifest
    assert manifest.exists()
    assert len(counted) == 2


@pytest.fixture
def slices(tmp_path):
    """Four volumes of three slices, the first of each black."""
    (tmp_path / "in").mkdir()
    for number in range(4):
        voxels = np.random.default_rng(number).integers(1, 99, (9, 9, 3)).astype(np.int16)
        voxels[..., 0] = 0
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1, 1, 3, 1])),
                     tmp_path / "in" / f"v{number}.nii")  # fmt: skip
    return tmp_path / "in"


def test_black_slices_are_no_copies_and_join_nobody(slices, tmp_path):
    own = {"patient": "path"}
    made = prepare("nifti", tmp_path / "out", input=slices, columns=own, labels="none")
    assert made.copies == 0
    assert made.table["group"].tolist() == [n for n in range(4) for _ in range(3)]
    (told,) = made.audit
    assert told.startswith("4 images (such as line 2) of one grey value")


def test_slices_of_a_volume_are_of_one_patient(slices, tmp_path):
    made = prepare("nifti", tmp_path / "out", input=slices, columns={"patient": "path"})
    assert made.table.groupby("path")["patient"].nunique().tolist() == [1] * 4
    assert made.table["patient"].nunique() == 4


def test_a_changed_table_of_labels_is_prepared_anew(slices, tmp_path, counted):
    labels = tmp_path / "labels.csv"
    labels.write_text("series,label\nv0,ill\nv1,well\n")
    source = {"name": "nifti", "input": str(slices), "columns": {"patient": "path"}}
    first = prepare_once(source | {"labels": str(labels)})
    assert prepare_once(source | {"labels": str(labels)}) == first
    labels.write_text("series,label\nv0,well\nv1,ill\n")
    touch(labels)
    second = prepare_once(source | {"labels": str(labels)})
    assert set(read_manifest(second).table["label"][:3]) == {"well"}
    assert prepare_once(source | {"labels": "none"}) not in (first, second)
    assert len(counted) == 3


def test_the_audit_is_written_beside_the_manifest(folder, tmp_path):
    label_anew(folder, "tumour", "normal")
    facts = read_manifest(of_folder(folder, tmp_path).manifest).card.facts["audit"]
    assert facts == {
        "notes": [], "near_copies": {"pairs": 0, "across": 0, "sought": SOUGHT, "lines": []},
        "shortcuts": [],
    }  # fmt: skip


def test_a_planted_site_shortcut_is_told(tmp_path):
    made = prepare("phantom", tmp_path, patients=30, slices=1, size=32, shortcut=1.0)
    (told,) = (note for note in made.audit if "red flag" in note)
    assert "'lesion' can be told from the column site alone (AUROC 1.00" in told
    assert made.card.facts["audit"]["shortcuts"][0]["fact"] == "the column site"


def write_table(folder, **columns):
    """A row an image of `folder`, and columns of one value each."""
    names = sorted(path.relative_to(folder.parent).as_posix() for path in folder.rglob("*.png"))
    table = pd.DataFrame({"path": names, "patient": [name[-8:-4] for name in names]})
    table.assign(**columns).to_csv(folder.parent / "rows.csv", index=False)
    return folder.parent / "rows.csv"


def test_of_a_table_only_what_runs_read_is_kept(folder, tmp_path):
    place = write_table(folder, x_age=41.5, site="A", kV=120, remark="Quennell", lab_k=4)
    prepared = prepare("table", tmp_path / "out", input=place, carry=["lab_"])
    manifest = read_manifest(prepared.manifest)
    assert manifest.carried == ["lab_k"]
    assert {"x_age", "site"} <= set(manifest.table)
    assert prepared.card.facts["carried"] == ["lab_k"]
    assert any("2 columns that no run reads left out" in note for note in prepared.audit)
    assert prepared.told == ["no run reads kV, remark: left out; carry=[NAME] keeps one"]
    written = "".join(path.read_text(errors="replace") for path in (tmp_path / "out").iterdir())
    assert "remark" not in written
    assert "Quennell" not in written
    plain = prepare("table", tmp_path / "plain", input=place, deidentify=False)
    assert {"kV", "remark", "lab_k"} <= set(plain.table)
    assert plain.told == []


def test_what_would_name_patients_is_refused_before_anything_is_decoded(folder, tmp_path, decoded):
    place = write_table(folder)
    table = pd.read_csv(place).assign(x_name=[f"Quennell {n}" for n in range(12)])
    table.to_csv(place, index=False)
    with pytest.raises(MedvisionError, match="x_name' has 12 different values for 12 patients"):
        prepare("table", tmp_path / "out", input=place)
    assert not decoded
    assert not (tmp_path / "out").exists()
    kept = prepare("table", tmp_path / "out", input=place, carry=["x_name"])
    assert "x_name" in kept.table
    left = prepare("table", tmp_path / "less", input=place, columns={"x_name": None})
    assert "x_name" not in left.table


def test_readers_stand_under_letters_however_often_they_are_prepared(folder, tmp_path):
    place = write_table(folder, reader_Quennell="ill", reader_b="well")
    first = prepare("table", tmp_path / "one", input=place)
    readers = [name for name in first.table if name.startswith("reader_")]
    assert len(readers) == 2
    assert f"reader_Quennell is written as {readers[0]}" in first.told
    again = prepare("table", tmp_path / "two", input=first.manifest)
    assert [name for name in again.table if name.startswith("reader_")] == readers
    other = prepare("table", tmp_path / "three", input=write_table(folder, reader_b="ill"))
    assert readers[1] in other.table
    for written in tmp_path.glob("o*/*"):
        assert b"Quennell" not in written.read_bytes()


def test_masks_of_readers_are_found_from_where_the_manifest_lies(folder, tmp_path):
    masks = [f"in/ill/p1_{n % 3}.png" for n in range(12)]
    place = write_table(folder, reader_b=masks)
    prepared = prepare("table", tmp_path / "out" / "deep", input=place)
    (reader,) = (name for name in prepared.table if name.startswith("reader_"))
    cells = pd.read_csv(prepared.manifest)[reader]
    assert [(prepared.manifest.parent / cell).resolve() for cell in cells] == [
        (tmp_path / mask).resolve() for mask in masks
    ]


def test_columns_a_training_reads_are_kept_and_prepared_once(folder, tmp_path):
    place = write_table(folder, ward="east", kV=120)
    source = {"name": "table", "input": str(place)}
    one, other = prepare_once(source), prepare_once(source, None, None, ["ward"])
    assert one != other
    assert read_manifest(one).carried == []
    assert read_manifest(other).carried == ["ward"]
    asked = prepare_once(source | {"carry": ["kV"]})
    assert read_manifest(asked).carried == ["kV"]


def label_anew(folder, ill, well):
    """Call the two class folders otherwise."""
    (folder / "ill").rename(folder / ill)
    (folder / "well").rename(folder / well)


def test_the_card_names_the_negative_class_first_and_says_that_the_order_changed(folder, tmp_path):
    label_anew(folder, "haemorrhage", "normal")
    prepared = of_folder(folder, tmp_path)
    assert prepared.card.classes == ["normal", "haemorrhage"]
    assert prepared.audit[0].startswith(
        "the positive class is 'haemorrhage', for 'normal' is named as the negative one, and stands"
    )


def test_a_card_says_no_order_that_nothing_tells(folder, tmp_path):
    label_anew(folder, "left", "right")
    prepared = of_folder(folder, tmp_path)
    assert prepared.card.classes is None
    assert prepared.audit[0].startswith("nothing tells which of 'left' and 'right'")


def test_the_classes_of_a_card_are_not_those_of_another_column(folder, tmp_path):
    prepared = of_folder(folder, tmp_path)
    assert prepared.card.classes == ["well", "ill"]
    table = pd.read_csv(prepared.manifest).assign(side="left")
    table.to_csv(prepared.manifest, index=False)
    assert read_manifest(prepared.manifest, {"label": "side"}).card.classes is None
    assert read_manifest(prepared.manifest, {"label": "label"}).card.classes == ["well", "ill"]
