"""A model of series from training to evidence, external validation and new files."""

import json
import shutil
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pandas as pd
import pytest

import medvision as library
import medvision.files as files
from medvision.evaluation import predictions
from medvision.evaluation.evaluator import open_evaluator
from medvision.model import load_model, save_model
from medvision.runs import Run

pytestmark = pytest.mark.usefixtures("dots")

TINY = (
    "model=rnn", "data.unit=series", "data.reader.size=[32,32]", "data.reader.window=[-100,200]",
    "data.batch_size=8", "data.workers=1", "model.net.encoder.widths=[8,16]",
    "model.net.hidden=8", "trainer.max_epochs=3", "threads=1", "trainer.precision=32-true",
)  # fmt: skip


def read_predictions(path: Path) -> pd.DataFrame:
    return predictions.read_predictions(path, open_evaluator("classification").tables[""])


@pytest.fixture(scope="module")
def studied(places, phantom, medvision) -> Path:
    """The folder of a finished run over series whose slices have labels."""
    done = medvision("train", "data=manifest", f"data.manifest={phantom}", *TINY, "name=series")
    assert done.status == 0, done.err
    (folder,) = (p for p in (places / "runs" / "series").iterdir() if p.is_dir())
    return folder


def slices_of(folder: Path, part: str = "test") -> pd.DataFrame:
    return pd.read_csv(folder / "predictions" / f"{part}_slices.csv", keep_default_na=False)


def test_a_run_of_series_holds_what_a_run_holds(studied):
    metrics = json.loads((studied / "metrics.json").read_text())
    table = read_predictions(Run(studied).predictions("test"))
    assert metrics["n"]["test"]["series"] == metrics["n"]["test"]["patients"] == len(table)
    assert "images" not in metrics["n"]["test"]
    assert "test_patients" not in metrics
    assert table["series"].is_unique
    model = load_model(studied / "model.pt")
    assert model.unit["channels"] is None
    assert model.trained_on["images"] == 4 * len(set(model.seen.train_patients))
    page = (studied / "report.html").read_text()
    assert "n series" in page
    assert "Every patient has one series" in page
    assert "A series, slice by slice" in page


def test_every_slice_is_told_with_its_place_label_score_and_weight(studied, phantom):
    table, slices = read_predictions(Run(studied).predictions("test")), slices_of(studied)
    assert len(slices) == 4 * len(table)
    assert slices.groupby("index")["attention"].sum().tolist() == pytest.approx([1] * len(table))
    assert set(slices["label"]) == {"healthy", "lesion"}
    probs = slices[["prob_healthy", "prob_lesion"]].astype(float)
    assert probs.sum(axis=1).tolist() == pytest.approx([1] * len(slices))
    rows = pd.read_csv(studied / "manifest.csv", keep_default_na=False)
    own = rows.loc[slices["row"]]
    assert own["position"].tolist() == slices["position"].tolist()
    assert own["label"].tolist() == slices["label"].tolist()
    assert (studied / "predictions" / "val_slices.csv").exists()


def test_misses_and_hits_are_drawn_as_strips(studied):
    found = sorted(path.name for path in (studied / "figures").glob("case*.png"))
    assert 1 <= len(found) <= 6
    assert found == [f"case_{n}.png" for n in range(1, len(found) + 1)]


def test_scoring_val_again_leaves_the_figures_of_test(studied, medvision):
    before = {p: p.read_bytes() for p in (studied / "figures").glob("case*.png")}
    assert medvision("evaluate", f"run={studied}", "split=val").status == 0
    assert {p: p.read_bytes() for p in (studied / "figures").glob("case*.png")} == before


def test_a_run_evaluated_again_says_the_same(studied, medvision):
    before = (studied / "predictions" / "test.csv").read_text()
    slices = (studied / "predictions" / "test_slices.csv").read_text()
    done = medvision("evaluate", f"run={studied}")
    assert done.status == 0, done.err
    assert (studied / "predictions" / "test.csv").read_text() == before
    assert (studied / "predictions" / "test_slices.csv").read_text() == slices
    assert medvision("report", f"run={studied}").status == 0


