"""Sweeps that survive: failed cells, killed processes, folds, joblib and submitit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medvision.data.store import store as stores
from medvision.errors import MedvisionError
from medvision.runs import Run, find_runs

pytestmark = pytest.mark.usefixtures("dots")

TRAP = '''
import torch
from pytorch_lightning import Callback

class Trap(Callback):
    """Seed 3 crashes, seed 5 diverges, every epoch of the others takes a moment."""
    def __init__(self, seed, pause): self.seed, self.pause = seed, pause
    def on_train_epoch_start(self, trainer, task):
        import time; time.sleep(self.pause)
        if self.seed == 3: raise RuntimeError("a planted crash")
        if self.seed == 5: task.net.apply(
            lambda part: [torch.nn.init.constant_(p, float("nan")) for p in part.parameters()])
'''


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Words that add a callback which breaks some seeds."""
    (tmp_path / "planted.py").write_text(TRAP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return (
        "+callbacks.trap._target_=planted.Trap", "+callbacks.trap.seed=${seed}",
        "+callbacks.trap.pause=0.0",
    )  # fmt: skip


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "medvision", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def statuses(sweep: Path) -> list[str]:
    return sorted(str(run.status) for run in find_runs(sweep))


def stamps(sweep: Path) -> dict[str, int]:
    """Run → when its model was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in sweep.glob("*/model.pt")}


def test_a_failed_job_is_a_failed_cell_and_is_tried_again(apart, medvision, tiny, trap):
    words = (*tiny, *trap, "-m", "name=s", "seed=2,3,5", "trainer.max_epochs=1")
    first = medvision(*words)
    assert first.status == 2
    assert statuses(apart / "s") == ["done", "failed", "failed"]
    assert "a planted crash" in first.err
    assert "2 jobs of the sweep failed; the same command tries again what failed" in first.err
    done = stamps(apart / "s")
    assert len(done) == 1
    again = medvision(*words)
    assert again.status == 2
    assert "finished already" in again.out
    assert stamps(apart / "s") == done
    assert len(list((apart / "s").glob("*~1"))) == 2
    reasons = {run.record["seed"]: run.record.get("reason") for run in find_runs(apart / "s")}
    assert "a planted crash" in reasons[3]
    assert "training diverged" in reasons[5]
    assert "a planted crash" in (apart / "s" / "report.md").read_text()


def test_a_refused_job_leaves_its_reason_until_it_is_no_longer_refused(apart, medvision, tiny):
    words = (*tiny, "-m", "name=s", "trainer.max_epochs=1", "test=false")
    assert medvision(*words, "model.optimizer.lr=0.001,-1").status == 2
    (refused,) = (run for run in find_runs(apart / "s") if run.status == "failed")
    assert "model.optimizer.lr=-1 must be a number from 0" in refused.record["reason"]
    assert "model.optimizer.lr=-1" in refused.record["overrides"]
    assert [p.name for p in refused.folder.iterdir()] == ["record.json"]


def test_the_store_is_decoded_once_for_a_sweep(apart, medvision, tiny, monkeypatch):
    built = []
    real = stores._build
    monkeypatch.setattr(stores, "_build", lambda *a, **k: built.append(1) or real(*a, **k))
    words = (*tiny, "-m", "name=s", "seed=0,1", "data.fold=0,1", "trainer.max_epochs=1")
    assert medvision(*words).status == 0
    assert statuses(apart / "s") == ["done"] * 4
    assert len(built) == 1


def test_a_grid_of_an_unknown_parameter_starts_nothing(apart, medvision, tiny):
    done = medvision(*tiny, "-m", "name=s", "model.optimizer.rate=1,2")
    assert done.status == 2
    assert "there is no key 'model.optimizer.rate'" in done.err
    assert not (apart / "s").exists()


def test_a_search_in_an_experiment_file_leaves_test_closed(apart, medvision, tiny):
    done = medvision(
        "train", "-m", "experiment=lr_sweep", *tiny[1:], "seed=0", "trainer.max_epochs=1",
        "model.optimizer.lr=0.001,0.003",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "leaves the test part closed" in done.out
    runs = find_runs(apart / "lr_sweep")
    assert len(runs) == 2
    assert not any(run.predictions("test").exists() for run in runs)


def test_a_disk_that_fills_in_a_job_spoils_no_other(apart, medvision, tiny, monkeypatch):
    words = (*tiny, "-m", "name=s", "seed=0,1,2", "trainer.max_epochs=1")
    sync = os.fsync

    def full(stream):
        if list((apart / "s").glob("*/report.html")):
            raise OSError(28, "No space left on device")
        sync(stream)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = medvision(*words)
    assert done.status == 2
    assert "the disk is full; free some space and run the same command again" in done.err
    good = stamps(apart / "s")
    assert statuses(apart / "s").count("done") == 1
    assert medvision(*words).status == 0
    assert statuses(apart / "s") == ["done"] * 3
    assert good.items() <= stamps(apart / "s").items()


def test_an_unknown_launcher_names_the_extra(medvision, tiny):
    done = medvision(*tiny, "-m", "seed=0,1", "hydra/launcher=ray")
    assert "pip install 'medvision[launch]'" in done.err


def test_an_interval_belongs_to_tune(medvision, tiny):
    done = medvision(*tiny, "-m", "model.optimizer.lr=interval(0.001,0.1)")
    assert done.status == 2
    assert "search it with: medvision tune" in done.err


@pytest.mark.slow
def test_twelve_runs_with_a_crash_a_nan_and_a_kill(apart, tiny, trap):
    pause = ("+callbacks.trap.pause=0.3" if word.endswith("pause=0.0") else word for word in trap)
    words = (*tiny, *pause, "-m", "name=night", "seed=" + ",".join(map(str, range(12))))
    sweep = apart / "night"
    first = start(*words)
    while (seen := statuses_or_none(sweep)).count("done") < 5 or "running" not in seen:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.05)
    time.sleep(random.uniform(0, 0.6))  # somewhere inside a run of three epochs
    first.send_signal(signal.SIGKILL)
    first.wait()
    before, cut = stamps(sweep), [run for run in find_runs(sweep) if run.status == "running"]
    assert len(cut) == 1
    resumes = cut[0].last_checkpoint.exists()

    second = start(*words)
    out = second.communicate()[0]
    assert second.returncode == 2
    assert before.items() <= stamps(sweep).items()  # nothing done was done again
    assert statuses(sweep) == ["done"] * 10 + ["failed"] * 2
    assert f"{'resuming' if resumes else 'training'} in {cut[0].folder}" in out
    report = (sweep / "report.md").read_text()
    assert "a planted crash" in report
    assert "training diverged" in report
    aside = [p.name for p in sweep.glob("*~*")]
    assert len(aside) <= 2  # what failed before the kill was tried once more
    assert not [p for p in aside if p.endswith("~2")]


def statuses_or_none(sweep: Path) -> list[str]:
    """Look from outside at what is being written."""
    try:
        return statuses(sweep)
    except (MedvisionError, json.JSONDecodeError):
        return []


@pytest.mark.slow
def test_five_folds_killed_and_resumed_pool_to_the_same_table(apart, tiny, trap, monkeypatch):
    pause = ("+callbacks.trap.pause=0.3" if word.endswith("pause=0.0") else word for word in trap)
    words = (*tiny, *pause, "-m", "name=folds", "data.fold=0,1,2,3,4")
    whole = start(*words)
    out = whole.communicate()[0]
    assert whole.returncode == 0, out
    first = pooled(apart / "folds")
    (apart / "folds").rename(apart / "whole")

    cut = start(*words)
    while (
        not list((apart / "folds").glob("*/checkpoints/last.ckpt"))
        or len(list((apart / "folds").glob("*/model.pt"))) < 2
    ):
        assert cut.poll() is None
        time.sleep(0.1)
    time.sleep(1.0)
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    assert any(run.status == "running" for run in find_runs(apart / "folds"))
    assert start(*words).wait() == 0
    assert pooled(apart / "folds") == first


def pooled(sweep: Path) -> list[str]:
    """Return the lines of the report's out-of-fold table."""
    text = (sweep / "report.md").read_text()
    table = text[text.index("ut-of-fold") :]
    return [line for line in table[: table.index("\n## ")].splitlines() if "|" in line]


@pytest.mark.slow
def test_joblib_and_submitit_give_the_same_predictions(tmp_path, tiny, monkeypatch):
    found = []
    launchers = (
        ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"),
    )
    for number, launcher in enumerate(launchers):
        monkeypatch.setenv("MEDVISION_RUNS", str(tmp_path / f"runs{number}"))
        job = start(*tiny, *launcher, "-m", "name=s", "seed=0,1", "trainer.max_epochs=1")
        out = job.communicate()[0]
        assert job.returncode == 0, out
        runs = find_runs(tmp_path / f"runs{number}" / "s")
        found.append({run.folder.name: run.predictions("test").read_bytes() for run in runs})
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_two_devices_train_as_one(apart, tiny):
    same = (
        *tiny, "model.net.norm=group", "model.net.dropout=0", "model.class_weights=null",
        "trainer.accelerator=cpu", "trainer.max_epochs=2",
    )  # fmt: skip
    for name, more in (("one", ("data.batch_size=16",)),
                       ("two", ("data.batch_size=8", "trainer.devices=2"))):  # fmt: skip
        job = start(*same, *more, f"name={name}")
        out = job.communicate()[0]
        assert job.returncode == 0, out
        assert out.count("training in") == 1
    one, two = (read_scores(apart / name) for name in ("one", "two"))
    assert len(one) == len(two)
    assert [row[:6] for row in one] == [row[:6] for row in two]  # index … patient
    for first, second in zip(one, two, strict=True):
        assert float(first[-2]) == pytest.approx(float(second[-2]), abs=1e-4)


def read_scores(sweep: Path) -> list[list[str]]:
    (run,) = find_runs(sweep)
    lines = Run(run.folder).predictions("test").read_text().splitlines()[1:]
    return [line.split(",") for line in lines]


def test_several_devices_in_one_process_are_refused(apart, medvision, tiny):
    done = medvision(*tiny, "-m", "name=s", "seed=0,1", "trainer.devices=2")
    assert done.status == 2
    assert "hydra.launcher.tasks_per_node=2" in done.err
