import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    roc_auc_score,
)

from medvision.evaluation.comparison.arms import gather_arms
from medvision.evaluation.comparison.sweep_run import read_sweep_runs
from medvision.evaluation.predictions import write_predictions
from medvision.evaluation.sweep.pooling import pool_folds
from medvision.evaluation.sweep.report import write_sweep_report
from medvision.evaluation.sweep.summary import describe_sweep
from medvision.files import write_json
from medvision.runs import Run

CLASSES = ["normal", "ill"]
EVIL = "<script>alert('x')</script>"


def score(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def make_run(
    sweep: Path, lr: float = 0.003, seed: int = 0, fold: int | None = None,
    objective: float | None = None, test: float | None = None, monitor: str = "val/auroc",
    config: bool = True, **record: Any,
) -> Run:  # fmt: skip
    """Write what a run of a made-up sweep leaves behind."""
    run = Run(sweep / f"lr={lr:g},seed={seed},fold={fold}-{len([*sweep.glob('*')]):08d}")
    data = {"fold": fold, "folds": 3, "split_seed": 0}
    content = {"name": sweep.name, "seed": seed, "monitor": monitor, "data": data,
               "model": {"optimizer": {"lr": lr}}}  # fmt: skip
    run.folder.mkdir(parents=True)
    if config:
        (run.folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(content)))
    words = ["experiment=night", f"model.optimizer.lr={lr:g}", f"seed={seed}", "test=false"]
    words += [] if fold is None else [f"data.fold={fold}"]
    facts = {"status": "done", "monitor": monitor, "overrides": words, "classes": CLASSES,
             "kind": "binary", "seconds": 61.0, "peak_memory_mb": 800, "device": "a processor",
             "best_epoch": 4}  # fmt: skip
    if objective is not None:
        facts["objective"] = objective
        metrics = {"val": {"auroc": score(objective, objective - 0.1, objective + 0.1)}}
        if test is not None:
            metrics["test"] = {"auroc": score(test, 0.1, 0.9)}
            facts["test_openings"] = [{"date": "d", "model": "m", "command": "c"}]
        write_json(run.folder / "metrics.json", metrics)
    run.note(**(facts | record))
    return run


def runs_of(sweep: Path) -> list[Run]:
    return [Run(path) for path in sorted(sweep.iterdir()) if path.is_dir()]


def pages(sweep: Path) -> tuple[str, str]:
    page = write_sweep_report(describe_sweep(runs_of(sweep), sweep.name), sweep)
    return page.read_text(), (sweep / "report.md").read_text()


def test_arms_are_ranked_by_val_even_if_test_says_otherwise(tmp_path):
    for lr, val, test in ((0.001, 0.9, 0.5), (0.003, 0.8, 0.99)):
        for seed in (0, 1):
            make_run(tmp_path / "s", lr, seed, objective=val + 0.01 * seed, test=test)
    sweep = describe_sweep(runs_of(tmp_path / "s"), "s")
    (ranking,) = sweep.rankings
    assert ranking.table.head == ["rank", "lr", "runs", "val/auroc (ranks)", "test AUROC"]
    assert ranking.table.rows == [["1", "0.001", "2", ".905 ± .007", ".500 ± .000"],
                                  ["2", "0.003", "2", ".805 ± .007", ".990 ± .000"]]  # fmt: skip
    assert sweep.verdict == (
        "4 runs: 4 done. Best of 2 arms by val/auroc: lr=0.001, .905 ± .007 over 2 runs."
    )
    assert sweep.remarks == [
        "test was opened for 2 arms: the best of them is no longer an unbiased result."
    ]
    assert sweep.openings == ["4 of 4 runs opened the test part."]


def test_a_loss_ranks_upwards_and_monitors_are_ranked_apart(tmp_path):
    for lr, loss in ((0.1, 0.7), (0.2, 0.3), (0.3, 0.5)):
        make_run(tmp_path / "s", lr, objective=loss, monitor="val/loss")
    make_run(tmp_path / "s", 0.4, objective=0.9)
    sweep = describe_sweep(runs_of(tmp_path / "s"), "s")
    by_loss, by_auroc = sweep.rankings
    assert [s.arm.settings["model.optimizer.lr"] for s in by_loss.standings] == [0.2, 0.3, 0.1]
    assert "lower is better" in by_loss.table.notes[0]
    assert "higher is better" in by_auroc.table.notes[0]
    assert "different monitors (val/loss, val/auroc): each is ranked apart" in sweep.remarks[0]


