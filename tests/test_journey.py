"""From files to evidence and on: what a run folder holds, and that it can be trusted."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from sklearn import metrics as sk

import medvision.files as files
from medvision.commands import evaluate
from medvision.evaluation.epochs import find_best_epoch
from medvision.model import load_model, read_model_file
from medvision.runs import Run, claimed
from medvision.training import finish


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def read_predictions(path):
    """Read predictions apart from the code under test, every float as it was written."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    numbers = [name for name in table if name.startswith(("logit_", "prob_"))]
    return table.astype(dict.fromkeys(numbers, float))


def only_run(runs):
    (folder,) = (path.parent for path in runs.glob("*/*/record.json") if "~" not in str(path))
    return folder


def weights(path):
    return read_model_file(path)["weights"]


def equal_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def check_same_run(one, other):
    """Bit for bit: weights, history but for the clock, predictions, scores."""
    assert equal_weights(weights(one / "model.pt"), weights(other / "model.pt"))
    histories = [pd.read_csv(folder / "history.csv", dtype=str) for folder in (one, other)]
    first, second = (history.drop(columns="seconds") for history in histories)
    pd.testing.assert_frame_equal(first, second)
    for name in ("predictions/val.csv", "predictions/test.csv", "metrics.json", "manifest.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_a_run_folder_holds_what_the_design_lists(trained):
    for name in (
        "config.yaml", "record.json", "manifest.csv", "audit.json", "history.csv", "metrics.json",
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "model.pt", "report.html",
        "predictions/val.csv", "predictions/test.csv", "figures/preview.png",
        "figures/learning_curves.png",
    ):  # fmt: skip
        assert (trained / name).stat().st_size > 0, name
    assert list(trained.glob("events.out.*"))
    assert len(list((trained / "figures").glob("*.png"))) >= 6
    hidden = [p for p in trained.rglob(".*") if p.is_file()]
    assert hidden == []


def test_the_files_of_a_run_agree(trained):
    record, metrics, audit = (read(trained / f"{n}.json") for n in ("record", "metrics", "audit"))
    manifest = pd.read_csv(trained / "manifest.csv", dtype=str, keep_default_na=False)
    assert record["status"] == "done"
    assert record["model"] == files.digest_file(trained / "model.pt")
    for name, digest in record["checkpoints"].items():
        assert digest == files.digest_file(trained / "checkpoints" / f"{name}.ckpt")
    for part in ("val", "test"):
        rows = manifest[manifest["split"] == part]
        stored = pd.read_csv(trained / "predictions" / f"{part}.csv", dtype=str)
        assert stored["index"].astype(int).tolist() == rows.index.tolist()
        for column in ("path", "patient", "label", "frame"):
            assert stored[column].tolist() == rows[column].tolist()
        told = metrics["n"][part]
        assert told["images"] == audit["counts"][part]["images"] == len(rows)
        assert told["patients"] == audit["counts"][part]["patients"] == rows["patient"].nunique()
    history = pd.read_csv(trained / "history.csv")
    assert history["epoch"].tolist() == [*range(record["epochs"])]
    assert record["best_epoch"] == find_best_epoch(history, "val/auroc")
    assert record["kept_for"].startswith("highest val/auroc (")
    assert record["objective"] == pytest.approx(history["val/auroc"].max(), abs=1e-6)
    config = OmegaConf.load(trained / "config.yaml")
    assert "${" not in (trained / "config.yaml").read_text()
    assert config.seed == record["seed"] == 0


def test_no_patient_and_no_image_is_in_two_parts(trained):
    manifest = pd.read_csv(trained / "manifest.csv", dtype=str)
    assert manifest.groupby("patient")["split"].nunique().max() == 1
    assert manifest.groupby("group")["split"].nunique().max() == 1
    audit, seen = read(trained / "audit.json"), read(trained / "record.json")["seen"]
    assert audit["remaining"] == {"patients": 0, "images": 0}
    for kind in ("patients", "images"):
        assert seen["train"][kind]
        assert not set(seen["train"][kind]) & set(seen["val"][kind])
    assert set(seen["train"]["patients"]) == set(manifest["patient"][manifest["split"] == "train"])


def test_model_and_metrics_hold_the_same_frozen_decisions(trained):
    model, metrics = load_model(trained / "model.pt"), read(trained / "metrics.json")
    assert metrics["temperature"] == model.temperature
    assert metrics["operating_point"]["threshold"] == model.threshold
    assert metrics["operating_point"]["rule"] == model.rule == "youden"
    for part in ("val", "test"):
        stored = read_predictions(trained / "predictions" / f"{part}.csv")
        logits = stored[["logit_healthy", "logit_lesion"]].to_numpy() / model.temperature
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(stored[["prob_healthy", "prob_lesion"]], probs, atol=1e-12)
        decided = np.where(stored["prob_lesion"] >= model.threshold, "lesion", "healthy")
        assert (stored["pred"] == decided).all()


@pytest.mark.parametrize("part", ["val", "test"])
def test_metrics_agree_with_scikit_learn_on_the_stored_predictions(part, trained):
    stored = read_predictions(trained / "predictions" / f"{part}.csv")
    truth, probs = (stored["label"] == "lesion").to_numpy(), stored["prob_lesion"].to_numpy()
    preds, metrics = (stored["pred"] == "lesion").to_numpy(), read(trained / "metrics.json")
    expected = {
        "auroc": sk.roc_auc_score(truth, probs),
        "average_precision": sk.average_precision_score(truth, probs),
        "accuracy": sk.accuracy_score(truth, preds),
        "recall": sk.recall_score(truth, preds),
        "specificity": sk.recall_score(~truth, ~preds),
        "f1": sk.f1_score(truth, preds),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, preds),
        "mcc": sk.matthews_corrcoef(truth, preds),
        "precision": sk.precision_score(truth, preds) if preds.any() else None,
    }
    for name, value in expected.items():
        told = metrics[part][name]
        if value is None:
            assert told["value"] is None, name
            continue
        assert told["value"] == pytest.approx(value, abs=1e-9), name
        assert told["low"] is None or told["low"] <= told["high"]  # nothing varies on few patients
    argmax = sk.accuracy_score(truth, probs >= 0.5)
    if part == "test":
        assert metrics["test_argmax"]["accuracy"]["value"] == pytest.approx(argmax, abs=1e-9)


