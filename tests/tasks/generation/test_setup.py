"""A generator from its training to its frozen model, on a phantom that suffices for a judge."""

import json

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medvision.model import load_generator
from medvision.runs import Run

pytestmark = pytest.mark.usefixtures("dots")

SHARES = ("data.shares.train=0.6", "data.shares.val=0.3", "data.shares.test=0.1")
GAN = (
    "train", "experiment=dcgan_phantom", "data=manifest", "data.reader.size=[32,32]",
    "data.reader.window=[-100,200]", "data.workers=1", "data.batch_size=16", "data.balance=true",
    "data.epoch_size=64", "model.kimg=0.128", "model.generator.width=4", "model.critic.width=4",
    "model.generator.latent=8", "threads=1", "trainer.log_every_n_steps=4", *SHARES,
)  # fmt: skip
CLASSIFIER = (
    "data.reader.size=[32,32]", "data.reader.window=[-100,200]", "data.workers=1", "threads=1",
    "model.net.widths=[8,16]", "trainer.max_epochs=25", "augment=none", "test=false", *SHARES,
)  # fmt: skip


@pytest.fixture(scope="module")
def crowd(places, medvision):
    """The manifest of 120 patients with 3 slices each: enough of each class to judge by."""
    done = medvision("prepare", "source=phantom", f"output={places / 'crowd'}", "patients=120",
                     "slices=3", "size=32", "difficulty=0")  # fmt: skip
    assert done.status == 0, done.err
    return places / "crowd" / "manifest.csv"


@pytest.fixture(scope="module")
def gan(crowd, medvision):
    """Train a generator for two epochs in the eyes of a classifier; return its run."""
    words = ("train", "data=manifest", *CLASSIFIER, f"data.manifest={crowd}")
    done = medvision(*words, "name=judging_first")
    assert done.status == 0, done.err
    done = medvision(*GAN, f"data.manifest={crowd}", "judge.run=judging_first", "name=judged")
    assert done.status == 0, done.err
    assert "Gate failed" in done.out  # of 128 images nobody learns to draw
    (folder,) = (p for p in (crowd.parent.parent / "runs" / "judged").iterdir() if p.is_dir())
    return Run(folder)


def test_run_folder_holds_what_the_design_says(gan):
    metrics = json.loads(gan.metrics.read_text())
    assert set(metrics) == {"fidelity", "floor", "gate", "n"}
    assert metrics["gate"]["passed"] is False
    assert metrics["gate"]["spaces"] == ["untrained", "classifier"]
    assert any("coverage" in reason for reason in metrics["gate"]["reasons"])
    assert metrics["fidelity"]["label_agreement"] is not None
    assert metrics["n"]["train"]["images"] == (pd.read_csv(gan.manifest)["split"] == "train").sum()
    assert gan.record["kind"] == "generator"
    assert gan.record["status"] == "done"
    assert not gan.record.get("test_openings")
    assert not gan.predictions("test").exists()
    figures = {path.stem for path in (gan.folder / "figures").glob("*.png")}
    assert figures == {"samples", "neighbours", "learning_curves", "preview"}
    assert len([*(gan.folder / "samples").glob("*.png")]) == 2
    page = (gan.folder / "report.html").read_text()
    assert "Gate failed" in page
    assert "What the gate can see" in page
    places = [page.index(f'id="{name}"') for name in ("figures", "fidelity", "flow", "cohort")]
    assert places == sorted(places)  # samples first
    assert page.index("Generated images") < page.index("Learning curves")
    assert "Generator with latent 8" in page[page.index('id="card"') :]
    assert 'id="checklists"' not in page  # they ask of classifiers


def test_every_epoch_stays_in_tensorboard(gan):
    board = EventAccumulator(str(gan.folder), {"images": 0, "scalars": 0})
    board.Reload()
    assert len(board.Scalars("val/gate_score")) == 2
    assert len(board.Images("samples/grid")) == 2
    assert "visual/neighbours" in board.Tags()["images"]
    steps = [event.step for event in board.Scalars("train/critic_loss_step")]
    assert steps == [4, 8]


