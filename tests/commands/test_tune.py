"""The command: what it refuses, where its space comes from, real trials, several processes."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from medvision.runs import find_runs
from medvision.training import fit

pytestmark = pytest.mark.usefixtures("dots")

optuna = pytest.importorskip("optuna")

SPACE = ("model.optimizer.lr=tag(log,interval(1e-4,1e-2))", "model.net.dropout=interval(0,0.5)")
SHORT = ("trainer.max_epochs=2", "trainer.limit_train_batches=2", "name=s")


@pytest.fixture
def tune(medvision, tiny, apart):
    """`tune("trials=3")` → the outcome of a search in the folder `apart / "s"`."""
    return lambda *words: medvision("tune", *tiny[1:], *SHORT, *words)


def study_of(folder):
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.log"))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name=folder.name, storage=storage)


def states(folder):
    return [trial.state.name for trial in study_of(folder).trials]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*SPACE, "test=true"), "test=true would open the test part for every trial"),
        ((*SPACE, "rerun=true"), "rerun=true would undo what a search resumes"),
        ((*SPACE, "monitor=test/auroc"), "monitor=test/auroc is not measured on the val part"),
        ((), "there is nothing to search"),
        (("seed=0,1",), "seed is nothing to search: its trials could not be compared"),
        (("model.net.drop=interval(0,1)",), "there is no key 'model.net.drop'"),
        (("model=convnet,convnest",), "model=convnest does not exist (did you mean"),
        (("model.optimizer.lr=interval(-1,1)",), "model.optimizer.lr=-1.0 must be a number from 0"),
        (("model.net.dropout=interval(1,0)",), "ends below its start"),
        ((*SPACE, "trainer.devices=2"), "a trial takes one device"),
        ((*SPACE, "trials=0"), "trials=0 must be a whole number, 1 or more"),
        ((*SPACE, "trials=1,2"), "trials=1,2 is not one value"),
        ((*SPACE, "timeout=-1"), "timeout=-1 must be a number of minutes above 0"),
        ((*SPACE, "sampler.sed=1"), "sampler cannot be built: TPESampler.__init__() got an unex"),
        ((*SPACE, "pruner._target_=optuna.pruners.Foo"), "pruner._target_=optuna.pruners.Foo can"),
        ((*SPACE, "model.l1"), "'model.l1' is not key=value; see medvision tune --help"),
        ((*SPACE, "-m"), "medvision tune has no flag -m"),
    ],
)
def test_what_no_trial_could_do_is_refused_before_there_is_a_study(tune, apart, words, sentence):
    done = tune("trials=2", *words)
    assert done.status == 2
    assert sentence in done.err
    assert not apart.exists()


def test_the_space_comes_from_the_experiment_and_the_command(medvision, tiny, apart, monkeypatch):
    monkeypatch.setattr(fit, "train", lambda *arguments, **more: 0.5)
    done = medvision(
        "tune", "experiment=cnn_search", *tiny[1:], "model.net.blocks=1", "data.fold=1", "trials=2",
        "sampler._target_=optuna.samplers.RandomSampler", "model.net.dropout=0.1,0.2",
    )  # fmt: skip
    assert done.status == 0, done.err
    drawn = [trial.params for trial in study_of(apart / "cnn_search").trials]
    assert len(drawn) == 2
    for params in drawn:
        assert sorted(params) == [
            "model.net.dropout", "model.optimizer.lr", "model.optimizer.weight_decay"
        ]  # fmt: skip
        assert params["model.net.dropout"] in ("0.1", "0.2")
    assert "trials: 2 finished\n" in done.out
    assert "note: this search saw data.fold=1 alone" in done.out


def test_help_and_the_missing_extra(medvision, monkeypatch):
    assert "trials=50" in medvision("tune", "--help").out
    monkeypatch.delitem(sys.modules, "medvision.commands.tune")
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = medvision("tune", *SPACE)
    assert done.status == 2
    assert done.err.strip().endswith("add it with: pip install 'medvision[tune]'")


def test_a_pruned_trial_is_an_interrupted_run_and_the_best_one_opens_its_test(
    tune, medvision, apart
):
    always = ("pruner._target_=optuna.pruners.ThresholdPruner", "pruner.lower=2")
    done = tune(*SPACE, *always, "pruner.n_warmup_steps=0", "trials=1")
    assert done.status == 2
    assert "no trial was trained to its end (pruned after epoch 0: val/auroc" in done.err
    (pruned,) = find_runs(apart / "s")
    assert pruned.status == "interrupted"
    assert pruned.record["reason"].startswith("pruned after epoch 0: val/auroc")
    done = tune(*SPACE, "pruner=null", "trials=2")
    assert done.status == 0, done.err
    assert states(apart / "s") == ["PRUNED", "COMPLETE"]
    (best,) = (run for run in find_runs(apart / "s") if run.status == "done")
    assert study_of(apart / "s").best_value == best.record["objective"]
    assert not best.predictions("test").exists()
    assert re.search(r"^best: trial 1, val/auroc (1|)\.\d{3}, ", done.out, re.MULTILINE)
    command = done.out.rpartition("open its test part, once: ")[2].splitlines()[0]
    opened = medvision(*shlex.split(command)[1:])
    assert "finished already" in opened.out
    assert best.predictions("test").exists()


def start(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "medvision", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_two_processes_share_one_study(tiny, apart):
    words = ("tune", *tiny[1:], *SHORT, *SPACE, "trials=5")
    pair = [start(*words) for _ in range(2)]
    outputs = [process.communicate(timeout=240)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    trials = study_of(apart / "s").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 5
    assert len({trial.params["model.net.dropout"] for trial in trials}) == 5
    assert [run.status for run in find_runs(apart / "s")] == ["done"] * 5
    assert all("training in" in output for output in outputs)


@pytest.mark.slow
def test_a_killed_process_loses_nothing(tune, tiny, apart, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(
        "import time\nfrom pytorch_lightning import Callback\n"
        "class Slow(Callback):\n"
        "    def on_train_epoch_start(self, trainer, task): time.sleep(0.5)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(tmp_path)
    slow = ("+callbacks.slow._target_=planted.Slow", "trials=2", "trainer.max_epochs=8")
    words = (*SPACE, *slow, "pruner=null")
    process = start("tune", *tiny[1:], *SHORT, *words)
    while not (saved := [*apart.glob("s/*/checkpoints/last.ckpt")]):  # written behind the training
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = tune(*words)
    assert done.status == 0, done.err
    assert states(apart / "s") == ["FAIL", "COMPLETE", "COMPLETE"]
    trials = study_of(apart / "s").trials
    assert trials[0].params == trials[1].params
    assert sorted(trials[1].intermediate_values) == list(range(8))
    killed = Run(saved[0].parents[1])
    assert killed.status == "done"
    assert len(killed.record["resumed"]) == 1
    assert len(find_runs(apart / "s")) == 2
