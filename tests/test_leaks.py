"""What a model has seen follows it, whatever the door its weights or its rows come in by."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import medvision.files as files
from medvision.data.formats.decode import decode, pixel_digest
from medvision.data.manifest.manifest import read_manifest
from medvision.data.manifest.path_map import reveal_paths
from medvision.model import load_model
from medvision.seen import Seen

pytestmark = pytest.mark.usefixtures("dots")

UNKNOWN = "what they have seen is not known"


@pytest.fixture(scope="module")
def elsewhere(places, medvision) -> Path:
    folder = places / "leaks-elsewhere"
    done = medvision("prepare", "source=phantom", f"output={folder}", "dataset=elsewhere",
                     "patients=12", "slices=3", "size=32", "difficulty=0", "seed=7")  # fmt: skip
    assert done.status == 0, done.err
    return folder / "manifest.csv"


def rename(manifest: Path, dataset: str, medvision) -> Path:
    """Prepare images of a phantom under ids `a0`, `a1`, ... of a data set that is not simulated."""
    table = read_manifest(manifest).table[["path", "frame", "patient", "label"]]
    number = {patient: n for n, patient in enumerate(table["patient"].unique())}
    table["patient"] = [f"a{number[one]}" for one in table["patient"]]
    table["path"] = [str(manifest.parent / path) for path in table["path"]]
    folder = manifest.parent.with_name(f"leaks-{dataset}")
    table.to_csv(folder.with_suffix(".csv"), index=False)
    done = medvision("prepare", "source=table", f"input={folder}.csv", f"output={folder}",
                     f"dataset={dataset}")  # fmt: skip
    assert done.status == 0, done.err
    return folder / "manifest.csv"


SAME_IDS = "say different_patients=true if they are other people"


def test_equal_ids_under_two_dataset_names_are_refused_at_every_door(
    phantom, elsewhere, tiny, medvision, apart
):
    mine, theirs = rename(phantom, "mine", medvision), rename(elsewhere, "theirs", medvision)
    settings = tiny[3:]
    done = medvision("train", "data=manifest", f"data.manifest={mine}", *settings, "name=first")
    assert done.status == 0, done.err
    (first,) = (path for path in (apart / "first").iterdir() if path.is_dir())
    on_theirs = ("train", "data=manifest", f"data.manifest={theirs}")
    gan = ("data.balance=true", "data.epoch_size=64", "model.kimg=0.128", "threads=1",
           "model.generator.width=4", "model.critic.width=4", "model.generator.latent=8",
           *settings[:4])  # fmt: skip
    doors = {
        "evaluate": ("evaluate", f"run={first}", f"data.manifest={theirs}"),
        "model.weights": (*on_theirs, *settings, f"model.weights={first}", "name=heir"),
        "data.extra": ("train", "data=manifest", f"data.manifest={mine}", *settings,
                       f"data.extra=[{theirs}]", "name=more"),
        "judge.run": (*on_theirs, *gan, "experiment=dcgan_phantom", f"judge.run={first}",
                      "name=judged"),
    }  # fmt: skip
    told = {door: medvision(*words) for door, words in doors.items()}
    assert {door: (one.status, SAME_IDS in one.err) for door, one in told.items()} == dict.fromkeys(
        doors, (2, True)
    ), {door: one.err for door, one in told.items()}
    assert [place.parent.parent.name for place in apart.glob("*/*/record.json")] == ["first"]
    for door in ("evaluate", "model.weights"):
        allowed = medvision(*doors[door], "different_patients=true")
        assert allowed.status == 0, allowed.err
    tables = [*apart.glob("heir/*/metrics.json"), *apart.glob("first/*/evaluations/*/metrics.json")]
    assert len(tables) == 2
    for table in tables:
        assert any("another dataset name" in one for one in files.read_json(table)["stamps"])


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_checkpoint_has_seen_what_its_run_has(trained, apart, tiny, medvision, name):
    place = trained / "checkpoints" / name
    told = medvision(*tiny, f"model.weights={place}", "data.split_seed=1")
    assert told.status == 2
    assert "patients and" in told.err
    assert "images of the" in told.err
    assert not list(apart.glob("*/*/record.json"))


def test_weights_of_nobody_are_stamped_on_every_table(
    trained, apart, tiny, elsewhere, medvision, tmp_path
):
    copy = shutil.copy(trained / "checkpoints" / "last.ckpt", tmp_path / "found.ckpt")
    done = medvision(*tiny, f"model.weights={copy}", "data.split_seed=1", "name=nobody")
    assert done.status == 0, done.err
    stamp = f"model.weights=found.ckpt: {UNKNOWN}"
    (run,) = (path for path in (apart / "nobody").iterdir() if path.is_dir())
    assert done.out.count(stamp) == 2  # before it learns, and under its scores
    assert files.read_json(run / "record.json")["stamps"] == [stamp]
    assert files.read_json(run / "metrics.json")["stamps"] == [stamp]
    assert load_model(run / "model.pt").seen.unknown == [stamp]
    page = (run / "report.html").read_text()
    again = medvision("report", f"run={run}")
    assert "does not follow" not in again.out, again.out
    assert medvision("verify", f"run={run}").status == 0
    assert page.count(UNKNOWN) >= 2  # at the scores and in the limits of the card
    scored = medvision("evaluate", f"run={run}", f"data.manifest={elsewhere}")
    assert stamp in scored.out
    told = medvision("predict", f"run={run}", f"input={elsewhere}", f"output={tmp_path}/p.csv")
    assert stamp in told.out
    heir = medvision(*tiny, f"model.weights={run}", "data.split_seed=1", "name=heir", "test=false")
    assert heir.status == 0, heir.err
    assert stamp in heir.out
    compared = medvision("compare", "runs=[nobody,heir]", "split=val")
    assert compared.status == 0, compared.err
    assert UNKNOWN in compared.out


def test_predict_says_which_inputs_the_models_were_trained_on(trained, medvision, tmp_path):
    table = read_manifest(trained / "manifest.csv").table
    trained_on = table[table["split"] == "train"].head(3)
    tested = table[table["split"] == "test"].head(2)
    rows = pd.concat([trained_on, tested])[["path", "frame"]]
    rows.assign(path=reveal_paths(rows["path"].tolist())).to_csv(tmp_path / "new.csv", index=False)
    words = ("predict", f"input={tmp_path}/new.csv", f"output={tmp_path}/p.csv")
    alone = medvision(*words, f"run={trained}")
    assert alone.status == 0, alone.err
    told = "3 images hold what the model was trained or chosen on: its answers for them are no"
    assert told in alone.out
    assert any(told in note for note in files.read_json(tmp_path / "p.trace.json")["notes"])
    copy = shutil.copytree(trained, tmp_path / "again" / "seed=1")
    both = medvision(*words, f'runs=["{trained}","{copy}"]')
    assert both.status == 0, both.err
    assert all(f"model {number} of 2: {told}" in both.out for number in (1, 2))
    clean = tested[["path", "frame"]].assign(path=reveal_paths(tested["path"].tolist()))
    clean.to_csv(tmp_path / "clean.csv", index=False)
    other = medvision("predict", f"input={tmp_path}/clean.csv", f"output={tmp_path}/c.csv",
                      f"run={trained}")  # fmt: skip
    assert "trained or chosen on" not in other.out


def test_no_file_of_a_run_tells_whether_an_image_was_trained_on(trained):
    table = read_manifest(trained / "manifest.csv").table
    paths = reveal_paths(table["path"].tolist())
    plain = {pixel_digest(decode(Path(path), int(frame)))
             for path, frame in zip(paths[:8], table["frame"], strict=False)}  # fmt: skip
    seen = Seen.from_record(files.read_json(trained / "record.json"))
    assert seen == load_model(trained / "model.pt").seen
    assert any(seen.knows(sorted(plain)))
    for place in (trained / "model.pt", trained / "record.json", trained / "card.json"):
        content = place.read_bytes()
        assert not [digest for digest in plain if digest[:32].encode() in content]