def test_history_counts_thousands_of_images(gan):
    history = pd.read_csv(gan.folder / "history.csv")
    assert history["train/kimg"].tolist() == pytest.approx([0.064, 0.128])
    told = {"val/gate_score", "val/coverage", "val/diversity", "val/label_agreement", "val/copied",
            "val/critic_auc", "train/critic_loss", "train/generator_loss"}  # fmt: skip
    assert told <= set(history)
    assert history[sorted(told)].notna().all(axis=None)


def test_of_equal_epochs_coverage_and_diversity_decide(gan):
    """No label agrees after 128 images, so that the score of the gate is 0 in both epochs."""
    history, record = pd.read_csv(gan.folder / "history.csv"), gan.record
    kept = history.loc[history["epoch"] == record["best_epoch"]].iloc[0]
    ranks = history[["val/gate_score", "val/coverage", "val/diversity"]].apply(tuple, axis=1)
    assert tuple(kept[["val/gate_score", "val/coverage", "val/diversity"]]) == max(ranks)
    assert record["kept_for"].startswith("highest val/gate_score (")
    assert record["kept_for"] in (gan.folder / "report.html").read_text()


def test_frozen_model_is_the_average_of_the_best_epoch(gan):
    model = load_generator(gan.model)
    best = torch.load(gan.best_checkpoint, weights_only=True)["state_dict"]
    for name, value in model.net.state_dict().items():
        assert torch.equal(value, best[f"ema.{name}"]), name
    assert model.gate == json.loads(gan.metrics.read_text())["gate"]
    table = pd.read_csv(gan.manifest)
    assert set(model.seen.train_patients) == set(table.loc[table["split"] == "train", "patient"])
    assert set(model.seen.val_patients) == set(table.loc[table["split"] == "val", "patient"])


def test_same_command_answers_and_report_repeats(gan, crowd, medvision):
    done = medvision(*GAN, f"data.manifest={crowd}", "judge.run=judging_first", "name=judged")
    assert done.status == 0
    assert "finished already" in done.out
    done = medvision("report", f"run={gan.folder}")
    assert done.status == 0, done.err
    assert "copies of training images" in done.out


def test_generate_asks_for_the_gate(gan, tmp_path, medvision):
    words = ("generate", f"run={gan.folder}", "per_class=3", f"output={tmp_path / 'made'}")
    refused = medvision(*words)
    assert refused.status == 2
    assert "failed its gate (coverage is" in refused.err
    assert medvision(*words, "allow_ungated=true").status == 0
    assert len([*(tmp_path / "made" / "images").rglob("*.png")]) == 6


def test_classifier_trains_on_them_too_and_says_so(gan, crowd, tmp_path, medvision):
    made = tmp_path / "made"
    done = medvision("generate", f"run={gan.folder}", "per_class=40", f"output={made}",
                     "allow_ungated=true")  # fmt: skip
    assert done.status == 0, done.err
    words = ["train", "data=manifest", *CLASSIFIER, f"data.manifest={crowd}"]
    extra = [f"data.extra=[{made / 'manifest.csv'}]", "data.extra_ratio=0.25"]
    assert medvision(*words, *extra, "name=judging_too").status == 0
    (folder,) = (p for p in (gan.folder.parents[1] / "judging_too").iterdir() if p.is_dir())
    audit = (folder / "audit.json").read_text()
    assert "gate failed" in audit
    assert "0.25" in audit
    assert "gate failed" in (folder / "report.html").read_text()
    done = medvision("compare", "runs=[judging_first,judging_too]", "split=val")
    assert done.status == 0, done.err