def test_every_stored_model_loads_with_weights_only(trained):
    stored = [*trained.rglob("*.ckpt"), *trained.rglob("*.pt")]
    assert {path.name for path in stored} == {"best.ckpt", "last.ckpt", "model.pt"}
    for path in stored:
        assert torch.load(path, map_location="cpu", weights_only=True)


def test_the_best_checkpoint_is_the_model(trained):
    best = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    kept = weights(trained / "model.pt")
    assert kept
    for name, value in kept.items():
        assert any(key.endswith(name) and torch.equal(best[key], value) for key in best), name


def test_the_same_command_answers_from_the_finished_run(trained, tiny, medvision):
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()}
    again = medvision(*tiny, "name=tiny")
    assert again.status == 0
    assert f"finished already: {trained}" in again.out
    assert {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()} == before


def test_the_same_seed_replays_bit_for_bit_and_rerun_moves_the_old_run(
    trained, tiny, apart, medvision
):
    assert medvision(*tiny, "name=tiny").status == 0
    folder = only_run(apart)
    assert folder.name == trained.name  # content in the path, no time in it
    check_same_run(folder, trained)
    assert medvision(*tiny, "name=tiny", "rerun=true").status == 0
    assert sorted(p.name for p in folder.parent.iterdir() if p.is_dir()) == [
        folder.name, f"{folder.name}~1",
    ]  # fmt: skip
    check_same_run(folder, trained)


