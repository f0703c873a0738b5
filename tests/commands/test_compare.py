"""`medvision compare`: run folders in, differences out, and every sentence it refuses with."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

import medvision.files as files
from medvision.evaluation.predictions import write_predictions

PATIENTS = 40


def predict(skill: float, seed: int, images: int, rows: slice, flip: bool) -> pd.DataFrame:
    """Simulate the predictions of a net for some of the patients."""
    n = PATIENTS * images
    who = np.arange(n) // images
    label = (who % 2).astype(bool)
    score = skill * (label - 0.5) + np.random.default_rng(9).normal(size=n)
    score += 0.5 * np.random.default_rng([seed, int(100 * skill)]).normal(size=n)
    positive = 1 / (1 + np.exp(-score))
    name = np.array(["healthy", "lesion"])
    table = pd.DataFrame({
        "index": np.arange(n), "dataset": "sim", "path": [f"{k}.png" for k in range(n)],
        "frame": 0, "patient": [f"p{k:02d}" for k in who], "series": "",
        "label": name[(label ^ flip).astype(int)], "logit_healthy": -score, "logit_lesion": score,
        "prob_healthy": 1 - positive, "prob_lesion": positive,
        "pred": name[(positive >= 0.5).astype(int)],
    })  # fmt: skip
    return table.iloc[rows]


@pytest.fixture
def make(apart: Path) -> Callable[..., Path]:
    """Write the folder of a finished run as `train` leaves it, without the training."""

    def write(name: str, lr: float, skill: float, *, seed: int = 0, fold: int | None = None,
              split_seed: int = 0, images: int = 1, rows: slice = slice(None), flip: bool = False,
              status: str = "done", part: str = "test", **facts: object) -> Path:  # fmt: skip
        words = [f"model.optimizer.lr={lr}", f"seed={seed}"]
        words += [] if fold is None else [f"data.fold={fold}"]
        folder = apart / name / files.file_safe(f"{','.join(words)}-{files.digest(*words)[:8]}")
        config = {"seed": seed, "data": {"fold": fold, "split_seed": split_seed},
                  "model": {"optimizer": {"lr": lr}}}  # fmt: skip
        counts = {"train": {"patients": 32}, part: {"patients": 8}}
        record = {
            "status": status, "seed": seed, "overrides": words, "kind": "binary",
            "classes": ["healthy", "lesion"], "model": "a" * 64, "manifest": ["b"],
        }  # fmt: skip
        files.write_json(folder / "record.json", record | facts)
        files.write_text(folder / "config.yaml", json.dumps(config))
        files.write_json(folder / "audit.json", {"counts": counts})
        table = predict(skill, seed, images, rows, flip)
        write_predictions(folder / "predictions" / f"{part}.csv", table)
        return folder

    return write


def read(folder: Path) -> dict:
    return files.read_json(folder / "comparison.json")


def test_two_runs_are_compared_by_delong_and_everything_is_written(make, medvision, apart):
    runs = [make("weak", 0.1, 0.5), make("strong", 0.01, 4.0)]
    done = medvision("compare", "runs=[weak,strong]")
    assert (done.status, done.err) == (0, "")
    (folder,) = (apart / "_joint").iterdir()
    assert folder.name.startswith("compare-")
    assert sorted(p.name for p in folder.iterdir()) == [
        "comparison.json", "comparison.md", "differences.png", "record.json",
    ]  # fmt: skip
    content, (pair,) = read(folder), read(folder)["pairs"]
    tables = [pd.read_csv(run / "predictions" / "test.csv") for run in runs]
    areas = [roc_auc_score(t["label"] == "lesion", t["prob_lesion"]) for t in tables]
    assert pair["scores"]["auroc"]["value"] == pytest.approx(areas[1] - areas[0])
    assert pair["tests"]["score"]["test"] == "DeLong"
    assert pair["tests"]["decisions"]["test"] == "exact McNemar"
    assert content["n"] == {"images": 40, "patients": 40}
    named = [arm["name"] for arm in content["arms"]]
    assert [pair["first"], pair["second"]] == named == ["lr=0.1, name=weak", "lr=0.01, name=strong"]
    record = files.read_json(folder / "record.json")
    assert [run["model"] for run in record["runs"]] == ["a" * 64] * 2
    assert record["status"] == "done"
    assert record["command"].startswith("medvision compare")
    assert "lr=0.01, name=strong is better than lr=0.1, name=weak on these 40 patients" in done.out
    assert "DeLong" in done.out
    assert "One training each" in done.out
    assert "| score | lr=0.1, name=weak | lr=0.01, name=strong |" in (
        folder / "comparison.md"
    ).read_text().replace("  ", " ")
    assert Image.open(folder / "differences.png").size[0] > 400


def test_what_cannot_be_told_apart_is_never_called_equal(make, medvision):
    make("sweep", 0.1, 1.5), make("sweep", 0.01, 1.49)
    done = medvision("compare", "runs=['sweep/*lr=0.1*','sweep/*lr=0.01*']".replace("'", ""))
    assert done.status == 0, done.err
    assert "lr=0.1 and lr=0.01 cannot be told apart on 40 patients: AUROC" in done.out
    assert "this n could show a difference of ." in done.out
    assert "not significant does not mean equal" in done.out
    assert "are equal" not in done.out


def test_the_same_command_gives_the_same_numbers_in_the_same_folder(make, medvision, apart):
    make("a", 0.1, 1.0), make("b", 0.01, 1.2)
    first = medvision("compare", "runs=[a,b]", "resamples=200").out
    (folder,) = (apart / "_joint").iterdir()
    before = [(folder / n).read_bytes() for n in ("comparison.json", "differences.png")]
    assert medvision("compare", "runs=[a,b]", "resamples=200").out == first
    assert [(folder / n).read_bytes() for n in ("comparison.json", "differences.png")] == before
    medvision("compare", "runs=[a,b]", "resamples=300")
    assert len(list((apart / "_joint").iterdir())) == 2


def test_seeds_are_averaged_and_their_luck_is_told(make, medvision, tmp_path):
    for seed in (0, 1, 2):
        make("sweep", 0.1, 1.0, seed=seed, images=3)
        make("sweep", 0.01, 1.4, seed=seed, images=3)
    out = tmp_path / "out"
    done = medvision("compare", "runs=[sweep/*lr=0.1*,sweep/*lr=0.01*]", f"output={out}")
    assert done.status == 0, done.err
    (pair,), content = read(out)["pairs"], read(out)
    assert pair["tests"]["score"]["test"] == "paired patient bootstrap"
    assert pair["tests"]["decisions"]["test"] == "clustered McNemar"
    assert pair["seeds"]["mean"] == pytest.approx(pair["scores"]["auroc"]["value"])
    assert content["trainings"] == 3
    assert content["n"] == {"images": 120, "patients": 40}
    assert "Over 3 seeds" in done.out
    assert "the luck of training alone, not of patients" in done.out


def test_folds_are_pooled_and_tested_with_the_corrected_t(make, medvision, tmp_path):
    for fold in range(5):
        rows = slice(8 * fold, 8 * fold + 8)
        make("sweep", 0.1, 1.0, fold=fold, rows=rows)
        make("sweep", 0.01, 1.6, fold=fold, rows=rows)
    out = tmp_path / "out"
    done = medvision("compare", "runs=[sweep/*lr=0.1*,sweep/*lr=0.01*]", f"output={out}")
    assert done.status == 0, done.err
    (pair,) = read(out)["pairs"]
    folds = pair["tests"]["folds"]
    assert (folds["folds"], folds["ratio"]) == (5, 0.25)
    assert read(out)["n"] == {"images": 40, "patients": 40}
    assert "Over 5 folds" in done.out
    assert "corrected resampled t" in done.out
    refused = medvision("compare", "runs=[sweep/*lr=0.1*,sweep/*lr=0.01*]", "split=val")
    assert "no val predictions" in refused.err


def test_three_arms_are_judged_under_holm(make, medvision, tmp_path):
    for lr, skill in ((0.1, 0.2), (0.01, 2.0), (0.001, 2.1)):
        make("sweep", lr, skill)
    out = tmp_path / "out"
    words = "runs=[sweep/*lr=0.1*,sweep/*lr=0.01*,sweep/*lr=0.001*]"
    done = medvision("compare", words, f"output={out}")
    assert done.status == 0, done.err
    scores = [pair["tests"]["score"] for pair in read(out)["pairs"]]
    assert len(scores) == 3
    assert min(s["p_holm"] for s in scores) == pytest.approx(3 * min(s["p"] for s in scores))
    assert "Holm over 3 pairs" in done.out


def test_another_score_is_tested_and_low_may_be_better(make, medvision, tmp_path):
    make("weak", 0.1, 0.2), make("strong", 0.01, 4.0)
    done = medvision("compare", "runs=[weak,strong]", "metric=brier", f"output={tmp_path / 'o'}")
    assert read(tmp_path / "o")["pairs"][0]["scores"]["brier"]["value"] < 0
    assert "lr=0.01, name=strong is better than lr=0.1, name=weak" in done.out


def test_val_is_possible_and_stamped(make, medvision):
    make("a", 0.1, 1.0, part="val"), make("b", 0.01, 1.2, part="val")
    refused = medvision("compare", "runs=[a,b]")
    assert refused.status == 2
    assert "2 of 2 runs have no test predictions, such as a/model.optimizer.lr=0.1" in refused.err
    assert "`medvision evaluate run=" in refused.err
    assert "or compare on split=val" in refused.err
    done = medvision("compare", "runs=[a,b]", "split=val")
    assert done.status == 0, done.err
    assert "read every score as optimistic" in done.out


def test_val_of_several_folds_is_refused(make, medvision):
    for fold in (0, 1):
        make("a", 0.1, 1.0, fold=fold, part="val"), make("b", 0.01, 1.2, fold=fold, part="val")
    refused = medvision("compare", "runs=[a,b]", "split=val")
    assert "split=val cannot be pooled over folds" in refused.err


def test_an_item_of_several_arms_is_refused_with_a_pattern_that_works(make, medvision):
    make("sweep", 0.1, 1.0), make("sweep", 0.01, 1.2), make("other", 0.5, 1.0)
    refused = medvision("compare", "runs=[sweep,other]")
    assert refused.status == 2
    assert "runs=sweep holds 2 arms: lr=0.01; lr=0.1" in refused.err
    assert "such as 'sweep/*lr=0.01*'" in refused.err
    assert medvision("compare", "runs=[sweep/*lr=0.01*,other]").status == 0


@pytest.mark.parametrize(("words", "reason"), [
    (["runs=[a]"], "medvision compare needs at least two arms: runs=[A,B]"),
    (["runs=a"], "medvision compare needs at least two arms: runs=[A,B]"),
    (["runs=[a,a]"], "names an arm twice"),
    (["runs=[a,a/*]"], "both hold a/model.optimizer.lr=0.1"),
    (["runs=[a,nowhere]"], "run=nowhere names no run"),
    (["runs=[a,b]", "metric=auc"], "metric=auc is no score (did you mean 'auroc'?)"),
    (["runs=[a,b]", "resamples=10"], "resamples=10 is too few; take 100 or more"),
    (["runs=[a,b]", "split=train"], "choose val or test"),
    (["runs=[a,failed]"], "runs=failed holds no finished run"),
    (["runs=[a,seeds]"], "the arms were not trained with the same seeds and folds: a has 1 of 3, "
                         "without seed=1; seeds has 2 of 3, without seed=0 (status: failed)"),
    (["runs=[a,fewer]"], "40 images of 40 patients and 30 images of 30 patients, 10 images only in "
                         "the first and 0 only in the second, such as 30.png"),
    (["runs=[a,flipped]"], "a and flipped have other annotations for 40 of 40 images, such as "
                           "0.png"),
    (["runs=[a,classes]"], "do not predict the same classes: a: healthy, lesion (binary); "
                           "classes: healthy, lesion, other (multiclass)"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused_in_a_sentence(make, medvision, words, reason):
    make("a", 0.1, 1.0), make("b", 0.01, 1.0), make("failed", 0.01, 1.0, status="failed")
    make("seeds", 0.01, 1.0, seed=0, status="failed")
    make("seeds", 0.01, 1.0, seed=1), make("seeds", 0.01, 1.0, seed=2)
    make("fewer", 0.01, 1.0, rows=slice(30)), make("flipped", 0.01, 1.0, flip=True)
    make("classes", 0.01, 1.0, kind="multiclass", classes=["healthy", "lesion", "other"])
    refused = medvision("compare", *words)
    assert refused.status == 2
    assert reason in refused.err
    assert "Traceback" not in refused.err


def test_other_patients_of_the_same_images_are_refused(make, medvision):
    make("a", 0.1, 1.0)
    folder = make("b", 0.01, 1.0)
    path = folder / "predictions" / "test.csv"
    path.write_text(path.read_text().replace(",p07,", ",p08,"))
    refused = medvision("compare", "runs=[a,b]")
    assert "a and b have other patients for 1 of 40 images, such as 7.png" in refused.err


def test_long_names_become_letters_that_are_explained(make, medvision, tmp_path):
    name = "a_study_with_a_very_long_name_of_its_own"
    make(f"{name}_1", 0.1, 1.0), make(f"{name}_2", 0.01, 1.0)
    done = medvision("compare", f"runs=[{name}_1,{name}_2]", f"output={tmp_path / 'o'}")
    assert [arm["name"] for arm in read(tmp_path / "o")["arms"]] == ["A", "B"]
    assert f"A: {name}_1/" in done.out.replace("\n", "")
