import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from medvision.model import Model
from medvision.tasks.classification.evaluator import draw_plates

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


def model(kind, classes, threshold):
    target = {"classes": classes, "kind": kind, "negative": None, "rename": {}}
    return Model(None, {}, "classification", target, {}, {"threshold": threshold})


@pytest.mark.parametrize(
    ("kind", "classes", "threshold", "confusion", "more"),
    [
        ("binary", ["a", "b"], 0.4, [[5, 7], [3, 9]], {"scores"}),
        ("binary", ["a", "b"], None, [[5, 7], [3, 9]], {"scores"}),
        ("multiclass", ["a", "b", "c"], None, [[5, 2, 1], [3, 4, 1], [0, 0, 8]], set()),
        ("multilabel", ["a", "b"], [0.4, 0.6],
         {"a": [[5, 7], [3, 9]], "b": [[5, 7], [3, 9]]}, set()),
    ],
)  # fmt: skip
def test_every_kind_gets_its_figures_as_files(tmp_path, kind, classes, threshold, confusion, more):
    made = model(kind, classes, threshold)
    plates = draw_plates(tmp_path, predictions(classes, kind), confusion, made)
    assert set(plates) == ALWAYS | more
    for name, path in plates.items():
        assert path == tmp_path / "figures" / f"{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG")
    assert not pyplot.get_fignums()  # nothing is left open


def test_without_labels_only_the_empty_confusion_is_drawn(tmp_path):
    table = predictions(["a", "b"], "binary", labels=[""] * 24)
    plates = draw_plates(tmp_path, table, [[0, 0], [0, 0]], model("binary", ["a", "b"], 0.5))
    assert set(plates) == {"confusion"}


def test_one_class_alone_is_no_fault(tmp_path):
    table = predictions(["a", "b"], "binary", labels=["b"] * 24)
    plates = draw_plates(tmp_path, table, [[0, 0], [9, 15]], model("binary", ["a", "b"], 0.5))
    assert set(plates) == ALWAYS | {"scores"}


def test_unlabelled_rows_change_no_figure(tmp_path):
    table = predictions(["a", "b"], "binary")
    unlabelled = table.assign(label="", index=range(24, 48))
    more = pd.concat([table, unlabelled], ignore_index=True)
    made, counts = model("binary", ["a", "b"], 0.5), [[5, 7], [3, 9]]
    for name, rows in (("with", more), ("without", table)):
        draw_plates(tmp_path / name, rows, counts, made)
    for name in ALWAYS | {"scores"}:
        first, second = (tmp_path / p / "figures" / f"{name}.png" for p in ("with", "without"))
        assert first.read_bytes() == second.read_bytes()