def test_a_single_run_shows_its_patient_interval_and_equal_scores_share_a_place(tmp_path):
    for lr in (0.1, 0.2):
        make_run(tmp_path / "s", lr, objective=0.8)
    (ranking,) = describe_sweep(runs_of(tmp_path / "s"), "s").rankings
    assert [row[0] for row in ranking.table.rows] == ["1", "1"]
    assert ranking.table.rows[0][-1] == ".800 (.700–.900)"


def test_a_score_that_is_not_the_objective_lends_it_no_interval(tmp_path):
    run = make_run(tmp_path / "s", objective=0.8)
    run.note(objective=0.7)
    (ranking,) = describe_sweep([run], "s").rankings
    assert ranking.table.rows[0][-1] == ".700"


def test_what_is_not_done_is_named_with_its_reason(tmp_path):
    sweep = tmp_path / "s"
    make_run(sweep, 0.1, objective=0.8)
    make_run(sweep, 0.1, seed=1, status="failed", reason="a planted crash")
    make_run(sweep, 0.2, status="interrupted", reason="pruned at epoch 3: behind the median")
    make_run(sweep, 0.3, status="interrupted", reason="stopped by you")
    make_run(sweep, 0.4, status="running")
    make_run(sweep, -1, config=False, status="failed", reason="lr=-1 must be a number from 0")
    found = describe_sweep(runs_of(sweep), "s")
    assert found.verdict.startswith(
        "6 runs: 1 done, 2 failed, 1 pruned, 1 interrupted, 1 stopped. Best of 4 arms"
    )
    assert found.unfinished is not None
    told = {tuple(row[:3]) for row in found.unfinished.rows}
    assert ("lr=0.1, seed=1", "failed", "a planted crash") in told
    assert ("model.optimizer.lr=-1, seed=0", "failed", "lr=-1 must be a number from 0") in told
    assert ("lr=0.2, seed=0", "pruned", "pruned at epoch 3: behind the median") in told
    assert ("lr=0.4, seed=0", "stopped", "–") in told
    assert found.unfinished.notes[0] == (
        "The same command tries again what failed, it resumes what was interrupted or stopped."
    )
    assert found.rankings[0].table.rows[0][:3] == ["1", "0.1", "1 of 2"]
    for page in pages(sweep):
        assert "a planted crash" in page


def test_the_cost_is_that_of_the_finished_runs(tmp_path):
    for seed, seconds in enumerate((61.0, 3600.0, 5.0)):
        make_run(tmp_path / "s", seed=seed, objective=0.5, seconds=seconds)
    assert describe_sweep(runs_of(tmp_path / "s"), "s").cost == [
        "3 runs finished in 1 h 1 min of work (median 1 min 1 s, longest 1 h 0 min).",
        "Peak memory of a run: at most 800 MB.",
        "Device: a processor.",
    ]


def test_the_next_commands_repeat_the_best_arm_and_open_its_test_part(tmp_path):
    for lr, val in ((0.1, 0.7), (0.2, 0.9)):
        for seed in (0, 1):
            make_run(tmp_path / "night", lr, seed, objective=val + 0.01 * seed)
    sweep = describe_sweep(runs_of(tmp_path / "night"), "night")
    (what, repeat), (_, look) = sweep.commands
    assert what == "To repeat the best (lr=0.2) and open its test part"
    assert shlex.split(repeat) == [
        "medvision", "train", "-m", "experiment=night", "model.optimizer.lr=0.2", "seed=0,1",
        "test=true",
    ]  # fmt: skip
    best = next(run for run in runs_of(tmp_path / "night") if "lr=0.2,seed=1" in run.folder.name)
    assert look == shlex.join(["medvision", "report", f"run=night/{best.folder.name}"])