def test_another_manifest_is_scored_series_by_series(studied, tmp_path, medvision):
    done = medvision("prepare", "source=phantom", f"output={tmp_path}", "patients=10", "slices=4",
                     "size=32", "difficulty=0", "seed=5", "dataset=elsewhere")  # fmt: skip
    assert done.status == 0, done.err
    place = tmp_path / "manifest.csv"
    done = medvision("evaluate", f"run={studied}", f"data.manifest={place}")
    assert done.status == 0, done.err
    (folder,) = (studied / "evaluations").glob("elsewhere-*")
    assert json.loads((folder / "metrics.json").read_text())["n"]["test"]["series"] == 10
    rows = pd.read_csv(place)
    slices = slices_of(folder)
    assert rows.loc[slices["row"], "position"].tolist() == slices["position"].tolist()
    assert read_predictions(Run(folder).predictions("test"))["index"].tolist() == [
        4 * n for n in range(10)
    ]
    torn = rows[(rows["position"] != 1) | (rows["patient"] != rows["patient"][0])]
    torn.to_csv(tmp_path / "torn.csv", index=False)
    done = medvision("evaluate", f"run={studied}", f"data.manifest={tmp_path / 'torn.csv'}")
    assert done.status == 2
    assert "slices are missing" in done.err
    done = medvision("evaluate", f"run={studied}", f"data.manifest={tmp_path / 'torn.csv'}",
                     "data.on_gap=exclude", "allow_overlap=true")  # fmt: skip
    assert done.status == 0, done.err
    assert "1 series with missing slices left out" in done.out


def test_copies_are_looked_for_among_all_slices(studied, phantom, tmp_path, medvision):
    """A series whose first slice is new still shows images the model was trained on."""
    used = pd.read_csv(studied / "manifest.csv")
    trained_on = used.loc[used["split"] == "train", "series"].iloc[0]
    mine = used.index[used["series"] == trained_on]
    rows = pd.read_csv(phantom).loc[mine].assign(patient="new", series="new", split="test")
    rows["path"] = [str(phantom.parent / path) for path in rows["path"]]
    np.save(tmp_path / "fresh.npy", np.arange(-100, 924, dtype=np.int16).reshape(32, 32))
    rows.iloc[0, list(rows).index("path")] = str(tmp_path / "fresh.npy")
    rows.iloc[0, list(rows).index("frame")] = 0
    rows.drop(columns=["mask", "group"]).to_csv(tmp_path / "rows.csv", index=False)
    done = medvision("evaluate", f"run={studied}", f"data.manifest={tmp_path / 'rows.csv'}")
    assert done.status == 2
    assert "images were seen in training or validation" in done.err


def test_new_series_are_predicted_from_a_table_as_they_were_in_the_run(
    studied, tmp_path, medvision
):
    output = tmp_path / "new.csv"
    done = medvision("predict", f"run={studied}", f"input={studied / 'manifest.csv'}",
                     f"output={output}")  # fmt: skip
    assert done.status == 0, done.err
    table = pd.read_csv(output, keep_default_na=False)
    assert list(table) == ["path", "series", "slices", "prob_healthy", "prob_lesion", "pred",
                           "status"]  # fmt: skip
    assert (table["slices"] == 4).all()
    stored = read_predictions(Run(studied).predictions("test")).set_index("series")
    mine = table.set_index("series").loc[stored.index]
    assert mine["prob_lesion"].tolist() == pytest.approx(stored["prob_lesion"].tolist(), abs=1e-6)
    assert mine["pred"].tolist() == stored["pred"].tolist()
    slices = pd.read_csv(tmp_path / "new_slices.csv", keep_default_na=False)
    assert len(slices) == 4 * len(table)
    run_slices = slices_of(studied).merge(
        read_predictions(Run(studied).predictions("test"))[["index", "series"]], on="index"
    )
    both = slices.merge(run_slices, on=["series", "position"])
    assert len(both) == len(run_slices)
    assert both["attention_x"].tolist() == pytest.approx(both["attention_y"].tolist(), abs=1e-6)
    trace = json.loads((tmp_path / "new.trace.json").read_text())
    assert trace["counts"]["series"] == len(table)
    assert len(trace["files"]["digest"]) == len(table)