def test_another_seed_is_another_run_on_the_same_split(trained, tiny, apart, medvision):
    done = medvision(*tiny, "name=tiny", "seed=1")
    assert done.status == 0, done.err
    folder = only_run(apart)
    assert done.out.splitlines()[-3:] == [
        f"report: {folder / 'report.html'}", f"curves: tensorboard --logdir {apart}",
        "next:   medvision predict run=last input=FOLDER output=predictions.csv",
    ]  # fmt: skip
    assert folder.name != trained.name
    assert (folder / "manifest.csv").read_bytes() == (trained / "manifest.csv").read_bytes()
    assert not equal_weights(weights(folder / "model.pt"), weights(trained / "model.pt"))


def stop_after_first_epoch(words, by=signal.SIGKILL):
    """Start a training, stop it once its first `last.ckpt` is there; return its run and errors."""
    child = subprocess.Popen(
        [sys.executable, "-m", "medvision", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    runs = Path(os.environ["MEDVISION_RUNS"])
    try:
        for _ in range(20_000):
            if list(runs.glob("*/*/checkpoints/last.ckpt")):
                break
            assert child.poll() is None, "the training ended before it could be killed"
            time.sleep(0.005)
    finally:
        child.send_signal(by)
        _, errors = child.communicate()
    assert child.returncode == (130 if by == signal.SIGINT else -by)
    return only_run(runs), errors


EARLY = ("trainer.max_epochs=9", "callbacks.early_stopping.patience=2",
         "+callbacks.early_stopping.min_delta=2")  # fmt: skip


@pytest.fixture
def early(tiny):
    """The words of a training that stops after three epochs of nine."""
    return (*(word for word in tiny if word != "trainer.max_epochs=3"), *EARLY, "name=early")


def cut_while_it_calibrates(words, medvision, monkeypatch):
    """Stop a training where `model.pt` would be written; return its folder."""

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finish, "save_model", stop)
        assert medvision(*words).status == 130
    return only_run(Path(os.environ["MEDVISION_RUNS"]))


def test_stopped_early_and_killed_while_it_calibrates_it_trains_no_further(
    early, apart, medvision, monkeypatch
):
    folder = cut_while_it_calibrates(early, medvision, monkeypatch)
    before = (folder / "history.csv").read_bytes(), digest_weights(folder)
    assert len(pd.read_csv(folder / "history.csv")) == 3
    resumed = medvision(*early)
    assert resumed.status == 0, resumed.err
    assert f"resuming in {folder}" in resumed.out
    assert ((folder / "history.csv").read_bytes(), digest_weights(folder)) == before
    record, history = read(folder / "record.json"), pd.read_csv(folder / "history.csv")
    assert record["epochs"] == 3
    assert record["objective"] == pytest.approx(history["val/auroc"].max(), abs=1e-6)


def digest_weights(folder):
    states = (torch.load(folder / "checkpoints" / f"{n}.ckpt", weights_only=True)["state_dict"]
              for n in ("best", "last"))  # fmt: skip
    return [{name: value.tolist() for name, value in state.items()} for state in states]


def test_a_runs_folder_that_was_moved_keeps_its_best_epoch(
    early, apart, tmp_path, medvision, monkeypatch
):
    folder = cut_while_it_calibrates(early, medvision, monkeypatch)
    moved = tmp_path / "elsewhere"
    apart.rename(moved)
    monkeypatch.setenv("MEDVISION_RUNS", str(moved))
    resumed = medvision(*early)
    assert resumed.status == 0, resumed.err
    record = read(moved / folder.relative_to(apart) / "record.json")
    history = pd.read_csv(moved / folder.relative_to(apart) / "history.csv")
    assert record["objective"] == pytest.approx(history["val/auroc"].max(), abs=1e-6)
    assert record["best_epoch"] == find_best_epoch(history, "val/auroc")


@pytest.mark.parametrize("name", [
    ".last.ckpt", ".best.ckpt",
    *(pytest.param(name, marks=pytest.mark.slow) for name in (
        ".history.csv", "events.out", ".model.pt", ".val.csv", ".roc.png", ".report.html")),
])  # fmt: skip
def test_a_disk_that_fills_leaves_a_run_that_goes_on(
    name, tiny, trained, apart, medvision, full_disk
):
    with full_disk(name):
        refused = medvision(*tiny, "name=tiny")
    assert refused.status == 2
    last = refused.err.splitlines()[-1]
    assert "the disk is full; free some space and run the same command again" in last
    folder = only_run(apart)
    record = read(folder / "record.json")
    if name == ".report.html":  # all is scored and written down; the next start writes the page
        assert record["status"] == "done"
    else:
        assert record["status"] == "interrupted"
        assert "the disk is full" in record["reason"]
    again = medvision(*tiny, "name=tiny")
    assert again.status == 0, again.err
    check_same_run(folder, trained)
    assert (folder / "report.html").exists()
    assert not [p for p in folder.rglob(".*") if p.is_file()]


def test_what_a_killed_process_was_drawing_is_no_figure(copied, medvision):
    for name in ("figures/.roc.png.1234abcd.png", "figures/.roc.png.aside0.png",
                 "figures/cases/.01.png.aside0.png", "evaluations/.a-1/metrics.json"):  # fmt: skip
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).write_bytes(b"\x89PNG half of it")
    done = medvision("report", f"run={copied}")
    assert done.status == 0, done.err
    assert "half" not in (copied / "report.html").read_text()


