import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from sklearn import metrics as sk

from medvision.evaluation.evaluator import open_evaluator
from medvision.evaluation.figures.style import save_figure

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