def test_the_table_of_slices_never_covers_the_input(studied, tmp_path, medvision):
    place = tmp_path / "new_slices.csv"
    place.write_text("path,series,position\n")
    done = medvision(
        "predict", f"run={studied}", f"input={place}", f"output={tmp_path / 'new.csv'}"
    )
    assert done.status == 2
    assert "would cover the input" in done.err
    assert place.read_text() == "path,series,position\n"


def test_channels_the_model_knows_nothing_of_are_refused(studied, tmp_path, medvision):
    rows = pd.read_csv(studied / "manifest.csv").iloc[:8]
    both = pd.concat([rows.assign(channel=c) for c in ("ED", "ES")])
    place = tmp_path / "two.csv"
    both.to_csv(place, index=False)
    told = "the rows have the channels ED, ES, and this model was trained on one without a name"
    output = f"output={tmp_path / 'out.csv'}"
    done = medvision("predict", f"run={studied}", f"input={place}", output)
    assert done.status == 2
    assert told in done.err
    done = medvision("evaluate", f"run={studied}", f"data.manifest={place}",
                     "data.columns.split=null")  # fmt: skip
    assert done.status == 2
    assert told in done.err


def other_form(studied, folder, **changes):
    """The same model, finished, with another way of making series."""
    model = load_model(studied / "model.pt")
    model.inputs["unit"] = model.unit | changes
    save_model(model, folder / "model.pt")
    files.write_json(folder / "record.json", {"status": "done"})
    return folder


def test_an_ensemble_reads_series_in_one_way(studied, tmp_path, medvision):
    other = other_form(studied, tmp_path / "thin", max_slices=2)
    runs = f'runs=["{studied}","{other}"]'
    for words in (("evaluate",), ("predict", f"input={studied / 'manifest.csv'}",
                                  f"output={tmp_path / 'out.csv'}")):  # fmt: skip
        done = medvision(*words, runs)
        assert done.status == 2
        assert "the runs do not make the same series of rows" in done.err
        assert "max_slices=2" in done.err


def test_members_that_read_alike_share_each_decoded_slice(
    studied, volumes, tmp_path, medvision, decoded
):
    same = other_form(studied, tmp_path / "same")
    wide = other_form(studied, tmp_path / "wide", on_gap="error")
    model = load_model(wide / "model.pt")
    model.inputs["reader"] = model.contract | {"window": [-100, 150]}
    save_model(model, wide / "model.pt")
    found = []
    for members, times in (([studied], 1), ([same], 1), ([wide], 1), ([studied, wide, same], 2)):
        decoded.clear()
        listed = ",".join(f'"{member}"' for member in members)
        done = medvision("predict", f"runs=[{listed}]", f"input={volumes}", "on_foreign=warn",
                         f"output={tmp_path / 'out.csv'}")  # fmt: skip
        assert done.status == 0, done.err
        assert decoded == {"a.nii.gz": 4 * times, "b.nii.gz": 6 * times}
        found.append(pd.read_csv(tmp_path / "out.csv")["prob_lesion"].to_numpy())
    *alone, joint = found
    assert abs(alone[0] - alone[2]).max() > 1e-6
    assert joint == pytest.approx(np.mean(alone, axis=0), abs=1e-12)


def test_gaps_are_treated_as_in_training_unless_it_is_said(studied, tmp_path, medvision):
    lenient = other_form(studied, tmp_path / "lenient", on_gap="exclude")
    rows = pd.read_csv(studied / "manifest.csv").iloc[:12]
    place = tmp_path / "torn.csv"
    rows.drop(index=rows.index[1]).to_csv(place, index=False)
    words = ("predict", f"input={place}", f"output={tmp_path / 'out.csv'}")
    assert medvision(*words, f"run={studied}").status == 2
    done = medvision(*words, f"run={lenient}")
    assert done.status == 0, done.err
    assert len(pd.read_csv(tmp_path / "out.csv")) == 2
    assert json.loads((tmp_path / "out.trace.json").read_text())["on_gap"] == "exclude"
    assert medvision(*words, f"run={lenient}", "on_gap=error").status == 2


