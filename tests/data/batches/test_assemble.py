import json
import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from medvision.data.batches.assemble import assemble, assemble_foreign
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.manifest.manifest import read_manifest
from medvision.data.manifest.path_map import reveal_paths
from medvision.data.sources.prepare import prepare
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError
from medvision.tasks.classes import Classes

READER = Reader(size=(12, 12))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))


def plant(folder, patients=10, seed=0, size=(12, 14), labels=("ill", "well"), **columns):
    """Two images a patient; patient 2k is of the one label, 2k+1 of the other."""
    random = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(2 * patients):
        name = f"images/{number}.png"
        cv2.imwrite(str(folder / name), random.integers(0, 255, size, dtype=np.uint8))
        patient = f"{folder.name}{number // 2}"
        rows.append((name, patient, labels[number // 2 % len(labels)]))
    table = pd.DataFrame(rows, columns=["path", "patient", "label"]).assign(**columns)
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def rewrite(manifest, change):
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    change(table)
    table.to_csv(manifest, index=False)
    return manifest


def module(manifest, **options):
    return ImageDataModule(manifest=str(manifest), reader=options.pop("reader", READER), **options)


def serve(manifest, **options):
    return assemble(module(manifest, **options).options, Classes)


def test_rows_labels_pixels_and_digests_belong_together(tmp_path):
    samples, _, _ = serve(plant(tmp_path / "a"))
    assert len(samples) == 20
    for row, path in enumerate(samples.table["path"]):
        assert np.array_equal(samples.gather(np.array([row]))[0], READER.read(Path(path)))
        expected = samples.target.names.index(samples.table["label"][row])
        assert samples.targets["label"][row] == expected
    assert samples.digest == [samples.stores[0].digests[at] for _, at in samples.where]


def test_rows_that_leave_take_their_pixels_along(tmp_path):
    manifest = plant(tmp_path / "a", split=["train", "test"] * 5 + ["train"] * 10)  # five leak
    samples, audit, _ = serve(manifest, on_leak="drop", val_share=0.4)
    assert audit.dropped["patients_rows"] == 5
    assert len(samples) == 15
    for row, path in enumerate(samples.table["path"]):
        assert np.array_equal(samples.gather(np.array([row]))[0], READER.read(Path(path)))


def test_unreadable_images_are_left_out_counted_and_named(tmp_path):
    manifest = plant(tmp_path / "a")
    (tmp_path / "a/images/3.png").write_text("no image")
    with pytest.raises(MedvisionError, match=r"cannot read 1 of 20 images: .*3\.png"):
        serve(manifest)
    samples, audit, _ = serve(manifest, on_unreadable="exclude")
    assert len(samples) == 19
    assert any("1 unreadable images were left out" in note for note in audit.notes)
    for row, path in enumerate(samples.table["path"]):
        assert np.array_equal(samples.gather(np.array([row]))[0], READER.read(Path(path)))


def test_extra_rows_only_train_and_come_from_their_own_store(tmp_path):
    own, extra = plant(tmp_path / "a"), plant(tmp_path / "b", patients=4, seed=1)
    alone, _, _ = serve(own)
    samples, audit, _ = serve(own, extra=[str(extra)])
    added = samples.table.iloc[len(alone) :]
    assert set(added["split"]) == {"train"}
    assert set(added["dataset"]) == {"b"}
    assert samples.table["split"][: len(alone)].tolist() == alone.table["split"].tolist()
    assert len(samples.stores) == 2
    mixed = np.array([len(alone) + 3, 0, len(alone), 5])
    for row, pixels in zip(mixed, samples.gather(mixed), strict=True):
        assert np.array_equal(pixels, READER.read(Path(samples.table["path"][row])))
    assert audit.counts["train"]["images"] == alone.rows("train").size + 8
    assert "8 rows of data.extra joined train" in audit.notes


def test_an_extra_manifest_without_masks_joins_one_that_has_them(tmp_path):
    own, extra = plant(tmp_path / "a"), plant(tmp_path / "b", patients=4, seed=1)
    rewrite(own, lambda t: t.__setitem__("mask", t["path"]))
    samples, _, _ = serve(own, extra=[str(extra)])
    assert set(samples.table["mask"][samples.table["dataset"] == "b"]) == {""}


def test_the_val_and_test_rows_of_an_extra_manifest_stay_unseen(tmp_path):
    split = ["train"] * 4 + ["val", "val", "test", "test"]
    own, extra = plant(tmp_path / "a"), plant(tmp_path / "b", patients=4, seed=1, split=split)
    samples, audit, _ = serve(own, extra=[str(extra)])
    added = samples.table[samples.table["dataset"] == "b"]
    assert [Path(path).stem for path in added["path"]] == ["0", "1", "2", "3"]
    for row in added.index:
        pixels = READER.read(Path(added["path"][row]))
        assert np.array_equal(samples.gather(np.array([row]))[0], pixels)
    assert samples.unchecked == []  # ids as given are compared with ids as given
    keyed = extra.with_name("card.json")
    keyed.write_text('{"dataset": "b", "key": "ffffffff"}')
    samples, audit, _ = serve(own, extra=[str(extra)])
    assert any("not checked: prepared with another key" in note for note in audit.notes)
    assert samples.unchecked == [
        "patients of data.extra (b) not checked: prepared with another key"
    ]


def held_row(manifest):
    samples, _, _ = serve(manifest)
    return samples.table.iloc[samples.rows("test")[0]]


def test_extra_rows_of_a_patient_who_tests_are_refused(tmp_path):
    own, extra = plant(tmp_path / "a"), plant(tmp_path / "b", patients=4, seed=1)
    patient = held_row(own)["patient"]
    rewrite(extra, lambda t: t.__setitem__("dataset", "a"))
    rewrite(extra, lambda t: t.__setitem__("patient", [patient, *t["patient"][1:]]))
    told = f"shares 1 patients and 0 images with val or test, such as patient {patient}; remove"
    with pytest.raises(MedvisionError, match=told):
        serve(own, extra=[str(extra)])


def test_extra_rows_of_an_image_that_tests_are_refused(tmp_path):
    own, extra = plant(tmp_path / "a"), plant(tmp_path / "b", patients=4, seed=1)
    copy = Path(held_row(own)["path"]).read_bytes()
    (tmp_path / "b/images/5.png").write_bytes(copy)
    with pytest.raises(MedvisionError, match="shares 0 patients and 1 images with val or test"):
        serve(own, extra=[str(extra)])


def test_the_same_id_in_another_data_set_is_another_patient(tmp_path):
    own, extra = plant(tmp_path / "a"), plant(tmp_path / "b", patients=4, seed=1)
    patient = held_row(own)["patient"]
    rewrite(extra, lambda t: t.__setitem__("patient", [patient] * 8))
    told = f"shares 1 patient id with val or test under another dataset name, such as {patient}; "
    with pytest.raises(MedvisionError, match=f"{told}.* say different_patients=true"):
        serve(own, extra=[str(extra)])
    samples, _, _ = serve(own, extra=[str(extra)], different_patients=True)
    assert len(samples) == 28
    stamp = "1 patient id of data.extra (b) in val or test under another dataset name: said to be"
    assert samples.unchecked == [f"{stamp} different patients"]


def test_extra_labels_must_be_classes(tmp_path):
    own = plant(tmp_path / "a")
    extra = plant(tmp_path / "b", patients=4, seed=1, labels=("ill", "wel"))
    with pytest.raises(MedvisionError, match=r"'wel' \(4 rows\) \(did you mean 'well'\?\)"):
        serve(own, extra=[str(extra)])
    assert len(serve(own, extra=[str(extra)], rename={"wel": "well"})[0]) == 28


def test_extra_images_of_another_size_are_refused_before_the_first_batch(tmp_path):
    own = plant(tmp_path / "a")
    extra = plant(tmp_path / "b", patients=4, seed=1, size=(9, 9))
    told = r"has images of 9x9, not 12x14; set data\.reader\.size"
    with pytest.raises(MedvisionError, match=told):
        serve(own, extra=[str(extra)], reader=Reader(size=None))
    assert len(serve(own, extra=[str(extra)])[0]) == 28  # one size for all: fine


def test_notes_tell_what_a_reader_should_know(tmp_path):
    _, audit, card = serve(plant(tmp_path / "a", age="7"))
    assert "patients are given as they stand in the manifest, not hashed" in audit.notes
    assert "columns carried but not read: age" in audit.notes
    assert f"a patient is told by: {card.patient_rule}" in audit.notes


def test_host_residency_holds_the_pixels_in_memory(tmp_path):
    manifest = plant(tmp_path / "a")
    disk, host = (serve(manifest, residency=r)[0] for r in ("disk", "host"))
    assert isinstance(disk.stores[0].array, np.memmap)
    assert not isinstance(host.stores[0].array, np.memmap)
    assert np.array_equal(disk.stores[0].array, host.stores[0].array)


BINARY = Classes(["ill", "well"], "binary")


def test_another_manifest_without_a_split_is_all_of_the_part_asked_for(tmp_path):
    manifest = read_manifest(plant(tmp_path / "a"))
    samples = assemble_foreign(manifest, READER, BINARY, "stop", "test")
    assert samples.rows("test").tolist() == list(range(20))


def test_another_manifest_with_a_split_keeps_it(tmp_path):
    manifest = read_manifest(plant(tmp_path / "a", split=["train"] * 12 + ["test"] * 8))
    samples = assemble_foreign(manifest, READER, BINARY, "stop", "test")
    assert samples.rows("test").tolist() == list(range(12, 20))


def test_another_manifest_may_lack_labels_and_files(tmp_path):
    manifest = rewrite(plant(tmp_path / "a"), lambda t: t.__setitem__("label", ""))
    (tmp_path / "a/images/0.png").write_text("no image")
    samples = assemble_foreign(read_manifest(manifest), READER, BINARY, "exclude", "test")
    assert (samples.targets["label"] == -1).all()
    assert len(samples) == 19
    for row, path in enumerate(samples.table["path"]):
        assert np.array_equal(samples.gather(np.array([row]))[0], READER.read(Path(path)))
    unknown = Classes(["a", "b"], "binary")
    foreign = read_manifest(plant(tmp_path / "c", patients=2))
    with pytest.raises(MedvisionError, match="labels that do not fit the classes a, b"):
        assemble_foreign(foreign, READER, unknown, "stop", "test")


def test_runs_of_other_labels_split_alike_where_they_are_told_to(tmp_path):
    manifest = plant(tmp_path / "a", patients=40)

    def add_size(table):
        table["size"] = np.where(np.arange(len(table)) % 7 < 3, "small", "large")

    rewrite(manifest, add_size)
    other = {"columns": {"label": "size"}, "shares": {"train": 0.5, "val": 0.5}}

    def val_of(**options):
        samples, audit, _ = serve(manifest, mode="patient", **options)
        return set(samples.table.loc[samples.rows("val"), "patient"]), samples, audit

    own = val_of(shares=other["shares"])[0]
    alike, samples, audit = val_of(**other, stratify="file_label")
    assert alike == own
    assert samples.target.names == ["large", "small"]
    assert set(audit.counts["val"]["per_class"]) == {"large", "small"}
    assert "parts are alike in 'file_label' (data.stratify)" in audit.notes
    assert val_of(**other)[0] != own
    with pytest.raises(MedvisionError, match=r"data\.stratify=file_labl is no column of the man"):
        val_of(**other, stratify="file_labl")


def test_pixels_that_changed_since_they_were_prepared_are_told(tmp_path, caplog):
    prepare("table", tmp_path / "made", input=plant(tmp_path / "a"))
    made = tmp_path / "made" / "manifest.csv"
    images, before = read_manifest(made).files(), serve(made)[1].notes
    os.utime(images[0], (1, 1))  # another time, the same pixels
    assert serve(made)[1].notes == before
    other = cv2.imread(str(images[3]), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(images[3]), 255 - other)
    (note,) = set(serve(made)[1].notes) - set(before)
    assert note.startswith(
        "the pixels of 1 of 20 images are not those that `medvision prepare` saw"
    )
    assemble_foreign(read_manifest(made), READER, BINARY, "stop", "test")
    assert note in caplog.messages


def plant_hashed(folder, patients=12, **columns):
    """A manifest of before columns were chosen: hashed, with all that its table had."""
    manifest = plant(folder, patients, **columns)
    table = pd.read_csv(manifest)
    table["patient"] = [f"p{n // 2:012x}" for n in range(len(table))]
    table.to_csv(manifest, index=False)
    card = {"dataset": "ds", "key": "0123abcd", "facts": {"table": "Quennell.csv"}}
    (folder / "card.json").write_text(json.dumps(card))
    return manifest


def test_what_no_run_reads_leaves_a_run_whose_patients_are_hashed(tmp_path):
    manifest = plant_hashed(
        tmp_path / "a", remark="Quennell", ward="east", x_age=40.5, reader_Quennell="ill",
        view="AP", y_mm=2,
    )  # fmt: skip
    samples, audit, _ = serve(manifest)
    assert {"x_age", "view", "y_mm"} <= set(samples.table)
    assert not {"remark", "ward", "reader_Quennell"} & set(samples.table)
    assert sum(name.startswith("reader_") for name in samples.table) == 1
    assert any(note.startswith("2 columns that no run reads left out") for note in audit.notes)
    assert "Quennell" not in samples.table.to_csv() + str(audit.to_json())
    kept, audit, _ = serve(manifest, carry=["remark"], stratify="ward")
    assert {"remark", "ward"} <= set(kept.table)
    assert any(
        note.startswith("columns carried but not read: remark, ward") for note in audit.notes
    )
    with pytest.raises(MedvisionError, match=r"carry names 'remrak'.*did you mean 'remark'"):
        serve(manifest, carry=["remrak"])


def test_masks_of_readers_stand_under_stand_ins(tmp_path):
    masks = [f"images/{n}.png" for n in range(24)]
    manifest = plant_hashed(tmp_path / "a", reader_Quennell=masks)
    joined = plant(tmp_path / "b", 4, 1)
    for extra in ([], [str(joined)]):
        table = serve(manifest, extra=extra)[0].table
        (reader,) = (name for name in table if name.startswith("reader_"))
        assert table[reader][:24].str.startswith("hashed-").all()
        assert (table[reader][24:] == "").all()
        assert reveal_paths(table[reader][:2].tolist()) == [
            str(tmp_path / "a" / mask) for mask in masks[:2]
        ]


def test_columns_that_would_name_patients_are_refused_by_a_run_too(tmp_path):
    manifest = plant_hashed(tmp_path / "a", x_name=[f"Quennell {n // 2}" for n in range(24)])
    with pytest.raises(MedvisionError, match=r"x_name' has 12 diff.*data\.carry=\[NAME"):
        serve(manifest)
    assert "x_name" in serve(manifest, carry=["x_name"])[0].table
    assert "x_name" not in serve(manifest, columns={"x_name": None})[0].table


def test_rows_that_join_a_run_of_hashed_patients_bring_no_name(tmp_path):
    own = plant_hashed(tmp_path / "a")
    joined = plant(tmp_path / "quennell", 4, 1, remark="Quennell", reader_Quennell="ill")
    table = serve(own, extra=[str(joined)])[0].table
    assert len(table) == 32
    assert table["patient"].str.fullmatch("p[0-9a-f]{12}").all()
    assert table.loc[24:, "patient"].nunique() == 4
    told = table.drop(columns="dataset").to_csv().lower()
    assert "quennell" not in told


def test_an_unreadable_file_is_noted_without_its_name_where_patients_are_hashed(tmp_path):
    manifest = plant_hashed(tmp_path / "Hans Quennell")
    (tmp_path / "Hans Quennell" / "images" / "3.png").write_bytes(b"no picture")
    _, audit, _ = serve(manifest, on_unreadable="exclude")
    (note,) = (note for note in audit.notes if "unreadable" in note)
    assert note.startswith("1 unreadable images were left out by choice: …")
    assert "Quennell" not in str(audit.to_json())
