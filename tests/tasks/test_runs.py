"""What every task promises of its runs: from the words to the report, and scores that follow."""

import json
import pkgutil

import numpy as np
import pandas as pd
import pytest

import medvision.tasks
from medvision.evaluation.evaluator import open_evaluator
from medvision.inference.evaluate import compute_metrics
from medvision.model import load_model

pytestmark = pytest.mark.usefixtures("dots")

WORDS = {
    "classification": ("model=convnet",),
    "regression": ("model=regression", "data.annotation.targets=[radius_mm]"),
    "regression.ordinal": ("model=ordinal", "data.classes=[healthy,lesion]"),
}


@pytest.fixture(scope="module", params=list(WORDS))
def runs(request, phantom, places, medvision):
    """Two arms of a task, one seed each."""
    name = f"promises-{request.param}"
    for rate in (0.003, 0.001):
        done = medvision(
            "train", *WORDS[request.param], "data=manifest", f"data.manifest={phantom}",
            "data.reader.size=[32,32]", "data.reader.window=[-100,200]", "data.workers=1",
            "threads=1", "model.net.widths=[8,16]", "trainer.max_epochs=2", f"name={name}",
            f"model.optimizer.lr={rate}",
        )  # fmt: skip
        assert done.status == 0, done.err
    found = sorted(path for path in (places / "runs" / name).iterdir() if path.is_dir())
    assert len(found) == 2
    return request.param, found


def test_no_task_is_left_out():
    tasks = [found.name for found in pkgutil.iter_modules(medvision.tasks.__path__) if found.ispkg]
    asked = {name.partition(".")[0] for name in WORDS}
    assert {task for task in tasks if open_evaluator(task).opens_test} == asked


def test_scores_follow_from_the_stored_tables(runs):
    _, (folder, _) = runs
    model = load_model(folder / "model.pt")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["task"] == model.task
    assert json.loads(json.dumps(compute_metrics(folder, model))) == metrics
    evaluator = open_evaluator(model.task, model.target, model.decision)
    assert set(metrics["test"]) == set(evaluator.metrics)
    for name, score in metrics["test"].items():
        assert score["value"] is None or np.isfinite(score["value"]), name


def test_an_edited_prediction_is_noticed(runs):
    _, (folder, _) = runs
    model, place = load_model(folder / "model.pt"), folder / "predictions" / "test.csv"
    whole, before = place.read_bytes(), compute_metrics(folder, model)
    table = pd.read_csv(place)
    numbers = [name for name in table if name.startswith(("prob_", "pred_"))]
    table[numbers] = table[numbers].to_numpy()[:, ::-1] + (len(numbers) == 1)
    if "pred" in table:
        names = sorted(table["label"].unique())
        table["pred"] = [names[(names.index(name) + 1) % len(names)] for name in table["pred"]]
    try:
        table.to_csv(place, index=False)
        changed = compute_metrics(folder, model)
    finally:
        place.write_bytes(whole)
    assert changed["test"] != before["test"]


def test_it_is_evaluated_compared_and_reported(runs, medvision):
    _, folders = runs
    before = (folders[0] / "metrics.json").read_bytes()
    done = medvision("evaluate", f"run={folders[0]}")
    assert done.status == 0, done.err
    assert (folders[0] / "metrics.json").read_bytes() == before
    done = medvision("compare", f'runs=["{folders[0]}","{folders[1]}"]')
    assert done.status == 0, done.err
    for folder in (folders[0], folders[0].parent):
        done = medvision("report", f"run={folder}")
        assert done.status == 0, done.err
        assert (folder / "report.html").stat().st_size > 10_000


def test_new_files_are_predicted_as_they_were_scored(runs, medvision, tmp_path):
    _, (folder, _) = runs
    stored = folder / "predictions" / "test.csv"
    done = medvision("predict", f"run={folder}", f"input={stored}", f"output={tmp_path}/out.csv")
    assert done.status == 0, done.err
    new, old = pd.read_csv(tmp_path / "out.csv"), pd.read_csv(stored)
    numbers = [n for n in old if n.startswith(("prob_", "pred_", "low_", "high_"))]
    assert numbers
    for name in numbers:
        np.testing.assert_allclose(new[name], old[name], atol=1e-6, err_msg=name)