def test_the_words_of_a_command_are_quoted(tmp_path):
    run = make_run(tmp_path / "s", objective=0.7)
    run.note(overrides=["data.manifest='my data/m.csv'", "model.net.widths=[8,16]"])
    (_, repeat), _ = describe_sweep([run], "s").commands
    assert shlex.split(repeat)[2:] == [
        "data.manifest='my data/m.csv'", "model.net.widths=[8,16]", "test=true",
    ]  # fmt: skip
    assert "'model.net.widths=[8,16]'" in repeat


@pytest.mark.parametrize("failed", [0, 2])
def test_an_empty_or_all_failed_sweep_has_a_report(tmp_path, failed):
    (tmp_path / "s").mkdir()
    for seed in range(failed):
        make_run(tmp_path / "s", seed=seed, status="failed", reason="diverged", seconds=None)
    html, markdown = pages(tmp_path / "s")
    verdict = "2 runs: 2 failed." if failed else "There are no runs here."
    assert f"{verdict} No run has a score yet." in markdown
    assert f"{verdict} No run has a score yet." in html
    assert "medvision train" not in markdown


def make_folds(
    sweep: Path, seeds: tuple[int, ...] = (0, 1), skip: tuple[tuple[int, int], ...] = ()
) -> pd.DataFrame:
    tables = []
    for seed in seeds:
        for fold in range(3):
            if (seed, fold) in skip:
                continue
            run = make_run(sweep, seed=seed, fold=fold, objective=0.7, test=0.6)
            rng = np.random.default_rng(10 * seed + fold)
            label = np.arange(20) % 2
            p = np.clip(0.25 * label + 0.7 * rng.random(20), 0, 1)
            table = pd.DataFrame({
                "index": range(20), "dataset": "d", "frame": 0, "series": "",
                "path": [f"{fold}-{k}.png" for k in range(20)],
                "patient": [f"{fold}-{k // 4}" for k in range(20)],
                "label": [CLASSES[k] for k in label], "logit_normal": -p, "logit_ill": p,
                "prob_normal": 1 - p, "prob_ill": p,
                "pred": [CLASSES[int(x >= 0.3 + 0.1 * fold)] for x in p],
            })  # fmt: skip
            write_predictions(run.predictions("test"), table)
            tables.append(table.assign(seed=seed, fold=fold))
    return pd.concat(tables)


def pooled_of(sweep: Path):
    (arm,) = gather_arms(read_sweep_runs(runs_of(sweep)))
    return pool_folds(arm)


def test_pooled_scores_are_scikit_learns_on_the_rows_of_all_folds(tmp_path):
    table = make_folds(tmp_path / "s")
    pooled = pooled_of(tmp_path / "s")
    truths = {
        "auroc": lambda t: roc_auc_score(t.label == "ill", t.prob_ill),
        "average_precision": lambda t: average_precision_score(t.label == "ill", t.prob_ill),
        "balanced_accuracy": lambda t: balanced_accuracy_score(t.label, t.pred),
        "f1": lambda t: f1_score(t.label, t.pred, pos_label="ill"),
        "brier": lambda t: brier_score_loss(t.label == "ill", t.prob_ill),
    }
    for name, truth in truths.items():
        seeds = [truth(rows) for _, rows in table.groupby("seed")]
        assert pooled.repeats[name] == pytest.approx(seeds, abs=1e-12)
        assert pooled.scores[name]["value"] == pytest.approx(np.mean(seeds), abs=1e-12)
        assert pooled.scores[name]["low"] < np.mean(seeds) < pooled.scores[name]["high"]
        folds = [[truth(t) for _, t in rows.groupby("seed")] for _, rows in table.groupby("fold")]
        assert pooled.folds[name] == pytest.approx(np.mean(folds, axis=1), abs=1e-12)
    assert (pooled.rows, pooled.patients, pooled.stratified) == (60, 15, True)
    assert pooled.remarks == []
    assert pooled == pooled_of(tmp_path / "s")


