"""`medvision predict`: the run's own probabilities again, ensembles, and what cannot be read."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

import medvision.files as files
from medvision.commands.arguments import read_value
from medvision.evaluation.evidence import decide_labels, read_predictions
from medvision.model import Model, load_model, save_model

PROBS = ["prob_healthy", "prob_lesion"]


@pytest.fixture
def variant(trained: Path, tmp_path: Path) -> Callable[..., Path]:
    """Make a second finished run: the trained model with other weights and other settings."""

    def make(name: str = "second", **changes: Any) -> Path:
        model = load_model(trained / "model.pt")
        with torch.no_grad():
            for weights in model.net.parameters():
                weights.mul_(1.2)
        folder = tmp_path / "variants" / name
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


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"path": str, "pred": str}, keep_default_na=False).assign(
        **{name: pd.read_csv(path)[name] for name in PROBS}
    )


def predictions(folder: Path) -> pd.DataFrame:
    return read_predictions(folder / "predictions" / "test.csv")


def same_decisions(model: Model, table: pd.DataFrame) -> bool:
    probs = table[PROBS].to_numpy()
    return decide_labels(probs, model.classes, model.kind, model.threshold) == list(table["pred"])


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
    array = predictions(trained)["path"][0]
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
    assert same_decisions(replace(first, threshold=(first.threshold + 0.9) / 2), found["ab"])


def test_an_ensemble_can_be_a_sweep_or_a_pattern(trained, variant, medvision, pictures, tmp_path):
    one, two = variant("seed=1"), variant("seed=2", temperature=0.5)
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


def test_a_folder_is_searched_and_other_files_are_counted(trained, medvision, pictures, tmp_path):
    out = tmp_path / "p.csv"
    done = medvision("predict", f"run={trained}", f"input={pictures}", f"output={out}")
    assert done.status == 0, done.err
    found = read(out)
    assert list(found["path"]) == ["a.png", "b.png", "more/c.png"]
    assert (found[PROBS].sum(axis=1) - 1).abs().max() < 1e-9
    assert "left out   2 files that are no images" in done.out
    one = medvision("predict", f"run={trained}", f"input={pictures}/b.png", f"output={out}")
    assert one.status == 0, one.err
    np.testing.assert_allclose(read(out)[PROBS], found[PROBS][1:2], atol=1e-6)


def test_unreadable_files_stop_or_are_counted(trained, medvision, pictures, tmp_path):
    (pictures / "b.png").write_text("I am no picture")
    out = tmp_path / "p.csv"
    words = ("predict", f"run={trained}", f"input={pictures}", f"output={out}")
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


def test_a_refusal_to_write_is_one_sentence(trained, medvision, pictures, tmp_path, monkeypatch):
    words = ("predict", f"run={trained}", f"input={pictures}", f"output={tmp_path}/o/p.csv")
    text = f"cannot write {tmp_path}/o/p.csv: permission is denied"
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        patch.setattr("medvision.commands.ensemble.load_model", None)  # told before it is loaded
        assert text in medvision(*words).err

    def refuse(_: int) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr("medvision.files.os.fsync", refuse)
    done = medvision(*words)
    assert done.status == 2
    assert text in done.err
    assert [*(tmp_path / "o").iterdir()] == []
