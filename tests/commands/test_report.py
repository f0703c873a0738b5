import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from medvision.errors import MedvisionError
from medvision.evaluation.sweep.report import place_report
from medvision.runs import Run, find_runs


def make_run(sweep: Path, lr: float, seed: int = 0, **record: object) -> Run:
    run = Run(sweep / f"lr={lr:g},seed={seed}-0000000{seed}")
    run.folder.mkdir(parents=True)
    config = {"seed": seed, "monitor": "val/auroc", "data": {}, "model": {"lr": lr, "w": [8, 16]}}
    (run.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    words = [f"model.lr={lr:g}", f"seed={seed}"]
    facts = {"status": "done", "monitor": "val/auroc", "objective": 0.5 + lr, "overrides": words}
    run.note(**(facts | record))
    return run


def test_a_sweep_is_ranked_printed_and_written(apart, medvision):
    for lr in (0.1, 0.2):
        for seed in (0, 1):
            make_run(apart / "s", lr, seed)
    make_run(apart / "s", 0.3, status="failed", reason="diverged at [8,16]", objective=None)
    done = medvision("report", "run=s")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("5 runs: 4 done, 1 failed. Best of 3 arms by val/auroc: lr=0.2")
    table = [line.split() for line in lines[1:9]]
    assert table[:4] == [
        ["rank", "lr", "runs", "val/auroc", "(ranks)"], ["1", "0.2", "2", ".700", "±", ".000"],
        ["seed=0", ".700"], ["seed=1", ".700"],
    ]  # fmt: skip
    assert "failed: lr=0.3, seed=0: diverged at [8,16]" in lines
    assert lines[-1] == f"report: {apart / 's' / 'report.html'}"
    assert (apart / "s" / "report.md").exists()
    refused = medvision("report", "run=s", "prevalence=0.02")
    assert "prevalence= is for the report of one run, and run=s names 5" in refused.err


def test_many_runs_are_not_printed_one_by_one(apart, medvision):
    for n in range(25):
        make_run(apart / "s", 0.01 * (n + 1))
    out = medvision("report", f"run={apart / 's'}").out
    assert "seed=" not in out.partition("To repeat")[0]
    assert "5 more in the report" in out
    assert (apart / "s" / "report.md").read_text().count("seed=0 | done") == 25


def test_a_pattern_is_reported_in_a_folder_of_its_own(apart, medvision):
    for name in ("a", "b"):
        for seed in (0, 1):
            make_run(apart / name, 0.1 + 0.1 * (name == "b"), seed)
    done = medvision("report", "run=[ab]/*seed=1*")
    assert done.status == 0, done.err
    page = Path(done.out.splitlines()[-1].removeprefix("report: "))
    assert page.parent.parent == apart / "_joint"
    assert "# a + b" in (page.parent / "report.md").read_text()
    part = find_runs("a/*seed=1*") + find_runs("a/*seed=0*")
    assert place_report(part)[0] == apart / "a"
    folder, title = place_report([part[0]])
    assert folder.parent == apart / "_joint"
    assert title == "a (1 of 2 runs)"


def test_a_folder_of_one_run_is_that_run(trained, medvision):
    done = medvision("report", "run=tiny")
    assert done.status == 0, done.err
    assert done.out.splitlines()[-1] == f"report: {trained / 'report.html'}"
    assert "AUROC" in done.out
    assert not (trained.parent / "report.html").exists()


def test_scores_that_do_not_follow_from_the_predictions_are_said(
    trained, medvision, sign_again, tmp_path
):
    folder = shutil.copytree(trained, tmp_path / "changed")
    changed = json.loads((folder / "metrics.json").read_text())
    changed["val"]["auroc"]["value"] = 0.123
    (folder / "metrics.json").write_text(json.dumps(changed))
    told = medvision("report", f"run={folder}").err
    assert "metrics.json is not what it was when it was written" in told
    out = medvision("report", f"run={sign_again(folder)}").out
    assert "metrics.json does not follow from the stored predictions (1 values differ" in out


def test_no_such_sweep_is_one_sentence(apart, medvision):
    make_run(apart / "s", 0.1)
    done = medvision("report", "run=night*")
    assert done.status == 2
    assert done.err.count("\n") == 1
    with pytest.raises(MedvisionError, match="names no run"):
        find_runs("nothing")
