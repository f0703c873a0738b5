"""`medvision predict`: the run's own probabilities again, ensembles, and what cannot be read."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

import medvision as library
import medvision.files as files
from medvision.commands.arguments import read_value
from medvision.data.formats.decode import decode, load, pixel_digest
from medvision.data.inputs.profile import summarise_facts, to_plain
from medvision.data.manifest.path_map import reveal_paths
from medvision.data.store.facts import read_facts
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError
from medvision.evaluation import predictions as stored
from medvision.evaluation.evaluator import open_evaluator
from medvision.model import Model, load_model, save_model
from medvision.tasks.classification.evaluator import decide_labels

PROBS = ["prob_healthy", "prob_lesion"]


def read_predictions(path: Path) -> pd.DataFrame:
    return stored.read_predictions(path, open_evaluator("classification").tables[""])


@pytest.fixture
def variant(trained: Path, tmp_path: Path) -> Callable[..., Path]:
    """Make a second finished run: the trained model with other weights and other settings."""

    def make(name: str = "second", **changes: Any) -> Path:
        model = load_model(trained / "model.pt")
        with torch.no_grad():
            for weights in model.net.parameters():
                weights.mul_(1.2)
        folder = tmp_path / "variants" / name
        for held in (model.decision, model.target, model.inputs):
            held |= {name: changes.pop(name) for name in held if name in changes}
        save_model(replace(model, **changes), folder / "model.pt")
        files.write_json(folder / "record.json", {"status": "done"})
        return folder

    return make


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three grey PNGs, one a folder deeper, with a text file and a hidden one."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name in ("a.png", "b.png", "more/c.png"):
        cv2.imwrite(str(folder / name), draw.integers(0, 255, (40, 32), dtype=np.uint8))
    (folder / "notes.txt").write_text("no image")
    (folder / "._a.png").write_text("left behind by an archive")
    return folder


@pytest.fixture
def fond(variant: Callable[..., Path], pictures: Path) -> Path:
    """The trained net as if it had been trained on such pictures."""
    natives = [read_facts(load(path)) for path in sorted(pictures.glob("[ab].png"))]
    return variant("fond", trained_on=to_plain(summarise_facts(natives)))


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"path": str, "pred": str}, keep_default_na=False).assign(
        **{name: pd.read_csv(path)[name] for name in PROBS}
    )


def predictions(folder: Path) -> pd.DataFrame:
    return read_predictions(folder / "predictions" / "test.csv")


def same_decisions(model: Model, table: pd.DataFrame) -> bool:
    probs = table[PROBS].to_numpy()
    return decide_labels(probs, model.classes, model.question, model.threshold) == list(
        table["pred"]
    )


def test_a_run_predicts_its_own_test_files_as_it_did(trained, medvision, tmp_path):
    stored = predictions(trained)
    stored.sample(frac=1, random_state=0)[["path", "frame"]].to_csv(tmp_path / "t.csv", index=False)
    done = medvision("predict", f"run={trained}", f"input={tmp_path}/t.csv",
                     f"output={tmp_path}/new/p.csv")  # fmt: skip
    assert done.status == 0, done.err
    assert "research software, not a medical device" in done.out
    found = read(tmp_path / "new" / "p.csv")
    assert list(found) == ["path", "frame", *PROBS, "pred", "status"]
    assert list(found["path"]) == list(pd.read_csv(tmp_path / "t.csv")["path"])
    both = stored.merge(found, on=["path", "frame"], suffixes=("", "_new"))
    assert len(both) == len(stored) == len(found)
    np.testing.assert_allclose(both[[f"{p}_new" for p in PROBS]], both[PROBS], atol=1e-6)
    assert list(both["pred_new"]) == list(both["pred"])
    assert set(found["status"]) == {"ok"}


def test_an_array_gives_a_row_a_frame_unless_the_table_says_which(trained, medvision, tmp_path):
    (array,) = reveal_paths(predictions(trained)["path"][:1].tolist())
    out = tmp_path / "p.csv"
    assert medvision("predict", f"run={trained}", f"input={array}", f"output={out}").status == 0
    every = read(out)
    assert list(every["frame"]) == [0, 1, 2, 3]
    assert set(every["path"]) == {Path(array).name}
    table = tmp_path / "t.csv"
    table.write_text(f"where\n{array}\n")
    words = ("predict", f"run={trained}", f"input={table}", f"output={out}", "columns.path=where")
    assert medvision(*words).status == 0
    np.testing.assert_allclose(read(out)[PROBS], every[PROBS], atol=1e-6)
    table.write_text(f"path,frame,patient\n{array},3,\n")
    assert medvision("predict", f"run={trained}", f"input={table}", f"output={out}").status == 0
    assert list(read(out)["frame"]) == [3]
    np.testing.assert_allclose(read(out)[PROBS], every[PROBS][3:], atol=1e-6)


def test_an_ensemble_is_the_mean_and_is_cut_at_the_mean_threshold(
    trained, variant, medvision, tmp_path
):
    first = load_model(trained / "model.pt")
    other = variant(temperature=0.7 * first.temperature, threshold=0.9)
    found = {}
    for name, who in {
        "a": f"run={trained}", "b": f"run={other}", "ab": f'runs=["{trained}","{other}"]',
    }.items():  # fmt: skip
        words = (f"input={trained}/predictions/test.csv", f"output={tmp_path}/{name}.csv")
        done = medvision("predict", who, *words)
        assert done.status == 0, done.err
        found[name] = read(tmp_path / f"{name}.csv")
    mean = (found["a"][PROBS] + found["b"][PROBS]) / 2
    assert np.abs(found["a"][PROBS] - found["b"][PROBS]).to_numpy().max() > 1e-3
    np.testing.assert_allclose(found["ab"][PROBS], mean, atol=1e-12)
    first.decision["threshold"] = (first.threshold + 0.9) / 2
    assert same_decisions(first, found["ab"])


def test_an_ensemble_can_be_a_sweep_or_a_pattern(variant, medvision, pictures, tmp_path):
    one = variant("seed=1", trained_on=None)
    two = variant("seed=2", trained_on=None, temperature=0.5)
    found = []
    for who in (f'runs=["{one}","{two}"]', f"runs=[{one.parent}]", f"runs={one.parent}"):
        done = medvision("predict", who, f"input={pictures}", f"output={tmp_path}/p.csv")
        assert done.status == 0, done.err
        found.append((tmp_path / "p.csv").read_text())
    assert found[0] == found[1] == found[2]
    files.write_json(two / "record.json", {"status": "interrupted"})
    done = medvision(
        "predict", f"runs={one.parent}", f"input={pictures}", f"output={tmp_path}/q.csv"
    )
    assert done.status == 2
    assert "1 of 2 members have not finished: variants/seed=2 (interrupted)" in done.err
    assert not (tmp_path / "q.csv").exists()


def test_members_that_read_alike_share_each_decoded_image(
    trained, variant, medvision, pictures, tmp_path, decoded
):
    alike = [variant("one", trained_on=None), variant("two", trained_on=None, temperature=0.5)]
    reader = load_model(trained / "model.pt").contract | {"size": [24, 24]}
    other = variant("small", trained_on=None, reader=reader)

    def predict(*runs):
        decoded.clear()
        listed = ",".join(f'"{run}"' for run in runs)
        done = medvision("predict", f"runs=[{listed}]", f"input={pictures}",
                         f"output={tmp_path}/p.csv")  # fmt: skip
        assert done.status == 0, done.err
        return read(tmp_path / "p.csv")[PROBS].to_numpy(), dict(decoded)

    each = [predict(run)[0] for run in (alike[0], other, alike[1])]
    assert predict(*alike)[1] == {"a.png": 1, "b.png": 1, "c.png": 1}
    joint, counts = predict(alike[0], other, alike[1])
    assert counts == {"a.png": 2, "b.png": 2, "c.png": 2}
    np.testing.assert_allclose(joint, np.mean(each, axis=0), atol=1e-12)


def test_a_name_with_commas_can_stand_in_a_list():
    assert read_value('["a=1,b=2-0f", c]') == ["a=1,b=2-0f", "c"]


def test_members_of_an_ensemble_must_agree(trained, variant, medvision, tmp_path, pictures):
    words = ("predict", f"input={pictures}", f"output={tmp_path}/p.csv")
    other = variant("other", classes=["ill", "well"])
    done = medvision(*words, f'runs=["{trained}","{other}"]')
    assert done.status == 2
    assert "the runs do not predict the same classes" in done.err
    assert "healthy, lesion (binary)" in done.err
    assert "ill, well (binary)" in done.err
    other = variant("rule", rule="sensitivity>=0.95")
    done = medvision(*words, f'runs=["{trained}","{other}"]')
    assert "different operating points (sensitivity>=0.95, youden)" in done.err
    done = medvision(*words, f'runs=["{trained}","{trained}"]')
    assert "names a run twice" in done.err
    assert "needs run=… or" in medvision(*words).err
    assert not (tmp_path / "p.csv").exists()


def test_a_folder_is_searched_and_other_files_are_counted(fond, medvision, pictures, tmp_path):
    out = tmp_path / "p.csv"
    done = medvision("predict", f"run={fond}", f"input={pictures}", f"output={out}")
    assert done.status == 0, done.err
    found = read(out)
    assert list(found["path"]) == ["a.png", "b.png", "more/c.png"]
    assert (found[PROBS].sum(axis=1) - 1).abs().max() < 1e-9
    assert "left out   2 files that are no images" in done.out
    one = medvision("predict", f"run={fond}", f"input={pictures}/b.png", f"output={out}")
    assert one.status == 0, one.err
    np.testing.assert_allclose(read(out)[PROBS], found[PROBS][1:2], atol=1e-6)


def test_unreadable_files_stop_or_are_counted(fond, medvision, pictures, tmp_path):
    (pictures / "b.png").write_text("I am no picture")
    out = tmp_path / "p.csv"
    words = ("predict", f"run={fond}", f"input={pictures}", f"output={out}")
    done = medvision(*words)
    assert done.status == 2
    assert done.err == (
        f"medvision: cannot read 1 of 3 images: {pictures}/b.png is not an image, give PNG, JPEG, "
        "TIFF, BMP, npy, npz or DICOM files. Mend or remove these files, or leave them out with "
        "on_unreadable=exclude\n"
    )
    assert not out.exists()
    done = medvision(*words, "on_unreadable=exclude")
    assert done.status == 0, done.err
    assert "left out   1 of 3 images that cannot be read" in done.out
    found = read(out)
    assert list(found["status"] == "ok") == [True, False, True]
    assert "b.png is not an image" in found["status"][1]
    assert found.loc[1, "pred"] == ""
    assert found.loc[1, PROBS].isna().all()
    assert found.loc[[0, 2], PROBS].notna().all(axis=None)


def test_missing_files_of_a_table_are_told_and_nothing_readable_is_refused(
    trained, medvision, tmp_path
):
    (tmp_path / "t.csv").write_text("path\nnowhere.png\n")
    words = ("predict", f"run={trained}", f"input={tmp_path}/t.csv", f"output={tmp_path}/p.csv")
    for more in ((), ("on_unreadable=exclude",)):
        done = medvision(*words, *more)
        assert done.status == 2
        assert f"cannot read 1 of 1 images: {tmp_path}/nowhere.png does not exist" in done.err
    assert not (tmp_path / "p.csv").exists()


def test_a_table_without_paths_says_so(trained, medvision, tmp_path):
    (tmp_path / "t.csv").write_text("pth,frame\na.png,x\n")
    words = ("predict", f"run={trained}", f"output={tmp_path}/p.csv", f"input={tmp_path}/t.csv")
    done = medvision(*words)
    assert done.status == 2
    assert "there is no `path` column (column 'pth': did you mean `path`?)" in done.err
    (tmp_path / "t.csv").write_text("path,frame\na.png,x\n")
    assert "`frame` must be a whole number from 0 (line 2: 'x')" in medvision(*words).err
    assert "predict reads columns.path" in medvision(*words, "columns.label=x").err


def test_what_cannot_be_is_refused_before_any_work(trained, medvision, pictures, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    run, given, out = f"run={trained}", f"input={pictures}", f"output={tmp_path}/p.csv"
    for words, text in (
        ((run, f"input={empty}", out), f"no image was found in {empty} (0 other files)"),
        ((run, f"input={tmp_path}/none", out), "none does not exist"),
        (("run=no_such_run", given, out), "run=no_such_run names no run"),
        ((run, given, f"output={empty}"), "is no CSV file; give output=FILE.csv"),
        ((run, f"input={trained}/manifest.csv", f"output={trained}/manifest.csv"), "input itself"),
        ((run, given, out, "on_unreadable=skip"), "choose stop or exclude"),
        ((run, given, out, "columns.path=x"), "is for an input=FILE.csv"),
        ((run, given), "needs output=…"),
    ):
        done = medvision("predict", *words)
        assert done.status == 2, words
        assert text in done.err
        assert done.err.count("\n") == 1
    assert not (tmp_path / "p.csv").exists()


def test_a_refusal_to_write_is_one_sentence(fond, medvision, pictures, tmp_path, monkeypatch):
    words = ("predict", f"run={fond}", f"input={pictures}", f"output={tmp_path}/o/p.csv")
    text = f"cannot write {tmp_path}/o/p.csv: permission is denied"
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        patch.setattr("medvision.inference.ensemble.load_model", None)  # told before it is loaded
        assert text in medvision(*words).err

    def refuse(_: int) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr("medvision.files.os.fsync", refuse)
    done = medvision(*words)
    assert done.status == 2
    assert text in done.err
    assert [*(tmp_path / "o").iterdir()] == []


@pytest.fixture(scope="module")
def informed(phantom, tiny, medvision, tmp_path_factory) -> Path:
    """A run that was trained on what its manifest calls CT with pixels of 2 mm."""
    top = tmp_path_factory.mktemp("informed")
    table = pd.read_csv(phantom, dtype=str, keep_default_na=False)
    table["path"] = [str(phantom.parent / path) for path in table["path"]]
    table = table.drop(columns="mask").assign(modality="CT", spacing_y_mm="2", spacing_x_mm="2.0")
    table.to_csv(top / "manifest.csv", index=False)
    words = [f"data.manifest={top}/manifest.csv" if word.startswith("data.manifest") else word
             for word in tiny]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVISION_RUNS", str(top / "runs"))
        done = medvision(*words, "name=ct", "trainer.max_epochs=1", "test=false")
    assert done.status == 0, done.err
    (folder,) = (path for path in (top / "runs" / "ct").iterdir() if path.is_dir())
    return folder


def draw_units(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 400, shape, dtype=np.int16)


def write_dicom(path: Path, pixels: np.ndarray, **tags: Any) -> None:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CTImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.Modality, made.PatientName, made.PixelSpacing = "CT", "Planted^Name", [2, 2]
    made.PhotometricInterpretation, made.SamplesPerPixel = "MONOCHROME2", 1
    made.Rows, made.Columns = pixels.shape[:2]
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(made, name, value)
    made.PixelData = pixels.tobytes()
    made.save_as(path, enforce_file_format=True)


def test_a_run_knows_what_it_was_trained_on(informed, trained):
    told = load_model(informed / "model.pt").trained_on
    manifest = pd.read_csv(informed / "manifest.csv")
    assert told["images"] == int((manifest["split"] == "train").sum())
    assert (told["modality"], told["spacing_y_mm"]) == (["CT"], [2.0, 2.0])
    assert (told["height"], told["width"], told["colour"]) == ([32, 32], [32, 32], [False])
    assert told["signed"]
    assert told["values"][0] < -900 < 200 < told["values"][1]
    plain = load_model(trained / "model.pt").trained_on
    assert (plain["modality"], plain["spacing_y_mm"]) == (["CT"], [11.0, 11.0])


def test_dicom_of_any_name_and_nifti_are_predicted_and_traced(informed, medvision, tmp_path):
    scans = tmp_path / "scans"
    (scans / "study").mkdir(parents=True)
    slices = draw_units(3, 32, 32)
    for name, pixels in zip(("IM1", "study/IM2"), slices, strict=False):
        write_dicom(scans / name, pixels)
    write_dicom(scans / "study" / "IM3.dcm", slices[2], PhotometricInterpretation="MONOCHROME1")
    volume = draw_units(32, 32, 2)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([2, 2, 5, 1])), scans / "v.nii.gz")
    out = tmp_path / "p.csv"
    done = medvision("predict", f"run={informed}", f"input={scans}", f"output={out}")
    assert done.status == 0, done.err
    assert "modality not checked for 2 of 5 images: they do not say it" in done.out
    assert "spacing not checked" not in done.out
    found = read(out)
    assert list(found["path"]) == ["IM1", "study/IM2", "study/IM3.dcm", "v.nii.gz", "v.nii.gz"]
    assert list(found["frame"]) == [0, 0, 0, 0, 1]
    assert set(found["status"]) == {"ok"}
    model = load_model(informed / "model.pt")
    reader = Reader.from_contract(model.contract)
    levels = [reader.read(scans / path, frame)
              for path, frame in zip(found["path"], found["frame"], strict=True)]  # fmt: skip
    image = torch.from_numpy(np.stack(levels).transpose(0, 3, 1, 2) / np.float32(255))
    with torch.inference_mode():
        probs = torch.softmax(model.net(image).double() / model.temperature, dim=1)
    np.testing.assert_allclose(found[PROBS], probs, atol=1e-5)
    text = (tmp_path / "p.trace.json").read_text()
    assert "Planted" not in text + out.read_text() + done.out
    trace = files.read_json(tmp_path / "p.trace.json")
    assert trace["predictions"] == {"file": "p.csv", "digest": files.digest_file(out)}
    (told,) = trace["models"]
    assert told["digest"] == files.digest_file(informed / "model.pt")
    assert told["reader"] == model.contract
    assert (told["temperature"], told["threshold"]) == (model.temperature, model.threshold)
    assert told["trained_on"] == model.trained_on
    assert "window [-100.0, 200.0] to 8 bits" in told["steps"]
    assert "pad to 32 x 32 pixels" in told["steps"]
    assert trace["counts"] == {"images": 5, "predicted": 5, "unreadable": 0, "foreign": 0}
    assert (trace["on_foreign"], trace["on_unreadable"]) == ("stop", "stop")
    assert "pydicom" in trace["versions"]
    assert trace["files"]["digest"] == [
        pixel_digest(decode(scans / path, frame))
        for path, frame in zip(found["path"], found["frame"], strict=True)
    ]
    assert trace["files"]["height"] == [32] * 5
    assert trace["files"]["windows"] == [[[-100.0, 200.0]]] * 5
    assert trace["files"]["status"] == ["ok"] * 5


FOREIGN: dict[str, tuple[Callable[[Path], None], str]] = {
    "modality": (lambda p: write_dicom(p, draw_units(32, 32), Modality="MR"),
                 "modality MR, not CT"),
    "size": (lambda p: write_dicom(p, draw_units(32, 129)), "32 x 129 pixels, not 32 x 32"),
    "spacing": (lambda p: write_dicom(p, draw_units(32, 32), PixelSpacing=[2, 0.5]),
                "pixels of 2 x 0.5 mm, not 2 x 2"),
    "values": (lambda p: write_dicom(p, draw_units(32, 32) + np.int16(20000)),
               "values of 19000 to 20"),
    "units": (lambda p: write_dicom(p, draw_units(32, 32).astype(np.uint8)),
              "unsigned 8-bit values, not signed units such as -1"),
    "colour": (lambda p: write_dicom(p, draw_units(32, 32, 3).astype(np.uint8), SamplesPerPixel=3,
                                     PlanarConfiguration=0, PhotometricInterpretation="RGB"),
               "colour, not grey; unsigned 8-bit values"),
}  # fmt: skip


def test_each_foreign_file_is_refused_by_name_or_marked(informed, medvision, tmp_path):
    write_dicom(tmp_path / "alike.dcm", draw_units(32, 32))
    for name, (write, _) in FOREIGN.items():
        write(tmp_path / f"{name}.dcm")
    (tmp_path / "t.csv").write_text(
        "\n".join(["path", "alike.dcm", *(f"{n}.dcm" for n in FOREIGN)])
    )
    out = tmp_path / "p.csv"
    words = ("predict", f"run={informed}", f"input={tmp_path}/t.csv", f"output={out}")
    done = medvision(*words)
    assert done.status == 2
    assert done.err.startswith(
        "medvision: 6 of 7 images are unlike those the model was trained on: modality.dcm "
        "(modality MR, not CT); size.dcm (32 x 129 pixels, not 32 x 32); spacing.dcm ("
    )
    assert done.err.endswith(
        "; and 1 more. Leave them out, or go on with on_foreign=warn, which marks them\n"
    )
    assert not out.exists()
    (tmp_path / "one.csv").write_text("path\nalike.dcm\ncolour.dcm\n")
    alone = medvision("predict", f"run={informed}", f"input={tmp_path}/one.csv", f"output={out}")
    assert f"trained on: colour.dcm ({FOREIGN['colour'][1]}" in alone.err
    done = medvision(*words, "on_foreign=warn")
    assert done.status == 0, done.err
    ways = "colour 1, modality 1, size 1, spacing 1, units 2, values 1"
    assert (
        f"note       6 of 7 images are unlike those the model was trained on ({ways})" in done.out
    )
    assert "predictions: 7 images" in done.out
    found = read(out)
    assert found[PROBS].notna().all(axis=None)
    assert found["status"][0] == "ok"
    for status, (_, text) in zip(found["status"][1:], FOREIGN.values(), strict=True):
        assert status.startswith(f"ok, but {text}")
    trace = files.read_json(tmp_path / "p.trace.json")
    assert trace["counts"] == {"images": 7, "predicted": 7, "unreadable": 0, "foreign": 6}
    assert trace["files"]["status"] == list(found["status"])


def test_unreadable_and_foreign_files_are_told_together(informed, medvision, tmp_path):
    FOREIGN["modality"][0](tmp_path / "a.dcm")
    (tmp_path / "b.png").write_text("I am no picture")
    write_dicom(tmp_path / "c.dcm", draw_units(32, 32))
    words = ("predict", f"run={informed}", f"input={tmp_path}", f"output={tmp_path}/o/p.csv")
    done = medvision(*words)
    assert done.err.count("\n") == 1
    assert "cannot read 1 of 3 images: " in done.err
    assert "1 of 3 images are unlike those the model was trained on: a.dcm (modality MR" in done.err
    done = medvision(*words, "on_unreadable=exclude", "on_foreign=warn")
    assert done.status == 0, done.err
    trace = files.read_json(tmp_path / "o" / "p.trace.json")
    assert trace["counts"] == {"images": 3, "predicted": 2, "unreadable": 1, "foreign": 1}
    assert [digest is None for digest in trace["files"]["digest"]] == [False, True, False]
    assert trace["files"]["windows"][1] is None


def test_a_model_that_does_not_say_what_it_was_trained_on_takes_all(variant, medvision, tmp_path):
    FOREIGN["colour"][0](tmp_path / "a.dcm")
    run = variant("old", trained_on=None)
    done = medvision("predict", f"run={run}", f"input={tmp_path}/a.dcm", f"output={tmp_path}/p.csv")
    assert done.status == 0, done.err
    assert "inputs not checked: the model does not say what it was trained on" in done.out
    assert list(read(tmp_path / "p.csv")["status"]) == ["ok"]


def test_members_that_look_through_other_windows_are_traced_apart(variant, medvision, tmp_path):
    write_dicom(tmp_path / "a.dcm", draw_units(32, 32), PixelSpacing=[11, 11])
    one = variant("one")
    contract = load_model(one / "model.pt").contract
    two = variant("two", reader=contract | {"window": "brain"})
    words = (f"runs={one.parent}", f"input={tmp_path}/a.dcm", f"output={tmp_path}/p.csv")
    done = medvision("predict", *words)
    assert done.status == 0, done.err
    trace = files.read_json(tmp_path / "p.trace.json")
    assert [member["digest"] for member in trace["models"]] == [
        files.digest_file(run / "model.pt") for run in (one, two)
    ]
    assert trace["files"]["windows of model 1"] == [[[-100.0, 200.0]]]
    assert trace["files"]["windows of model 2"] == [[[0.0, 80.0]]]
    assert trace["decision"]["by"].startswith("ensemble of 2 runs: mean of calibrated")


def as_written(table: pd.DataFrame, tmp_path: Path) -> bytes:
    return stored.write_predictions(tmp_path / "as_written.csv", table).read_bytes()


@pytest.mark.parametrize("given", ["folder", "file", "model.pt"])
def test_a_script_gets_the_table_that_the_command_writes(
    given, fond, medvision, pictures, tmp_path, capsys
):
    source = pictures / "a.png" if given == "file" else pictures
    output = tmp_path / "out.csv"
    done = medvision("predict", f"run={fond}", f"input={source}", f"output={output}")
    assert done.status == 0, done.err
    loaded = library.load(fond / "model.pt" if given == "model.pt" else str(fond))
    capsys.readouterr()
    assert as_written(loaded.predict(source), tmp_path) == output.read_bytes()
    assert capsys.readouterr().out == ""


def test_a_script_may_name_several_files_and_folders(fond, pictures, tmp_path):
    loaded = library.load(fond)
    whole = loaded.predict(pictures)
    table = loaded.predict([pictures / "b.png", pictures / "more", str(pictures / "a.png")])
    assert table["path"].tolist() == ["b.png", "more/c.png", "a.png"]
    np.testing.assert_allclose(table[PROBS], whole.iloc[[1, 2, 0]][PROBS], rtol=1e-5)
    (pictures / "broken.png").write_bytes(b"no image")
    several = [pictures / "a.png", pictures / "broken.png"]
    with pytest.raises(MedvisionError, match=r"broken\.png"):
        loaded.predict(several)
    answers = loaded.answer(several, on_unreadable="exclude")
    assert answers.table["pred"].ne("").tolist() == [True, False]
    with pytest.raises(MedvisionError, match="there is nothing to predict; give one path or more"):
        loaded.predict([])


def test_a_script_may_load_an_ensemble_or_a_model_from_anywhere(
    fond, variant, pictures, tmp_path, medvision
):
    other, output = variant("third", trained_on=None), tmp_path / "out.csv"
    done = medvision("predict", f"runs=[{fond},{other}]", f"input={pictures}", f"output={output}")
    assert done.status == 0, done.err
    table = library.load([fond, other]).predict(pictures)
    assert as_written(table, tmp_path) == output.read_bytes()
    moved = shutil.copy(fond / "model.pt", tmp_path / "mine.pt")
    pd.testing.assert_frame_equal(
        library.load(moved).predict(pictures), library.load(fond).predict(pictures)
    )
    with pytest.raises(MedvisionError, match=r"run=nowhere names no run"):
        library.load("nowhere")
