"""What every metric of every task promises: its direction, weights that are repeated rows, reasons.

A task that predicts gives predictions to test with in `tests/tasks/<name>/examples.py`.
"""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import Evaluator, Scored, direction, name_task, open_evaluator
from medvision.evaluation.predictions import read_tables, write_predictions
from medvision.evaluation.scoring import prepare_parts, score_parts
from medvision.target import list_tasks

HERE = Path(__file__).parent
TASKS = list_tasks()
NOWHERE = pd.DataFrame(columns=["origin", "dataset", "patient", "split"])  # no subgroups


def find_examples():
    for task in TASKS:
        if open_evaluator(task).tables:
            file = HERE.joinpath(*task.split("."), "examples.py")
            for name, evaluator, tables in runpy.run_path(str(file))["examples"]():
                yield pytest.param(evaluator, tables, id=f"{task}: {name}")


EXAMPLES = pytest.mark.parametrize(("evaluator", "tables"), list(find_examples()))


def scores_of(evaluator, scored, weights):
    metrics = {**evaluator.metrics, **evaluator.details(scored)}
    return {name: metric.compute(scored, weights) for name, metric in metrics.items()}


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_knows_its_name_and_which_way_is_better(task):
    evaluator = open_evaluator(task)
    assert evaluator.task == task
    assert evaluator.primary in evaluator.metrics
    for group in (evaluator.headline, evaluator.compared, evaluator.pooled):
        assert set(group) <= set(evaluator.metrics)
    for name, metric in evaluator.metrics.items():
        assert metric.name == name
        if metric.better is None:
            with pytest.raises(MedvisionError, match=f"whether val/{name} is better high or low"):
                direction(f"val/{name}", task)
            continue
        expected = {"low": "min", "high": "max"}[metric.better]
        assert direction(f"val/{name}", task) == direction(name, evaluator) == expected
        assert direction(f"val/{name}") == expected  # names of two tasks do not contradict
    assert direction("val/loss", task) == "min"
    with pytest.raises(MedvisionError, match="nothing says whether val/x is better high or low"):
        direction("val/x", task)


def lacks(scored, part):
    """Say whether a part lacks a class, a decision, or two numbers of a target."""

    def count(table):
        words = [name for name in table if name in ("label", "pred")]
        numbers = [name for name in table if name.startswith("value_")]
        several = [min(table[name].nunique(), 2) for name in numbers]
        return [table[name].str.split("|").explode().nunique() for name in words] + several

    return count(part.table) != count(scored.table)


@EXAMPLES
def test_whole_weights_are_rows_repeated_and_a_mask_is_a_part(evaluator, tables):
    scored = evaluator.read(tables)
    weights = np.random.default_rng(1).integers(0, 4, (6, len(scored))).astype(float)
    weights[4] = np.arange(len(scored)) % 2  # a part of the rows
    weights[5] = np.arange(len(scored)) < 1  # one of them
    ours = scores_of(evaluator, scored, weights)
    for row, weight in enumerate(weights.astype(int)):
        again = scored.take(np.repeat(np.arange(len(scored)), weight))
        assert len(again) == len(again.patients) == weight.sum()
        repeated = scores_of(evaluator, again, np.ones((1, len(again))))
        for name, values in ours.items():
            assert values.shape == (6,)
            if np.isnan(values[row]) and not np.isnan(repeated[name][0]):
                assert lacks(scored, again), name  # a mean over classes, of which one is not there
                continue
            assert values[row] == pytest.approx(repeated[name][0], abs=1e-9, nan_ok=True), name
    part = scored.take(weights[4] == 1)
    assert part.table.equals(scored.table[weights[4] == 1])


@EXAMPLES
def test_a_reason_is_given_before_anything_is_scored(evaluator, tables):
    scored = evaluator.read(tables)
    for some in (scored, scored.take(np.arange(1)), scored.take(np.arange(0))):
        once = np.ones((1, len(some)))
        for name, metric in evaluator.metrics.items():
            reason, (value,) = metric.needs(some), metric.compute(some, once)
            assert reason is None or np.isnan(value), name
            assert reason is not None or len(some), name


@EXAMPLES
def test_metrics_follow_from_the_stored_tables_and_notice_an_edit(evaluator, tables, tmp_path):
    def score(given):
        parts = prepare_parts({"test": given, "val": given}, evaluator)
        return score_parts(parts, evaluator, NOWHERE, resamples=20)

    found = score(tables)
    assert found["task"] == name_task(found) == evaluator.task
    assert set(found["test"]) == set(evaluator.metrics)
    for name, table in tables.items():
        write_predictions(tmp_path / f"test{'_' * bool(name)}{name}.csv", table)
    stored = read_tables(tmp_path / "test.csv", evaluator.tables)
    assert score(stored) == found
    edited = stored[""].copy()
    numbers = edited.select_dtypes("float").columns
    edited[numbers] = edited[numbers][::-1].to_numpy()
    assert score({**stored, "": edited}) != found


def test_nested_rows_follow_their_samples():
    table = pd.DataFrame({"index": [5, 6, 7]})
    boxes = pd.DataFrame({"row": [0, 0, 2, 1], "score": [0.1, 0.2, 0.3, 0.4]})
    patients = [("d", "a"), ("d", "b"), ("d", "c")]
    scored = Scored(table, {"boxes": boxes}, {"n": np.array([2, 1, 1])}, patients, left_out=4)
    part = scored.take(np.array([2, 0]))
    assert part.nested["boxes"].values.tolist() == [[1, 0.1], [1, 0.2], [0, 0.3]]
    assert part.arrays["n"].tolist() == [1, 2]
    assert part.patients == [("d", "c"), ("d", "a")]
    assert part.left_out == 0
    assert len(scored.take(np.array([False, False, False])).nested["boxes"]) == 0


def test_runs_of_before_say_no_task():
    assert name_task({"kind": "binary"}) == name_task({}) == "classification"
    assert name_task({"kind": "generator"}) == name_task({"gate": {}}) == "generation"
    assert name_task({"task": "mine.Task", "kind": "binary"}) == "mine.Task"


def test_a_task_is_opened_by_its_name_or_by_the_path_of_its_class(tmp_path, monkeypatch):
    (tmp_path / "far.py").write_text(
        "from medvision.tasks.classification.evaluator import ClassificationEvaluator\n"
        "class Task:\n    evaluator = ClassificationEvaluator\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    foreign = open_evaluator("far.Task", {"classes": ["a", "b"]})
    assert (foreign.task, foreign.question) == ("far.Task", "a, b (binary)")
    ours = open_evaluator("medvision.tasks.classification.task.Classifier")
    assert ours.task == "classification"
    assert direction("val/brier", "far.Task") == "min"
    with pytest.raises(MedvisionError, match=r"the task 'nowhere' is not here .* classification"):
        open_evaluator("nowhere")


def test_a_task_without_an_evaluator_that_can_be_asked_is_named(monkeypatch):
    halved = type("Halved", (Evaluator,), {"fit": lambda *_: {}})
    module = SimpleNamespace(
        Bare=SimpleNamespace(evaluator=None), Half=SimpleNamespace(evaluator=halved)
    )
    monkeypatch.setitem(sys.modules, "far", module)
    with pytest.raises(MedvisionError, match=r"'far.Bare' has no evaluator .*it names none"):
        open_evaluator("far.Bare")
    with pytest.raises(MedvisionError, match="Halved lacks read, tabulate"):
        open_evaluator("far.Half")