def test_missing_folds_are_said_and_pooled_over_what_there_is(tmp_path):
    make_folds(tmp_path / "s", seeds=(0, 1), skip=((1, 2),))
    pooled = pooled_of(tmp_path / "s")
    assert len(pooled.repeats["auroc"]) == 1
    assert pooled.remarks == ["seed=1: 2 of 3 folds have test predictions; left out."]
    make_folds(tmp_path / "t", seeds=(0,), skip=((0, 1),))
    partly = pooled_of(tmp_path / "t")
    assert partly.rows == 40
    assert partly.remarks == ["seed=0: 2 of 3 folds have test predictions; pooled over those."]


def test_folds_that_agree_only_with_themselves_are_named(tmp_path):
    make_folds(tmp_path / "s", seeds=(0,))
    for level, run in enumerate(runs_of(tmp_path / "s")):
        path = run.predictions("test")
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        ill = 0.3 * level + np.where(table["label"] == "ill", 0.3, 0.1)
        write_predictions(path, table.assign(prob_ill=ill, prob_normal=1 - ill))
    pooled = pooled_of(tmp_path / "s")
    assert pooled.folds["auroc"] == [1, 1, 1]
    assert pooled.scores["auroc"]["value"] < 0.95
    assert "pooled and 1.000 on average within a fold" in pooled.remarks[0]


def test_one_fold_is_not_pooled(tmp_path):
    make_folds(tmp_path / "s", seeds=(0, 1), skip=((0, 0), (0, 1), (1, 1), (1, 0)))
    assert pooled_of(tmp_path / "s") is None


def test_folds_that_do_not_fit_together_are_a_remark_not_the_end(tmp_path):
    make_folds(tmp_path / "s", seeds=(0,))
    path = runs_of(tmp_path / "s")[1].predictions("test")
    path.write_text(path.read_text().replace("1-0.png", "0-0.png"))
    sweep = describe_sweep(runs_of(tmp_path / "s"), "s")
    assert sweep.pooled == []
    assert "The folds are not pooled: the predictions of seed=0 split_seed=0" in sweep.remarks[0]


def test_the_markdown_is_the_same_bytes_again_and_holds_the_pooled_table(tmp_path):
    make_folds(tmp_path / "s")
    first = pages(tmp_path / "s")
    assert pages(tmp_path / "s") == first
    table = first[1][first[1].index("ut-of-fold") :]
    lines = [line for line in table[: table.index("\n## ")].splitlines() if "|" in line]
    assert lines[0] == "|  | pooled (95 % CI) | mean ± SD of 3 folds | SD of 2 repeats |"
    assert len(lines) == 10
    assert "Over 3 folds together, test AUROC is ." in first[1]


class Page(HTMLParser):
    """Collects tags and links; refuses tags that are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.links, self.tables = [], [], [], 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name == "href"]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_escapes_what_users_wrote_and_links_the_runs(tmp_path):
    sweep = tmp_path / f"s{EVIL.replace('/', '')}"
    for lr in (0.1, 0.2):
        for seed in (0, 1):
            run = make_run(sweep, lr, seed, objective=0.6 + lr + 0.1 * seed)
            (run.folder / "report.html").write_text("")
    make_run(sweep, 0.3, status="failed", reason=f"{EVIL} a | b")
    html, markdown = pages(sweep)
    page = Page(html)
    assert "script" not in page.tags
    assert "&lt;script&gt;" in html
    assert "<script" not in markdown.partition("```")[0]  # in a code block it is text
    assert r"a \| b" in markdown
    assert page.links
    assert all(not link.startswith(("http", "/")) for link in page.links)
    assert re.search(r'href="lr%3D0\.1%2Cseed%3D0%2Cfold%3DNone-\d{8}/report\.html"', html)
    assert "(landscape.png)" in markdown
    assert (sweep / "landscape.png").stat().st_size > 5000


def test_a_figure_of_an_earlier_report_does_not_stay(tmp_path):
    make_run(tmp_path / "s", 0.1, objective=0.6)
    (tmp_path / "s" / "landscape.png").write_bytes(b"old")
    assert "landscape" not in pages(tmp_path / "s")[1]
    assert not (tmp_path / "s" / "landscape.png").exists()