def test_a_claimed_run_is_swept_but_for_what_is_being_written(copied):
    left = copied / "figures" / ".roc.png.aside0.png"
    left.write_bytes(b"half")
    with files.written_aside(copied / "metrics.json") as aside:
        aside.write_text("half")
        with claimed(Run(copied)):
            assert not left.exists()
            assert aside.read_text() == "half"
        aside.write_text("{}")
    assert read(copied / "metrics.json") == {}


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_goes_on(tiny, apart, medvision):
    words = (*tiny, "trainer.max_epochs=40", "callbacks.early_stopping=null", "name=long")
    words = tuple(word for word in words if word != "trainer.max_epochs=3")
    stopped, errors = stop_after_first_epoch(words, signal.SIGINT)
    assert errors.splitlines()[-1] == (
        "medvision: stopped by you; the same command goes on after its last finished epoch"
    )
    assert read(stopped / "record.json")["status"] == "interrupted"
    resumed = medvision(*words)
    assert resumed.status == 0, resumed.err
    assert f"resuming in {stopped}" in resumed.out


@pytest.fixture(scope="module")
def elsewhere(places, medvision):
    """A second set with patients and images the run has never seen, without a split."""
    folder = places / "elsewhere"
    done = medvision("prepare", "source=phantom", f"output={folder}", "dataset=elsewhere",
                     "patients=12", "slices=3", "size=32", "difficulty=0", "seed=7")  # fmt: skip
    assert done.status == 0, done.err
    return folder / "manifest.csv"


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of the trained run that a test may change."""
    return shutil.copytree(trained, tmp_path / "copied")


def test_external_validation_is_frozen_and_leaves_the_run_alone(elsewhere, copied, medvision):
    own = {p: p.read_bytes() for p in copied.rglob("*") if p.is_file() and p.name != "record.json"}
    done = medvision("evaluate", f"run={copied}", f"data.manifest={elsewhere}")
    assert done.status == 0, done.err
    (folder,) = (copied / "evaluations").iterdir()
    assert re.fullmatch(r"elsewhere-[0-9a-f]{8}", folder.name)
    inside, outside = read(copied / "metrics.json"), read(folder / "metrics.json")
    assert outside["temperature"] == inside["temperature"]
    assert outside["operating_point"] == inside["operating_point"]
    assert outside["n"]["test"]["images"] == 36
    (stamp,) = outside["stamps"]
    assert stamp.startswith("scored on rows of another manifest with a frozen model")
    model = read(copied / "record.json")["model"]
    judged = f"run {copied.parent.name}/copied (model.pt {model[:8]})"
    assert f"<dt>Model</dt><dd>{judged}</dd>" in (folder / "report.html").read_text()
    assert len(pd.read_csv(folder / "predictions" / "test.csv")) == 36
    assert all(path.read_bytes() == content for path, content in own.items())


def test_rows_the_model_has_seen_are_refused_or_stamped(phantom, copied, medvision):
    words = ("evaluate", f"run={copied}", f"data.manifest={phantom}")
    told = medvision(*words)
    assert told.status == 2
    seen = read(copied / "record.json")["seen"]
    patients = len({*seen["train"]["patients"], *seen["val"]["patients"]})
    images = len({*seen["train"]["images"], *seen["val"]["images"]})
    overlap = f"{patients} patients and {images} images were seen in training or validation"
    assert overlap in told.err
    assert "allow_overlap=true" in told.err
    assert not (copied / "evaluations").exists()
    assert medvision(*words, "allow_overlap=true").status == 0
    (folder,) = (copied / "evaluations").iterdir()
    assert read(folder / "metrics.json")["stamps"][1:] == [overlap]


def test_a_table_without_a_key_is_stamped(elsewhere, copied, medvision):
    bare = elsewhere.with_name("bare.csv")
    pd.read_csv(elsewhere)[["path", "frame", "patient", "label"]].to_csv(bare, index=False)
    card = elsewhere.with_name("card.json")
    aside = card.rename(card.with_name("aside"))
    try:
        done = medvision("evaluate", f"run={copied}", f"data.manifest={bare}")
    finally:
        aside.rename(card)
    assert done.status == 0, done.err
    (folder,) = (copied / "evaluations").iterdir()
    (stamp,) = read(folder / "metrics.json")["stamps"][1:]
    assert stamp.startswith("patients not checked")


def test_an_evaluation_that_is_stopped_before_its_end_and_repeated_is_one_look(
    copied, medvision, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "write_report", stop)
        assert medvision("evaluate", f"run={copied}").status == 130
    assert medvision("evaluate", f"run={copied}").status == 0
    assert len(read(copied / "record.json")["test_openings"]) == 2  # one was the training's


def test_each_opening_of_the_test_part_is_recorded(copied, medvision):
    before = read(copied / "metrics.json")
    assert len(read(copied / "record.json")["test_openings"]) == 1
    assert medvision("evaluate", f"run={copied}").status == 0
    openings = read(copied / "record.json")["test_openings"]
    assert len(openings) == 2
    assert {opening["model"] for opening in openings} == {
        files.digest_file(copied / "model.pt")[:16]
    }
    assert read(copied / "metrics.json") == before


def test_a_lock_keeps_a_second_process_out(trained, tiny, medvision):
    with claimed(Run(trained)):
        told = medvision(*tiny, "name=tiny")
    assert told.status == 2
    assert told.err.startswith(f"medvision: another process is working in {trained}; wait for it")
    assert medvision(*tiny, "name=tiny").status == 0


def test_any_path_works_as_typed(phantom, apart, tmp_path, tiny, medvision):
    odd = tmp_path / "影像 [v2], (a=b) 'é' {x} $HOME"
    shutil.copytree(phantom.parent, odd)
    words = [w for w in tiny if not w.startswith("data.manifest=")]
    done = medvision(*words, f"data.manifest={odd / 'manifest.csv'}", "test=false")
    assert done.status == 0, done.err
    assert read(only_run(apart) / "record.json")["status"] == "done"


def test_where_a_manifest_lies_does_not_name_the_run(phantom, trained, apart, tmp_path, tiny,
                                                     medvision):  # fmt: skip
    moved = shutil.copytree(phantom.parent, tmp_path / "moved") / "manifest.csv"
    words = [w for w in tiny if not w.startswith("data.manifest=")]
    shutil.copytree(trained, apart / "tiny" / trained.name)
    done = medvision(*words, f"data.manifest={moved}", "name=tiny")
    assert "finished already" in done.out, (done, trained.name)


def test_a_run_gives_its_weights_to_another(trained, elsewhere, apart, tiny, medvision):
    words = [w for w in tiny if not w.startswith("data.manifest=")]
    words += [f"data.manifest={elsewhere}", "monitor=val/loss", "test=false"]
    done = medvision(*words, f"model.weights={trained}", "model.frozen_epochs=-1")
    assert done.status == 0, done.err
    assert "weights from" in done.out
    given, taken = weights(trained / "model.pt"), weights(only_run(apart) / "model.pt")
    # The counter of a norm layer decides nothing and is not passed on.
    body = [name for name in given if "head" not in name and "num_batches" not in name]
    assert len(body) > 5
    assert [name for name in body if not torch.equal(given[name], taken[name])] == []
    assert not torch.equal(given["head.weight"], taken["head.weight"])


def test_weights_that_have_seen_val_or_test_are_refused(trained, apart, tiny, medvision):
    told = medvision(*tiny, f"model.weights={trained}", "data.split_seed=1")
    assert told.status == 2
    assert re.search(r"model.weights=.* has seen \d+ patients and \d+ images of the", told.err)
    assert not list(apart.glob("*/*/record.json"))


def test_weights_of_a_run_on_the_same_split_are_taken_and_their_past_is_inherited(
    trained, apart, tiny, medvision
):
    done = medvision(*tiny, f"model.weights={trained}", "name=again")
    assert done.status == 0, done.err
    (again,) = (path.parent for path in apart.glob("again/*/model.pt"))
    past, now = (read_model_file(run / "model.pt")["seen"] for run in (trained, again))
    assert set(past["train_images"]) <= set(now["train_images"])


def test_predict_and_report_work_from_the_folder_alone(copied, elsewhere, tmp_path, medvision):
    images, output = elsewhere.parent / "images", tmp_path / "out.csv"
    done = medvision("predict", f"run={copied}", f"input={images}", f"output={output}")
    assert done.status == 0, done.err
    table = read_predictions(output)
    assert len(table) == 36
    assert set(table["pred"]) <= {"healthy", "lesion"}
    assert medvision("evaluate", f"run={copied}", f"data.manifest={elsewhere}").status == 0
    (folder,) = (copied / "evaluations").iterdir()
    stored = read_predictions(folder / "predictions" / "test.csv")
    np.testing.assert_allclose(np.sort(table["prob_lesion"]), np.sort(stored["prob_lesion"]))
    (copied / "report.html").unlink()
    assert medvision("report", f"run={copied}").status == 0
    assert (copied / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("more", [
    (), ("callbacks=ema", "model.mixup=0.4", "data.balance=true"),
    ("model=rnn", "data.unit=series", "data.sequence.drop=0.3", "data.sequence.crop=3"),
])  # fmt: skip
def test_killed_and_resumed_equals_uninterrupted(more, tiny, tmp_path, monkeypatch, medvision):
    words = (*tiny, *more, "trainer.max_epochs=20", "callbacks.early_stopping=null", "name=long")
    replaced = (
        "trainer.max_epochs=3",
        *(["model.net.widths=[8,16]"] if "model=rnn" in more else []),
    )
    words = tuple(word for word in words if word not in replaced)
    monkeypatch.setenv("MEDVISION_RUNS", str(tmp_path / "killed"))
    killed, _ = stop_after_first_epoch(words)
    assert read(killed / "record.json")["status"] == "running"
    assert len(pd.read_csv(killed / "history.csv")) < 20
    resumed = medvision(*words)
    assert resumed.status == 0, resumed.err
    assert f"resuming in {killed}" in resumed.out
    monkeypatch.setenv("MEDVISION_RUNS", str(tmp_path / "whole"))
    assert medvision(*words).status == 0
    whole = only_run(tmp_path / "whole")
    assert whole.name == killed.name
    assert len(pd.read_csv(whole / "history.csv")) == 20
    check_same_run(killed, whole)