@pytest.fixture
def volumes(tmp_path):
    folder = tmp_path / "volumes"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name, slices in (("a", 4), ("b", 6)):
        voxels = draw.integers(-100, 200, (32, 32, slices)).astype(np.int16)
        affine = np.diag([11.0, 11.0, 20.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / f"{name}.nii.gz")
    cv2.imwrite(str(folder / "thumb.png"), np.zeros((8, 8), np.uint8))
    return folder


def test_each_volume_is_a_series_alone_and_in_its_folder(studied, volumes, tmp_path, medvision):
    together = tmp_path / "all.csv"
    words = ("predict", f"run={studied}", "on_foreign=warn")
    done = medvision(*words, f"input={volumes}", f"output={together}")
    assert done.status == 0, done.err
    assert "left out   1 files" in done.out
    table = pd.read_csv(together)
    assert table["path"].tolist() == ["a.nii.gz", "b.nii.gz"]
    assert table["slices"].tolist() == [4, 6]
    alone = tmp_path / "one.csv"
    done = medvision(*words, f"input={volumes / 'b.nii.gz'}", f"output={alone}")
    assert done.status == 0, done.err
    one = pd.read_csv(alone)
    assert one["prob_lesion"][0] == pytest.approx(table["prob_lesion"][1], abs=1e-6)


def test_an_unreadable_slice_costs_its_series_and_no_other(studied, tmp_path, medvision):
    draw = np.random.default_rng(0)
    rows = []
    for series in "ab":
        for at in range(3):
            name = f"{series}{at}.npy"
            np.save(tmp_path / name, draw.integers(-100, 200, (32, 32)).astype(np.int16))
            rows.append({"path": name, "series": series, "position": at})
    (tmp_path / "b1.npy").write_bytes(b"broken")
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    words = ("predict", f"run={studied}", f"input={tmp_path / 'rows.csv'}", "on_foreign=warn",
             f"output={tmp_path / 'out.csv'}")  # fmt: skip
    refused = medvision(*words)
    assert refused.status == 2
    assert "b1.npy" in refused.err
    assert not (tmp_path / "out.csv").exists()
    done = medvision(*words, "on_unreadable=exclude")
    assert done.status == 0, done.err
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["prob_lesion"].notna().tolist() == [True, False]
    assert "b1.npy" in table["status"][1]
    assert set(pd.read_csv(tmp_path / "out_slices.csv")["series"]) == {"a"}


def test_what_tells_no_series_is_a_sentence(studied, trained, tmp_path, medvision):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((32, 32), np.uint8))
    words = ("predict", f"output={tmp_path / 'out.csv'}")
    done = medvision(*words, f"run={studied}", f"input={tmp_path / 'a.png'}")
    assert done.status == 2
    assert "give a CSV with the columns path, series and position" in done.err
    done = medvision(*words, f"run={trained}", f"input={tmp_path / 'a.png'}", "on_gap=keep")
    assert done.status == 2
    assert "on_gap is for models of series" in done.err
    done = medvision(*words, f'runs=["{trained}","{studied}"]', f"input={tmp_path / 'a.png'}")
    assert done.status == 2
    assert "some take series and some single images" in done.err


def test_an_ensemble_of_series_answers_with_the_mean(studied, tmp_path, medvision, phantom):
    done = medvision("train", "data=manifest", f"data.manifest={phantom}", *TINY, "seed=1",
                     "name=series_again")  # fmt: skip
    assert done.status == 0, done.err
    (other,) = (p for p in files.runs_folder().glob("series_again/*") if p.is_dir())
    for name, runs in (("one", [studied]), ("other", [other]), ("both", [studied, other])):
        given = ",".join(f'"{run}"' for run in runs)
        done = medvision("predict", f"runs=[{given}]", f"input={studied / 'manifest.csv'}",
                         f"output={tmp_path / f'{name}.csv'}")  # fmt: skip
        assert done.status == 0, done.err
    one, two, both = (
        pd.read_csv(tmp_path / f"{n}.csv")["prob_lesion"] for n in ("one", "other", "both")
    )
    assert both.tolist() == pytest.approx(((one + two) / 2).tolist(), abs=1e-9)
    done = medvision("evaluate", f'runs=["{studied}","{other}"]', f"output={tmp_path / 'joint'}")
    assert done.status == 0, done.err