def test_killed_and_resumed_is_uninterrupted(gan, crowd, apart, medvision, monkeypatch):
    from medvision.tasks.generation.callback import FidelityCallback

    judge = next(p for p in (gan.folder.parents[1] / "judging_first").iterdir() if p.is_dir())
    words = (*GAN, f"data.manifest={crowd}", f"judge.run={judge}", "name=judged")
    plain = FidelityCallback.on_validation_epoch_end

    def stop(self, trainer, task):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt
        plain(self, trainer, task)

    monkeypatch.setattr(FidelityCallback, "on_validation_epoch_end", stop)
    assert medvision(*words).status == 130
    monkeypatch.setattr(FidelityCallback, "on_validation_epoch_end", plain)
    assert medvision(*words).status == 0
    (folder,) = (p for p in (apart / "judged").iterdir() if p.is_dir())
    assert folder.name == gan.folder.name
    ours, theirs = load_generator(folder / "model.pt"), load_generator(gan.model)
    for name, value in ours.net.state_dict().items():
        assert torch.equal(value, theirs.net.state_dict()[name]), name
    columns = pd.read_csv(gan.folder / "history.csv").drop(columns="seconds")
    pd.testing.assert_frame_equal(
        pd.read_csv(folder / "history.csv").drop(columns="seconds"), columns
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["test=true"], "a generator never opens the test part (test=false)"),
        (["trainer.gradient_clip_val=1.0"], "model.clip=… does"),
        (
            ["monitor=val/auroc"],
            "does not exist; use val/ with one of gate_score",
        ),
        (
            ["data.reader.size=[28,28]", "judge.run=null"],
            "size=28 (data.reader.size must be square: 32, 64",
        ),
        (["data.reader.size=[32,64]", "judge.run=null"], "images of 32x64 are not square"),
        (["data.reader.size=[64,64]"], "cannot judge: it reads images as"),
        (["~judge"], "judge=default is missing"),
        (["keep=last"], "keep=last is for models that answer for patients"),
        (["trainer.precision=16-mixed"], "float16 cannot hold the penalties"),
        (["callbacks=ema"], "beside the average it has already"),
        (["data.balance=false", "data.extra_ratio=0.25"], "generated images teach no generator"),
        (["judge.asked.coverage=-3"], "judge.asked cannot be coverage=-3 (above 0, at most 1)"),
        (["judge.inception=none.pth"], "none.pth"),
        (["model.kimg=0"], "model.kimg=0 must be a number from 0.001"),
        (["data.classes=[lesion,healthy]"], "cannot judge: its classes are"),
    ],
)
def test_what_cannot_be_is_one_sentence(words, told, crowd, gan, apart, medvision):
    judge = next(p for p in (gan.folder.parents[1] / "judging_first").iterdir() if p.is_dir())
    judged = [] if words == ["~judge"] else [f"judge.run={judge}"]
    done = medvision(*GAN, f"data.manifest={crowd}", *judged, *words)
    assert done.status == 2
    assert told in done.err
    assert "Traceback" not in done.err


def test_a_judge_that_learned_from_held_out_patients_is_refused(crowd, gan, apart, medvision):
    judge = next(p for p in (gan.folder.parents[1] / "judging_first").iterdir() if p.is_dir())
    words = (*GAN, f"data.manifest={crowd}", f"judge.run={judge}", "data.split_seed=5")
    done = medvision(*words)
    assert done.status == 2
    assert "cannot judge: it has met patients or images of val (" in done.err


def test_few_images_or_one_class_are_refused(phantom, crowd, apart, tmp_path, medvision):
    done = medvision(*GAN, f"data.manifest={phantom}")
    assert done.status == 2
    assert "fewer than 50: oversample instead" in done.err
    table = pd.read_csv(crowd)
    alone = table[table["label"] == "healthy"].drop(columns="mask")
    alone.assign(path=[str(crowd.parent / p) for p in alone["path"]]).to_csv(
        tmp_path / "alone.csv", index=False
    )
    done = medvision(*GAN, f"data.manifest={tmp_path / 'alone.csv'}")
    assert done.status == 2
    assert "one class" in done.err


def test_a_classifier_takes_no_judge(tiny, apart, medvision):
    done = medvision(*tiny, "judge=default")
    assert done.status == 2
    assert "judge= is for a generator" in done.err
