"""A regression from training to comparison, as a user types it; of images, and of series."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from medvision.model import load_model

pytestmark = pytest.mark.usefixtures("dots")

WORDS = (
    "model=regression", "model.net.widths=[8,16]", "model.net.stem_stride=1",
    "+data.annotation.targets=[radius_mm]", "model.level=0.6",  # val has three lesions' patients
)  # fmt: skip
OF_CLASSES = (
    r"(?i)\b(class(es)?|aurocs?|thresholds?|confusion|positives?|labels?|operating point)\b"
)


def one(folder):
    (run,) = (path for path in folder.iterdir() if path.is_dir())
    return run


def show(page):
    """What a reader sees above the published lists and the configuration."""
    text = re.sub(r"<style>.*?</style>|data:image[^\"]*", "", page.read_text(), flags=re.DOTALL)
    assert '<section id="checklists">' in text
    return re.sub(r"<[^>]+>", " ", text.partition('<section id="checklists">')[0])


@pytest.fixture(scope="module")
def numbers(tiny, places, medvision):
    """The folder of a run, and what the terminal said."""
    done = medvision(*tiny, *WORDS, "name=numbers", "trainer.max_epochs=4")
    assert done.status == 0, done.err
    return one(places / "runs" / "numbers"), done.out + done.err


def test_a_run_is_told_without_a_word_of_classes(numbers):
    run, said = numbers
    assert re.findall(OF_CLASSES, said) == []
    assert re.findall(OF_CLASSES, show(run / "report.html")) == []
    assert "MAE" in said
    assert "limit of agreement" in said


def test_its_files_hold_what_was_predicted_and_scored(numbers):
    run, _ = numbers
    record, metrics = (
        json.loads((run / name).read_text()) for name in ("record.json", "metrics.json")
    )
    assert (record["task"], record["monitor"]) == ("regression", "val/mae")
    assert metrics["task"] == "regression"
    assert record["objective"] == pytest.approx(metrics["val"]["mae"]["value"], rel=1e-5)
    table = pd.read_csv(run / "predictions" / "test.csv")
    names = [f"{column}_radius_mm" for column in ("value", "pred", "low", "high")]
    assert [*table.columns[-4:]] == names
    known = table.dropna()
    assert 0 < len(known) < len(table)  # a slice without a lesion has no radius
    assert metrics["n"]["test"]["images"] == len(known)
    error = known["pred_radius_mm"] - known["value_radius_mm"]
    assert metrics["test"]["mae"]["value"] == pytest.approx(error.abs().mean(), abs=1e-12)
    assert (known["low_radius_mm"] <= known["pred_radius_mm"]).all()
    manifest = pd.read_csv(run / "manifest.csv")
    truth = manifest.loc[known["index"], "y_radius_mm"].to_numpy()
    np.testing.assert_array_equal(known["value_radius_mm"], truth)
    decision = load_model(run / "model.pt").decision
    trained = manifest.loc[manifest["split"] == "train", "y_radius_mm"]
    assert decision["center"] == pytest.approx([trained.mean()], rel=1e-6)
    assert {p.name for p in (run / "figures").glob("*.png")} >= {"scatter.png", "bland_altman.png"}


def test_new_files_are_predicted_as_they_were_scored(numbers, phantom, medvision, tmp_path):
    run, _ = numbers
    stored = pd.read_csv(run / "predictions" / "test.csv")
    done = medvision("predict", f"run={run}", f"input={run}/predictions/test.csv",
                     f"output={tmp_path}/out.csv")  # fmt: skip
    assert done.status == 0, done.err
    assert re.findall(OF_CLASSES, done.out) == []
    found = pd.read_csv(tmp_path / "out.csv")
    assert [*found.columns[-4:]] == [f"{c}_radius_mm" for c in ("pred", "low", "high")] + ["status"]
    np.testing.assert_allclose(found["pred_radius_mm"], stored["pred_radius_mm"], rtol=1e-5)
    trace = (tmp_path / "out.trace.json").read_text()
    assert json.loads(trace)["decision"]["level"] == 0.6


def test_another_table_is_scored_by_what_was_frozen(numbers, phantom, medvision, tmp_path):
    run, _ = numbers
    rows = pd.read_csv(phantom)
    rows = rows[["path", "frame", "patient"]].assign(size=rows["y_radius_mm"])
    rows["path"] = [str((phantom.parent / path).resolve()) for path in rows["path"]]
    rows.to_csv(tmp_path / "other.csv", index=False)
    words = (f"run={run}", f"data.manifest={tmp_path}/other.csv", "allow_overlap=true",
             f"output={tmp_path}/out")  # fmt: skip
    done = medvision("evaluate", *words, "data.columns.y_radius_mm=size")
    assert done.status == 0, done.err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["n"]["test"]["images"] == rows["size"].notna().sum()
    assert metrics["interval"] == json.loads((run / "metrics.json").read_text())["interval"]


def test_an_edited_prediction_is_noticed(numbers, medvision, tmp_path, sign_again):
    run = tmp_path / "edited"
    shutil.copytree(numbers[0], run)
    place = run / "predictions" / "test.csv"
    table = pd.read_csv(place, dtype=str, keep_default_na=False)
    table.loc[table["value_radius_mm"] != "", "pred_radius_mm"] = "12.5"
    table.to_csv(place, index=False)
    told = medvision("report", f"run={run}").err
    assert "predictions/test.csv is not what it was when it was written" in told
    done = medvision("report", f"run={sign_again(run)}")
    assert done.status == 0, done.err
    assert "metrics.json does not follow from the stored predictions" in done.out


def test_two_losses_are_compared_on_the_same_patients(tiny, places, numbers, medvision):
    done = medvision(*tiny, *WORDS, "name=other", "trainer.max_epochs=1",
                     "model.loss._target_=medvision.losses.quantile")  # fmt: skip
    assert done.status == 0, done.err
    done = medvision("compare", "runs=[numbers,other]", "split=val", "resamples=200")
    assert done.status == 0, done.err
    assert "MAE" in done.out
    assert re.findall(OF_CLASSES, done.out) == []
    refused = medvision("compare", "runs=[numbers,other]", "metric=bias")
    assert refused.status == 2
    assert "choose mae, rmse, r2, width" in refused.err
    joined = medvision("evaluate", "runs=[numbers,other]")
    assert joined.status == 0, joined.err
    assert "mean of their predictions, and of the bounds" in joined.out


def test_series_have_numbers_too(tiny, places, medvision, tmp_path, phantom):
    words = ("model=regression_rnn", "data.unit=series", "model.net.encoder.widths=[8,16]",
             "model.net.encoder.stem_stride=1", "model.net.hidden=8", "trainer.max_epochs=1",
             "name=volumes")  # fmt: skip
    tiny = [word for word in tiny if not word.startswith(("model.net.widths", "trainer."))]
    refused = medvision(*tiny, *words)
    assert refused.status == 2
    assert "y_radius_mm 'differs within the series'" in refused.err
    done = medvision(*tiny, *words, "+data.annotation.targets=[volume_ml]")
    assert done.status == 0, done.err
    run = one(places / "runs" / "volumes")
    table = pd.read_csv(run / "predictions" / "test.csv")
    told = pd.read_csv(run / "manifest.csv").groupby("series")["y_volume_ml"].first()
    np.testing.assert_array_equal(table["value_volume_ml"], told[table["series"]])
    slices = pd.read_csv(run / "predictions" / "test_slices.csv")
    assert "attention" in slices
    assert re.findall(OF_CLASSES, show(run / "report.html")) == []
    done = medvision("predict", f"run={run}", f"input={phantom.parent}/images",
                     f"output={tmp_path}/out.csv", "on_foreign=warn")  # fmt: skip
    assert done.status == 2  # bare arrays say no order of series
    rows = pd.read_csv(phantom)[["path", "frame", "series", "position"]]
    rows["path"] = [str((phantom.parent / path).resolve()) for path in rows["path"]]
    rows.to_csv(tmp_path / "in.csv", index=False)
    done = medvision("predict", f"run={run}", f"input={tmp_path}/in.csv",
                     f"output={tmp_path}/out.csv")  # fmt: skip
    assert done.status == 0, done.err
    assert pd.read_csv(tmp_path / "out.csv")["pred_volume_ml"].notna().all()