def test_kept_features_train_as_images_do(studied, phantom, medvision, apart):
    """Started from a trained net; its encoder rests, so that both ways see the same features."""
    words = (
        "train", "data=manifest", f"data.manifest={phantom}", *TINY, f"model.weights={studied}",
        "model.frozen_epochs=-1", "augment=none", "data.sequence.drop=0.2", "test=false",
        "monitor=val/loss",
    )  # fmt: skip
    histories = []
    for cached in ("false", "true"):
        done = medvision(*words, f"model.cache_features={cached}", f"name=cached_{cached}")
        assert done.status == 0, done.err
        (folder,) = (p for p in apart.glob(f"cached_{cached}/*") if p.is_dir())
        histories.append(pd.read_csv(folder / "history.csv"))
        last = load_model(folder / "model.pt").net.encoder.state_dict()
        first = load_model(studied / "model.pt").net.encoder.state_dict()
        moved = [n for n, v in first.items() if v.is_floating_point() and (last[n] != v).any()]
        assert moved == []
    for name in ("train/loss", "val/loss"):
        assert histories[0][name].tolist() == pytest.approx(histories[1][name].tolist(), abs=1e-5)


@pytest.mark.parametrize(("words", "told"), [
    (("model.cache_features=true",), "the encoder learns (model.frozen_epochs=-1"),
    (("model.cache_features=true", "model.frozen_epochs=-1"), "images change (augment=none)"),
    (("data.unit=image",), "this model reads series"),
    (("model.net.cell=lstn",), "cell=lstn (gru, lstm, rnn or null)"),
    (("model.net.aggregation=last", "model.net.cell=null"), "it would read one slice alone"),
    (("data.channels=[t1]",), "data.channels knows no 't1'"),
])  # fmt: skip
def test_what_cannot_be_is_a_sentence(words, told, phantom, medvision, apart):
    done = medvision("train", "data=manifest", f"data.manifest={phantom}", *TINY, *words, "name=x")
    assert done.status == 2
    assert told in done.err
    assert not list(apart.glob("x/*/checkpoints"))


def test_a_trained_cnn_gives_its_weights_to_the_encoder(trained, phantom, medvision, apart):
    done = medvision("train", "data=manifest", f"data.manifest={phantom}", *TINY, "name=from_cnn",
                     "model.net.encoder.stem_stride=2", f"model.weights={trained}",
                     "test=false")  # fmt: skip
    assert done.status == 0, done.err
    assert "tensors loaded" in done.out


def test_a_script_gets_both_tables_of_new_series(studied, volumes, tmp_path, medvision):
    output = tmp_path / "out.csv"
    words = ("predict", f"run={studied}", f"input={volumes}", f"output={output}")
    done = medvision(*words, "on_foreign=warn")
    assert done.status == 0, done.err
    loaded = library.load(studied)
    answers = loaded.answer(volumes, on_foreign="warn")
    for name, place in {"": output, "slices": output.with_name("out_slices.csv")}.items():
        table = predictions.write_predictions(tmp_path / "as_written.csv", answers.tables[name])
        assert table.read_bytes() == place.read_bytes()


def test_series_of_one_name_in_two_places_stay_two(studied, volumes, tmp_path):
    shutil.copytree(volumes, tmp_path / "more")
    several = [tmp_path / "more" / "a.nii.gz", volumes / "b.nii.gz", volumes / "a.nii.gz"]
    table = library.load(studied).predict(several, on_foreign="warn")
    assert table["path"].tolist() == ["more/a.nii.gz", "volumes/b.nii.gz", "volumes/a.nii.gz"]
    assert table["slices"].tolist() == [4, 6, 4]
    assert table["prob_lesion"][0] == pytest.approx(table["prob_lesion"][2], abs=1e-6)
