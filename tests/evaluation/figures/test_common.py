import warnings
from collections import Counter

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import auc, average_precision_score, confusion_matrix, roc_auc_score

from medvision.evaluation.figures import common
from medvision.evaluation.figures.confusion import draw_confusion
from medvision.evaluation.figures.style import save_figure
from medvision.evaluation.report.table import show_score
from medvision.tasks.classification import figures
from medvision.tasks.classification.bands import draw_bands
from medvision.tasks.classification.curves import draw_precision_recall, draw_roc
from medvision.tasks.classification.weighted import WeightedScores

K = 4
CLASSES = ["adipose", "debris", "mucus", "stroma"]


def make_binary(n=120, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    positive = 1 / (1 + np.exp(-(1.5 * (label - 0.5) + rng.normal(size=n))))
    return np.stack([1 - positive, positive], axis=1), label


def make_multiclass(n=200, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(n) % K
    logits = rng.normal(size=(n, K)) + 1.5 * np.eye(K)[label]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), label


def make_multilabel(n=150, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, (n, 3))
    return np.clip(0.3 * label + 0.7 * rng.random((n, 3)), 0, 1), label


def line(axes, start):
    return next(one for one in axes.lines if str(one.get_label()).startswith(start))


def legend_texts(figure):
    boxes = [axes.get_legend() for axes in figure.axes] + list(figure.legends)
    return [text.get_text() for box in boxes if box for text in box.get_texts()]


def test_drawn_roc_has_sklearns_area_and_the_operating_point():
    probs, label = make_binary()
    people = range(len(label))
    band = draw_bands(probs[:, 1], label, people, people, resamples=50)["roc"]
    figure = draw_roc(probs, label, ["no", "yes"], "binary", band, operating_point=0.4)
    axes = figure.axes[0]
    drawn = line(axes, "AUC")
    expected = roc_auc_score(label, probs[:, 1])
    assert auc(*drawn.get_data()) == pytest.approx(expected)
    assert drawn.get_label() == f"AUC {show_score(expected)}  yes"
    (x,), (y,) = line(axes, "threshold .400").get_data()
    (tn, fp), (fn, tp) = confusion_matrix(label, probs[:, 1] >= 0.4)
    assert (x, y) == pytest.approx((fp / (fp + tn), tp / (tp + fn)))
    assert "95 % band" in legend_texts(figure)
    assert axes.get_xlim()[0] <= 0 <= 1 <= axes.get_xlim()[1]


def test_drawn_precision_recall_has_sklearns_precision_and_the_prevalence():
    probs, label = make_binary()
    label[:30] = 0
    axes = draw_precision_recall(probs, label, ["no", "yes"], "binary").axes[0]
    recall, precision = line(axes, "AP").get_data()
    expected = average_precision_score(label, probs[:, 1])
    assert -np.sum(np.diff(recall) * precision[:-1]) == pytest.approx(expected)
    assert line(axes, "prevalence").get_ydata() == pytest.approx([label.mean()] * 2)


@pytest.mark.parametrize(
    ("make", "kind", "lines"),
    [(make_multiclass, "multiclass", K), (make_multilabel, "multilabel", 3)],
)
def test_every_class_has_its_own_curve_against_the_rest(make, kind, lines):
    probs, label = make()
    axes = draw_roc(probs, label, CLASSES[:lines], kind).axes[0]
    truth = label if kind == "multilabel" else np.eye(K, dtype=int)[label]
    drawn = [one for one in axes.lines if str(one.get_label()).startswith("AUC")]
    assert [auc(*one.get_data()) for one in drawn] == pytest.approx(
        [roc_auc_score(truth[:, k], probs[:, k]) for k in range(lines)]
    )
    assert len({(one.get_color(), one.get_linestyle()) for one in drawn}) == lines


def test_sixteen_classes_look_different_and_are_named_below_the_plot():
    rng = np.random.default_rng(0)
    label = np.arange(320) % 16
    probs = rng.dirichlet(np.ones(16), 320)
    names = [f"_class {k}" for k in range(16)]  # matplotlib hides labels that begin with "_"
    figure = draw_roc(probs, label, names, "multiclass")
    looks = Counter((one.get_color(), one.get_linestyle()) for one in figure.axes[0].lines[1:])
    assert len(looks) == 16
    assert [text.split("  ")[1] for text in legend_texts(figure)] == names


def test_curves_leave_out_undefined_classes_unlabelled_rows_and_nan():
    probs, label = make_multiclass()
    known = label != 3
    label[~known] = -1
    probs[0] = np.nan
    known[0] = False
    axes = draw_roc(probs, label, CLASSES, "multiclass").axes[0]
    drawn = [one for one in axes.lines if str(one.get_label()).startswith("AUC")]
    assert len(drawn) == 3
    assert auc(*drawn[0].get_data()) == pytest.approx(
        roc_auc_score(label[known] == 0, probs[known, 0])
    )
    draw_precision_recall(probs, label, CLASSES, "multiclass")
    figures.draw_reliability(probs, label, "multiclass")


def test_confusion_cells_are_the_counts_and_their_share_of_the_truth():
    matrix = [[40, 10], [3, 7]]
    axes = draw_confusion(matrix, ["no", "yes"]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["40\n80%", "10\n20%", "3\n30%", "7\n70%"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["no", "yes"]
    assert axes.get_ylabel() == "true"
    many = draw_confusion(np.arange(81).reshape(9, 9), [f"class {k}" for k in range(9)])
    assert [text.get_text() for text in many.axes[0].texts] == [str(n) for n in range(81)]


def test_confusion_of_many_labels_has_a_row_a_class():
    axes = draw_confusion([[[5, 5], [1, 9]], [[0, 0], [2, 2]]], ["a", "b"]).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["TN", "FP", "FN", "TP"]
    assert [text.get_text() for text in axes.texts][:4] == ["5\n50%", "5\n50%", "1\n10%", "9\n90%"]


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_reliability_says_the_same_ece_as_the_metrics(kind):
    make = {"binary": make_binary, "multiclass": make_multiclass, "multilabel": make_multilabel}
    probs, label = make[kind]()
    probs[0] = np.eye(probs.shape[1])[0]  # exactly 0 and 1
    figure = figures.draw_reliability(probs, label, kind)
    (ece,) = WeightedScores(probs, label, kind).score("ece", np.ones((1, len(label))))
    assert [text.get_text() for text in figure.axes[0].texts] == [
        f"ECE {show_score(float(ece))} (15 bins)"
    ]
    drawn = sum(bar.get_height() for bar in figure.axes[1].patches)
    assert drawn == (label.size if kind == "multilabel" else len(label))


def test_learning_curves_mark_the_kept_epoch():
    history = pd.DataFrame(
        {
            "epoch": [0, 1, 2, 3],
            "train/loss": [1.0, 0.6, 0.4, 0.3],
            "val/loss": [1.1, 0.7, 0.6, 0.8],
            "val/auroc": [0.6, 0.9, np.nan, 0.8],
        }
    )
    figure = common.draw_learning_curves(history, "val/auroc", 1)
    assert line(figure.axes[1], "kept").get_data() == ([1], [0.9])
    assert line(figure.axes[1], "val/auroc").get_xdata().tolist() == [0, 1, 3]
    alone = common.draw_learning_curves(history, "val/loss", 2)
    assert len(alone.axes) == 1
    assert line(alone.axes[0], "kept").get_data() == ([2], [0.6])
    common.draw_learning_curves(history[["epoch", "train/loss"]])
    common.draw_learning_curves(pd.DataFrame({"epoch": []}))


def test_scores_are_shares_of_each_class_and_show_the_threshold():
    probs, label = make_binary()
    label[:20] = -1
    axes = figures.draw_scores(probs[:, 1], label, 0.4).axes[0]
    assert line(axes, "threshold").get_xdata() == [0.4, 0.4]
    names = axes.get_legend_handles_labels()[1]
    assert {f"negative ({(label == 0).sum()})", f"positive ({(label == 1).sum()})"} <= set(names)
    for patch in axes.patches:
        corners = patch.get_xy()
        steps = dict(corners[: len(corners) // 2])
        assert max(steps.values()) <= 100
    figures.draw_scores(probs[:, 1], np.ones(len(label)), None)


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_shows_every_image_unchanged(channels):
    images = np.random.default_rng(0).integers(0, 255, (10, 6, 4, channels), dtype=np.uint8)
    captions = [f"a rather long caption {n}" for n in range(10)]
    axes = common.draw_grid(images, captions, columns=4).axes[0]
    shown = [one.get_array() for one in axes.images]
    assert all(np.array_equal(a, b.squeeze()) for a, b in zip(shown, images, strict=True))
    assert all(one.get_interpolation() == "nearest" for one in axes.images)
    assert len(axes.texts) == 10
    width = [abs(e[1] - e[0]) / abs(e[3] - e[2]) for e in (one.get_extent() for one in axes.images)]
    assert width == pytest.approx([4 / 6] * 10)


def test_pngs_repeat_to_the_byte_and_fit_a_report(tmp_path):
    probs, label = make_binary()
    paths = [
        save_figure(draw_roc(probs, label, ["no", "yes"], "binary"), tmp_path / name)
        for name in ("a.png", "b.png")
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as image:
        assert image.size == (720, 660)
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        assert "Software" not in image.info


def test_drawing_leaves_the_callers_style_alone_and_is_left_alone_by_it(tmp_path):
    probs, label = make_binary()
    plain = save_figure(draw_roc(probs, label, ["no", "yes"], "binary"), tmp_path / "a.png")
    before = dict(mpl.rcParams)
    figure = draw_roc(probs, label, ["no", "yes"], "binary")
    assert dict(mpl.rcParams) == before
    with mpl.rc_context({"xtick.labelsize": 40, "font.size": 30}):
        assert save_figure(figure, tmp_path / "b.png").read_bytes() == plain.read_bytes()


def test_class_names_are_not_taken_for_formulas():
    probs, label = make_binary()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw_roc(probs, label, ["$", "$\\frac{$"], "binary")
    assert legend_texts(figure)[0].endswith("$\\frac{$")
