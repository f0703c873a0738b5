import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from scipy.stats import binomtest
from sklearn import metrics as sk

from medvision.evaluation.evaluator import open_evaluator
from medvision.evaluation.figures.style import save_figure
from medvision.tasks.classification.bands import Band
from medvision.tasks.classification.curves import draw_precision_recall, draw_roc
from medvision.tasks.classification.figures import draw_decision, draw_reliability

ALWAYS = {"confusion", "roc", "precision_recall", "reliability"}


def predictions(classes, kind, rows=24, labels=None):
    random = np.random.default_rng(0)
    probs = random.random((rows, len(classes)))
    if kind != "multilabel":
        probs /= probs.sum(1, keepdims=True)
    labels = labels or [classes[row % len(classes)] for row in range(rows)]
    table = pd.DataFrame({
        "index": range(rows), "dataset": "toy", "patient": [f"p{n // 2}" for n in range(rows)],
        "label": labels,
    })  # fmt: skip
    return table.assign(**{f"prob_{name}": probs[:, k] for k, name in enumerate(classes)})


def figures(table, kind, classes, threshold):
    evaluator = open_evaluator(
        "classification", {"classes": classes, "kind": kind}, {"threshold": threshold}
    )
    return dict(evaluator.figures(evaluator.read({"": table})))


@pytest.mark.parametrize(
    ("kind", "classes", "threshold", "more"),
    [
        ("binary", ["a", "b"], 0.4, {"scores", "decision"}),
        ("binary", ["a", "b"], None, {"scores", "decision"}),
        ("multiclass", ["a", "b", "c"], None, set()),
        ("multilabel", ["a", "b"], [0.4, 0.6], set()),
    ],
)
def test_every_kind_gets_its_figures(kind, classes, threshold, more):
    drawn = figures(predictions(classes, kind), kind, classes, threshold)
    assert set(drawn) == ALWAYS | more
    assert not pyplot.get_fignums()  # nothing is left open


def test_the_confusion_drawn_is_that_of_the_decisions():
    table = predictions(["a", "b"], "binary")
    axes = figures(table, "binary", ["a", "b"], 0.4)["confusion"].axes[0]
    said = np.where(table["prob_b"] >= 0.4, "b", "a")
    counts = sk.confusion_matrix(table["label"], said)
    assert [int(text.get_text().split()[0]) for text in axes.texts] == counts.ravel().tolist()


def test_the_decision_curve_counts_hits_less_what_alarms_cost():
    random, n = np.random.default_rng(0), 24
    said, sick = random.random(n), np.arange(n) % 2 == 1
    lines = {line.get_label(): line for line in draw_decision(said, sick, 0.4).axes[0].lines}
    for cut, benefit in zip(*lines["model"].get_data(), strict=True):
        hits, alarms = ((said >= cut) & sick).sum(), ((said >= cut) & ~sick).sum()
        assert benefit == pytest.approx(hits / n - alarms / n * cut / (1 - cut))
    cut, everybody = (values[30] for values in lines["all"].get_data())
    assert everybody == pytest.approx(0.5 - 0.5 * cut / (1 - cut))
    assert lines["nobody"].get_ydata() == [0, 0]
    ((cut, benefit),) = zip(*lines["threshold .400"].get_data(), strict=True)
    assert benefit == pytest.approx(np.interp(cut, *lines["model"].get_data()))


def test_reliability_has_bins_of_equally_many_with_intervals_of_their_patients():
    said = np.linspace(0.01, 0.99, 200)
    probs, label = np.column_stack([1 - said, said]), np.arange(200) % 2
    each = draw_reliability(probs, label, "binary").axes[0].containers
    assert [bar[0].get_xdata()[0] for bar in each] == pytest.approx(said.reshape(10, 20).mean(1))
    low, high = each[0][2][0].get_segments()[0][:, 1]
    assert [low, high] == pytest.approx([*binomtest(10, 20).proportion_ci()])
    few = draw_reliability(probs, label, "binary", np.arange(200) // 10).axes[0].containers
    assert np.diff(few[0][2][0].get_segments()[0][:, 1]) > high - low  # of two patients


@pytest.mark.parametrize("draw", [draw_roc, draw_precision_recall])
def test_what_is_not_drawn_is_not_named(draw):
    nothing = np.full(101, np.nan)
    band = Band(np.linspace(0, 1, 101), nothing, nothing)
    probs = np.array([[0.9, 0.1], [0.2, 0.8]])
    legend = draw(probs, [0, 1], ["a", "b"], "binary", band).axes[0].get_legend()
    assert "95 % band" not in [text.get_text() for text in legend.get_texts()]
    with warnings.catch_warnings(action="error"):  # matplotlib's, of a legend of nothing
        draw(probs, [0, 0], ["a", "b"], "binary")


def test_without_labels_only_the_empty_confusion_is_drawn():
    table = predictions(["a", "b"], "binary", labels=[""] * 24)
    assert set(figures(table, "binary", ["a", "b"], 0.5)) == {"confusion"}


def test_one_class_alone_is_no_fault():
    table = predictions(["a", "b"], "binary", labels=["b"] * 24)
    assert set(figures(table, "binary", ["a", "b"], 0.5)) == ALWAYS | {"scores", "decision"}


def test_unlabelled_rows_change_no_figure(tmp_path):
    table = predictions(["a", "b"], "binary")
    unlabelled = table.assign(label="", index=range(24, 48))
    more = pd.concat([table, unlabelled], ignore_index=True)
    with_them, without = (figures(rows, "binary", ["a", "b"], 0.5) for rows in (more, table))
    for name in ALWAYS | {"scores", "decision"}:
        first = save_figure(with_them[name], tmp_path / "with.png").read_bytes()
        assert first == save_figure(without[name], tmp_path / "without.png").read_bytes()
