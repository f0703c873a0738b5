"""`medvision evaluate`: ensembles on new rows and on their own part, and rows they have seen."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

import medvision.files as files
from medvision.data.batches.read import decode_rows
from medvision.data.manifest.manifest import read_manifest
from medvision.data.manifest.path_map import reveal_paths
from medvision.data.manifest.people import show_rows
from medvision.data.store.reader import Reader
from medvision.evaluation import predictions
from medvision.evaluation.evaluator import open_evaluator
from medvision.inference import rows
from medvision.model import load_model, save_model
from medvision.seen import Seen
from medvision.tasks.classification.evaluator import ClassificationEvaluator, decide_labels

pytestmark = pytest.mark.usefixtures("dots")

PROBS = ["prob_healthy", "prob_lesion"]
FIGURES = ClassificationEvaluator.figures
UNLIKE = "3 of 3 images are unlike those the model was trained on (units 3)"


@pytest.fixture(scope="module", autouse=True)
def runs(trained, tmp_path_factory, sign_again) -> Iterator[Path]:
    """A runs folder of this file's own: `seeds` holds two runs of one split, `folds` two folds.

    They are the trained run with other weights and other books, since trainings take seconds.
    """
    top = tmp_path_factory.mktemp("ensembles")
    shutil.copytree(trained, top / "seeds" / "first")
    change(shutil.copytree(trained, top / "seeds" / "second"), temperature=0.7, threshold=0.8)
    for fold in (0, 1):
        make_fold(shutil.copytree(trained, top / "folds" / f"data.fold={fold}"), fold)
    for folder in top.glob("*/*"):
        sign_again(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVISION_RUNS", str(top))
        yield top


def change(folder: Path, **facts: Any) -> None:
    """Give a run other weights, other facts, and the predictions that follow from them."""
    model = load_model(folder / "model.pt")
    with torch.no_grad():
        for weights in model.net.parameters():
            weights.mul_(1.2)
    model.decision |= {name: facts.pop(name) for name in model.decision if name in facts}
    save_model(replace(model, **facts), folder / "model.pt")


def make_fold(folder: Path, fold: int) -> None:
    """Rewrite what a run was tested on and has seen: one half of the patients each."""
    model, manifest = load_model(folder / "model.pt"), read_manifest(folder / "manifest.csv")
    reader = Reader.from_contract(model.contract)
    read = decode_rows(manifest, reader, "stop")
    halves = pd.factorize(manifest.table["patient"])[0] % 2
    tested = halves == fold
    trained = show_rows(read.table[~tested], read.digest[~tested], manifest.card.key)
    change(folder, seen=Seen.of(trained, trained), temperature=1.0 + fold)
    split = np.where(tested, "test", "train")
    files.write_text(
        folder / "manifest.csv", manifest.table.assign(split=split).to_csv(index=False)
    )
    config = OmegaConf.load(folder / "config.yaml")
    OmegaConf.update(config, "data.fold", fold)
    files.write_text(folder / "config.yaml", OmegaConf.to_yaml(config))


@pytest.fixture(autouse=True)
def figures(monkeypatch) -> None:
    """Draw none, which takes most of the time, but where a test asks for them."""
    monkeypatch.setattr(ClassificationEvaluator, "figures", lambda *_: iter(()))


@pytest.fixture(scope="module")
def elsewhere(runs, medvision) -> Path:
    """A manifest of patients that no run has seen, without a split."""
    folder = runs.parent / f"{runs.name}-elsewhere"
    done = medvision("prepare", "source=phantom", f"output={folder}", "dataset=elsewhere",
                     "patients=12", "slices=3", "size=32", "difficulty=0", "seed=7")  # fmt: skip
    assert done.status == 0, done.err
    return folder / "manifest.csv"


def read_predictions(path: Path) -> pd.DataFrame:
    return predictions.read_predictions(path, open_evaluator("classification").tables[""])


def folders(runs: Path, name: str) -> list[Path]:
    return sorted(path for path in (runs / name).iterdir() if path.is_dir())


def listed(*members: Path) -> str:
    return "runs=[{}]".format(",".join(f'"{member}"' for member in members))


def stored(folder: Path, part: str = "test") -> pd.DataFrame:
    return read_predictions(folder / "predictions" / f"{part}.csv")


def place(done) -> Path:
    """Return the folder a finished command names."""
    assert done.status == 0, done.err
    return Path(re.search(r"written: (.+)", done.out)[1])


def openings(folder: Path) -> int:
    return len(files.read_json(folder / "record.json").get("test_openings", []))


def test_an_ensemble_of_one_is_that_run_bit_for_bit(runs, medvision):
    member = runs / "seeds" / "first"
    folder = place(medvision("evaluate", listed(member)))
    assert folder.parent == runs / "_joint"
    assert re.fullmatch(r"evaluate-[0-9a-f]{8}", folder.name)
    pd.testing.assert_frame_equal(stored(folder), stored(member), check_exact=True)
    inside, outside = (files.read_json(f / "metrics.json") for f in (member, folder))
    for key in ("test", "operating_point", "temperature"):
        assert outside[key] == inside[key]
    assert outside["confusion"]["test"] == inside["confusion"]["test"]


def test_two_seeds_are_scored_by_their_mean_on_their_own_part(runs, medvision, monkeypatch):
    monkeypatch.setattr(ClassificationEvaluator, "figures", FIGURES)
    members = folders(runs, "seeds")
    assert medvision("evaluate", f"run={members[1]}").status == 0  # its weights were changed
    before = [openings(member) for member in members]
    own = {path: path.read_bytes() for member in members for path in member.rglob("*")
           if path.is_file() and path.name != "record.json"}  # fmt: skip
    folder = place(medvision("evaluate", "runs=[seeds]"))
    first, second = (stored(member) for member in members)
    joint = stored(folder)
    assert np.abs(first[PROBS] - second[PROBS]).to_numpy().max() > 1e-3
    np.testing.assert_array_equal(joint[PROBS], (first[PROBS] + second[PROBS]) / 2)
    assert not [name for name in joint if name.startswith("logit_")]
    facts = ["index", "dataset", "path", "frame", "patient", "series", "label"]
    pd.testing.assert_frame_equal(joint[facts], first[facts])
    models = [load_model(member / "model.pt") for member in members]
    cut = sum(model.threshold for model in models) / 2
    assert list(joint["pred"]) == decide_labels(
        joint[PROBS].to_numpy(), models[0].classes, "binary", cut
    )
    metrics = files.read_json(folder / "metrics.json")
    assert metrics["temperature"] is None
    few = {"healthy": 6, "lesion": 3}  # patients of val: the threshold is .5
    assert metrics["operating_point"] == {"rule": "youden", "threshold": cut, "too_few": few}
    stamp = ("ensemble of 2 runs: mean of calibrated probabilities, "
             "cut at the mean of their thresholds")  # fmt: skip
    assert metrics["stamps"] == [stamp]
    page = (folder / "report.html").read_text()
    assert stamp in page
    assert "<dt>Model</dt><dd>2 models together: " in page
    assert (folder / "figures" / "roc.png").exists()
    record = files.read_json(folder / "record.json")
    assert record["status"] == "done"
    assert record["members"] == [
        {"run": f"seeds/{member.name}", "model": files.digest_file(member / "model.pt")}
        for member in members
    ]
    assert [openings(member) - n for member, n in zip(members, before, strict=True)] == [1, 1]
    assert openings(folder) == 1
    assert all(path.read_bytes() == content for path, content in own.items())


def test_members_in_another_order_are_the_same_folder_and_each_look_is_counted(runs, medvision):
    one, two = folders(runs, "seeds")
    folder = place(medvision("evaluate", listed(one, two)))
    before = openings(folder)
    assert place(medvision("evaluate", listed(two, one))) == folder
    assert openings(folder) == before + 1


def test_the_val_part_is_said_to_be_what_was_chosen_on(runs, medvision):
    before = [openings(member) for member in folders(runs, "seeds")]
    folder = place(medvision("evaluate", "runs=seeds", "split=val"))
    metrics = files.read_json(folder / "metrics.json")
    assert metrics["val"]["fitted_on"] == "val"
    assert len(metrics["stamps"]) == 1
    assert [openings(member) for member in folders(runs, "seeds")] == before
    assert openings(folder) == 0


def test_folds_have_no_part_in_common(runs, medvision):
    done = medvision("evaluate", "runs=[folds]")
    assert done.status == 2
    assert "0 of them in both); each fold tests on other patients; give data.manifest=…" in (
        done.err.replace("FILE.csv", "…")
    )
    assert "medvision report run=SWEEP pools the out-of-fold predictions" in done.err
    assert done.err.count("\n") == 1


def test_seeds_whose_labels_were_changed_have_none_either(runs, medvision, tmp_path, sign_again):
    one, two = folders(runs, "seeds")
    other = shutil.copytree(two, tmp_path / "other")
    table = pd.read_csv(other / "manifest.csv", dtype=str, keep_default_na=False)
    row = table.index[table["split"] == "test"][0]
    table.loc[row, "label"] = ({"healthy", "lesion"} - {table.loc[row, "label"]}).pop()
    table.to_csv(other / "manifest.csv", index=False)
    sign_again(other)
    done = medvision("evaluate", listed(one, other))
    assert done.status == 2
    assert "have other annotations for 1 of" in done.err
    table.drop(index=row).to_csv(other / "manifest.csv", index=False)
    sign_again(other)
    done = medvision("evaluate", listed(one, other))
    assert "have other rows in test" in done.err
    assert "rows that none of them has seen" in done.err
    assert "fold" not in done.err.replace(str(tmp_path), "")


def test_folds_on_new_rows_agree_with_predict(runs, elsewhere, medvision, tmp_path):
    before = [openings(member) for member in folders(runs, "folds")]
    folder = place(medvision("evaluate", "runs=[folds]", f"data.manifest={elsewhere}"))
    joint = stored(folder)
    assert len(joint) == 36
    metrics = files.read_json(folder / "metrics.json")
    assert [stamp.split(":")[0] for stamp in metrics["stamps"]] == [
        "ensemble of 2 runs", "scored on rows of another manifest with a frozen model",
    ]  # fmt: skip
    assert [openings(member) for member in folders(runs, "folds")] == before
    assert openings(folder) == 1
    output = tmp_path / "p.csv"
    done = medvision("predict", "runs=[folds/*]", f"input={elsewhere}", f"output={output}")
    assert done.status == 0, done.err
    new = pd.read_csv(output)
    np.testing.assert_allclose(new[PROBS], joint[PROBS], atol=1e-6)
    assert list(new["pred"]) == list(joint["pred"])


def test_rows_that_any_member_has_seen_are_refused_or_stamped(runs, medvision, tmp_path):
    tested, other = folders(runs, "folds")
    words = ("evaluate", listed(tested, other), f"data.manifest={tested}/manifest.csv")
    told = medvision(*words, f"output={tmp_path}/out")
    assert told.status == 2
    rows_of = pd.read_csv(tested / "manifest.csv").query("split == 'test'")
    seen = f"{rows_of['patient'].nunique()} patients and {len(rows_of)} images were seen"
    assert f"folds/{other.name}: {seen} in training or validation" in told.err
    assert f"folds/{tested.name}: " not in told.err
    assert "allow_overlap=true" in told.err
    assert not (tmp_path / "out").exists()
    folder = place(medvision(*words, "allow_overlap=true", f"output={tmp_path}/out"))
    assert folder == tmp_path / "out"
    last = files.read_json(folder / "metrics.json")["stamps"][-1]
    assert last == f"folds/{other.name}: {seen} in training or validation"
    assert files.read_json(folder / "record.json")["stamps"][-1] == last
    phantom = medvision("evaluate", "runs=folds", f"data.manifest={tested}/manifest.csv",
                        "data.columns.split=null")  # fmt: skip
    assert "A score on them would prove nothing" in phantom.err
    assert all(f"folds/{member.name}: " in phantom.err for member in (tested, other))


def test_an_output_that_holds_another_result_is_left_alone(runs, elsewhere, medvision, tmp_path):
    out = f"output={tmp_path}/out"
    words = ("evaluate", "runs=seeds", f"data.manifest={elsewhere}", out)
    assert place(medvision(*words)) == tmp_path / "out"
    assert medvision(*words).status == 0
    before = (tmp_path / "out" / "record.json").read_bytes()
    done = medvision("evaluate", "runs=seeds", out)
    assert f"{out} holds another result; choose another folder" in done.err
    one = folders(runs, "seeds")[0]
    assert "holds another result" in medvision("evaluate", listed(one), f"output={one}").err
    assert "omit output=" in medvision("evaluate", f"run={one}", out).err
    assert (tmp_path / "out" / "record.json").read_bytes() == before


def test_each_member_reads_its_own_way_and_equal_ways_read_once(
    runs, elsewhere, medvision, tmp_path, monkeypatch
):
    one, two = folders(runs, "seeds")
    small = tmp_path / "variants" / "small"
    model = load_model(two / "model.pt")
    model.inputs["reader"] = model.contract | {"size": [24, 24]}
    save_model(model, small / "model.pt")
    files.write_json(small / "record.json", {"status": "done"})
    sizes = []

    def count(manifest, reader, *more):
        sizes.append(tuple(reader.size))
        return assemble(manifest, reader, *more)

    assemble = rows.assemble_foreign
    monkeypatch.setattr(rows, "assemble_foreign", count)
    words = f"data.manifest={elsewhere}"
    joint = stored(place(medvision("evaluate", listed(one, two, small), words)))
    assert sorted(sizes) == [(24, 24), (32, 32)]
    alone = [stored(place(medvision("evaluate", f"run={m}", words))) for m in (one, two, small)]
    assert np.abs(alone[1][PROBS] - alone[2][PROBS]).to_numpy().max() > 1e-6
    np.testing.assert_array_equal(joint[PROBS], np.mean([t[PROBS] for t in alone], axis=0))


def test_the_index_is_the_row_of_the_manifest_given(runs, medvision, tmp_path):
    draw = np.random.default_rng(0)
    for name in "abcd":
        cv2.imwrite(f"{tmp_path}/{name}.png", draw.integers(0, 255, (32, 32), dtype=np.uint8))
    (tmp_path / "b.png").write_text("I am no picture")
    manifest = tmp_path / "new.csv"
    labels = {"a": "healthy", "b": "lesion", "c": "healthy", "d": "lesion"}
    lines = [f"{name}.png,p{name},{label}" for name, label in labels.items()]
    manifest.write_text("\n".join(["path,patient,label", *lines]))
    for who in ("runs=seeds", f"run={folders(runs, 'seeds')[0]}"):
        words = ("evaluate", who, f"data.manifest={manifest}", "on_foreign=warn")
        assert "cannot read 1 of 4 images" in medvision(*words).err
        folder = place(medvision(*words, "on_unreadable=exclude"))
        table = stored(folder)
        assert list(table["index"]) == [0, 2, 3]
        paths = reveal_paths(table["path"].tolist())  # the patients of the run are hashed
        assert [Path(path).stem for path in paths] == ["a", "c", "d"]
        assert table["path"].str.startswith("hashed-").all()
        assert table["patient"].str.fullmatch("p[0-9a-f]{12}").all()
        *_, unchecked, foreign, left_out = files.read_json(folder / "metrics.json")["stamps"]
        assert unchecked.startswith("patients not checked: ")
        assert foreign == UNLIKE
        assert left_out == "1 unreadable images left out"


def test_rows_unlike_the_training_images_are_refused_by_name_or_stamped(runs, medvision, tmp_path):
    draw = np.random.default_rng(0)
    for name, shape in {"a": (32, 32), "b": (32, 32), "c": (32, 32, 3)}.items():
        pixels = draw.integers(-1000, 400, shape, dtype=np.int16)
        np.save(tmp_path / f"{name}.npy", np.kron(pixels, np.ones((5, 5), np.int16))
                if name == "b" else pixels)  # fmt: skip
    lines = ("a.npy,1,lesion", "b.npy,2,healthy", "c.npy,3,healthy")
    (tmp_path / "new.csv").write_text("\n".join(["path,patient,label", *lines]))
    words = ("evaluate", "runs=seeds", f"data.manifest={tmp_path}/new.csv")
    done = medvision(*words, f"output={tmp_path}/out")
    assert done.status == 2
    assert done.err.splitlines()[-1] == (
        "medvision: 2 of 3 images are unlike those the model was trained on: b.npy (160 x 160 "
        "pixels, not 32 x 32); c.npy (colour, not grey). Leave them out, or go on with "
        "on_foreign=warn, which marks them"
    )
    assert not (tmp_path / "out").exists()
    done = medvision(*words, "on_foreign=warn")
    folder = place(done)
    stamp = "2 of 3 images are unlike those the model was trained on (colour 1, size 1)"
    assert files.read_json(folder / "metrics.json")["stamps"][-1] == stamp
    assert files.read_json(folder / "record.json")["stamps"][-1] == stamp
    assert stamp in (folder / "report.html").read_text()
    assert done.out.count("modality not checked for 3 of 3 images: they do not say it") == 1


def test_what_one_member_cannot_read_is_left_out_for_all(runs, medvision, tmp_path):
    draw = np.random.default_rng(0)
    for name in "acd":
        np.save(tmp_path / f"{name}.npy", draw.integers(-1000, 200, (32, 32), dtype=np.int16))
    cv2.imwrite(f"{tmp_path}/b.png", draw.integers(0, 255, (32, 32), dtype=np.uint8))
    (tmp_path / "new.csv").write_text(
        "path,patient,label\na.npy,1,lesion\nb.png,2,healthy\nc.npy,3,healthy\nd.npy,4,lesion\n"
    )
    one = runs / "seeds" / "first"
    strict = tmp_path / "variants" / "strict"
    model = load_model(one / "model.pt")  # Hounsfield units are asked of every image
    model.inputs["reader"] = model.contract | {"window": "lung"}
    save_model(model, strict / "model.pt")
    files.write_json(strict / "record.json", {"status": "done"})
    words = (f"data.manifest={tmp_path}/new.csv", "on_unreadable=exclude", "on_foreign=warn")
    joint, whole, part = (
        stored(place(medvision("evaluate", who, *words)))
        for who in (listed(one, strict), f"run={one}", f"run={strict}")
    )
    assert list(whole["index"]) == [0, 1, 2, 3]
    assert list(joint["index"]) == list(part["index"]) == [0, 2, 3]
    mean = (whole[PROBS].to_numpy()[[0, 2, 3]] + part[PROBS].to_numpy()) / 2
    np.testing.assert_allclose(joint[PROBS], mean, atol=1e-6)


def test_patients_of_the_own_part_need_no_key(runs, medvision, tmp_path, sign_again):
    members = [shutil.copytree(m, tmp_path / m.name) for m in folders(runs, "seeds")]
    for member in members:
        card = files.read_json(member / "card.json")
        assert card.pop("key")
        files.write_json(member / "card.json", card)
        sign_again(member)
    folder = place(medvision("evaluate", listed(*members)))
    (stamp,) = files.read_json(folder / "metrics.json")["stamps"]
    assert stamp.startswith("ensemble of 2 runs")


def test_only_val_and_test_are_scored(runs, elsewhere, medvision):
    done = medvision("evaluate", "runs=seeds", f"data.manifest={elsewhere}", "split=train")
    assert done.status == 2
    assert "split=train: what is scored is called val or test" in done.err
    assert "data.columns.split=null takes all rows" in done.err


@pytest.mark.slow
def test_folds_that_were_trained(tiny, phantom, elsewhere, apart, medvision, tmp_path):
    for fold in (0, 1):
        done = medvision(*tiny, "name=real", "data.folds=2", f"data.fold={fold}", "seed=3")
        assert done.status == 0, done.err
    one, two = folders(apart, "real")
    assert "each fold tests on other patients" in medvision("evaluate", "runs=real").err
    told = medvision("evaluate", "runs=real", f"data.manifest={phantom}").err
    assert all(f"real/{member.name}: " in told for member in (one, two))
    words = f"data.manifest={elsewhere}"
    joint = stored(place(medvision("evaluate", "runs=real", words)))
    alone = [stored(place(medvision("evaluate", f"run={member}", words))) for member in (one, two)]
    np.testing.assert_array_equal(joint[PROBS], (alone[0][PROBS] + alone[1][PROBS]) / 2)
