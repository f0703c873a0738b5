"""Scores against scikit-learn, and what is undefined."""

import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from medvision.tasks.classification.metrics import METRICS, score, undefined_metrics

N, K = 400, 4


def simulate(kind, seed=0, n=N):
    """Probabilities with many ties, and labels that depend on them."""
    rng = np.random.default_rng(seed)
    if kind == "multilabel":
        label = rng.integers(2, size=(n, K))
        probs = 1 / (1 + np.exp(-(label + rng.normal(size=(n, K)))))
    else:
        classes = 2 if kind == "binary" else K
        label = rng.integers(classes, size=n)
        logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[label]
        probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rounded = (97 * probs).round() / 97  # ties, none of them at an edge of a calibration bin
    if kind == "binary":
        rounded[:, 0] = 1 - rounded[:, 1]
    return rounded, label


def expect_binary(p, y, threshold=0.5, weight=None):
    w = {"sample_weight": weight}
    d = (p >= threshold).astype(int)
    return {
        "auroc": sk.roc_auc_score(y, p, **w),
        "average_precision": sk.average_precision_score(y, p, **w),
        "accuracy": sk.accuracy_score(y, d, **w),
        "precision": sk.precision_score(y, d, **w),
        "recall": sk.recall_score(y, d, **w),
        "specificity": sk.recall_score(y, d, pos_label=0, **w),
        "f1": sk.f1_score(y, d, **w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, d, **w),
        "mcc": sk.matthews_corrcoef(y, d, **w),
        "brier": sk.brier_score_loss(y, p, **w),
        "ece": calibration_error(p, y, weight),
    }


def calibration_error(confidence, right, weight=None):
    weight = np.ones(len(right)) if weight is None else weight
    edges, total = np.linspace(0, 1, 16), 0.0
    for low, high in zip(edges, [*edges[1:-1], 1.0], strict=False):
        inside = (confidence >= low) & (confidence < high)
        total += abs((weight * (confidence - right))[inside].sum())
    top = confidence == 1
    return (total + abs((weight * (confidence - right))[top].sum())) / weight.sum()


def expect_multiclass(p, y, weight=None):
    w, d, hot = {"sample_weight": weight}, p.argmax(1), np.eye(K)[y]
    rates = [expect_binary(hot[:, 0] * 0 + (d == k), (y == k).astype(int), 0.5, weight)
             for k in range(K)]  # fmt: skip
    ranks = [expect_binary(p[:, k], hot[:, k].astype(int), 0.5, weight) for k in range(K)]
    rows = np.ones(len(y)) if weight is None else weight
    return {
        "auroc": np.mean([r["auroc"] for r in ranks]),
        "average_precision": np.mean([r["average_precision"] for r in ranks]),
        "accuracy": sk.accuracy_score(y, d, **w),
        "precision": sk.precision_score(y, d, average="macro", **w),
        "recall": sk.recall_score(y, d, average="macro", **w),
        "specificity": np.mean([r["specificity"] for r in rates]),
        "f1": sk.f1_score(y, d, average="macro", **w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, d, **w),
        "mcc": sk.matthews_corrcoef(y, d, **w),
        "brier": np.average(((p - hot) ** 2).sum(1), weights=rows),
        "ece": calibration_error(p.max(1), (d == y).astype(int), weight),
    }


def expect(kind, p, y, weight=None):
    """All scores by scikit-learn, thresholds at 0.5."""
    if kind == "binary":
        return expect_binary(p[:, 1], y, 0.5, weight)
    if kind == "multiclass":
        return expect_multiclass(p, y, weight)
    each = [expect_binary(p[:, k], y[:, k], 0.5, weight) for k in range(K)]
    return {name: np.mean([scores[name] for scores in each]) for name in METRICS}


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_scores_equal_scikit_learn(kind):
    probs, label = simulate(kind)
    ours = score(torch.tensor(probs), torch.tensor(label), kind)
    assert list(ours) == list(METRICS)
    assert ours == pytest.approx(expect(kind, probs, label), abs=1e-6)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_unlabelled_rows_do_not_count(kind):
    probs, label = simulate(kind)
    more = np.concatenate([probs, probs[::-1][:50]])
    marks = np.full((50, *label.shape[1:]), -1.0)
    marks[::2] = np.nan
    given = torch.tensor(np.concatenate([label, marks]))
    ours = score(torch.tensor(more), given, kind)
    assert ours == pytest.approx(score(torch.tensor(probs), torch.tensor(label), kind))


def test_an_unknown_cell_leaves_the_other_labels_of_its_row():
    probs, label = simulate("multilabel")
    given = label.astype(float)
    given[:100, 0] = np.nan
    ours = score(torch.tensor(probs), torch.tensor(given), "multilabel")
    first = expect_binary(probs[100:, 0], label[100:, 0])
    rest = [expect_binary(probs[:, k], label[:, k]) for k in range(1, K)]
    assert ours["auroc"] == pytest.approx(np.mean([s["auroc"] for s in [first, *rest]]))
    assert ours["brier"] == pytest.approx(np.mean([s["brier"] for s in [first, *rest]]))


def test_thresholds_are_inclusive_and_one_a_label():
    probs, label = simulate("binary")
    cut = float(probs[0, 1])
    ours = score(torch.tensor(probs), torch.tensor(label), "binary", cut)
    assert ours == pytest.approx(expect_binary(probs[:, 1], label, cut))
    probs, label = simulate("multilabel")
    cuts = [0.2, 0.4, 0.6, 0.8]
    ours = score(torch.tensor(probs), torch.tensor(label), "multilabel", cuts)
    each = [expect_binary(probs[:, k], label[:, k], cuts[k]) for k in range(K)]
    assert ours["recall"] == pytest.approx(np.mean([s["recall"] for s in each]))


@pytest.mark.parametrize(
    ("label", "undefined"),
    [
        ([1, 1, 1], {"auroc", "average_precision", "specificity", "balanced_accuracy", "mcc"}),
        (
            [0, 0, 0],
            {"auroc", "average_precision", "recall", "f1", "balanced_accuracy", "mcc"},
        ),
        ([-1, -1, -1], set(METRICS)),
    ],
)
def test_one_class_is_undefined_and_known_before_training(label, undefined):
    probs = torch.tensor([[0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    ours = score(probs, torch.tensor(label), "binary")
    assert {name for name in METRICS if ours[name] is None} == undefined
    assert set(undefined_metrics(torch.tensor(label), "binary")) == undefined


def test_reasons_name_what_is_missing():
    reasons = undefined_metrics([0, 0], "binary")
    assert reasons["recall"] == "needs rows of the positive class"
    assert reasons["auroc"] == "needs labelled rows of at least two classes"
    assert undefined_metrics([0, 1], "binary") == {}
    assert undefined_metrics([[0, 1], [1, 1]], "multilabel") == {}
    assert set(undefined_metrics([2, 2, 2], "multiclass")) == {
        "auroc",
        "average_precision",
        "balanced_accuracy",
        "mcc",
    }


def test_precision_needs_a_positive_decision_and_mcc_of_a_constant_is_zero():
    probs = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    ours = score(probs, torch.tensor([0, 1, 1]), "binary")
    assert ours["precision"] is None
    assert ours["recall"] == ours["f1"] == ours["mcc"] == 0


def test_the_macro_mean_leaves_an_absent_class_out():
    probs, label = simulate("multiclass")
    seen = label != 2
    probs, label = probs[seen], label[seen]
    ours = score(torch.tensor(probs), torch.tensor(label), "multiclass")
    present = [sk.roc_auc_score(label == k, probs[:, k]) for k in (0, 1, 3)]
    assert ours["auroc"] == pytest.approx(np.mean(present))
    recalls = sk.recall_score(label, probs.argmax(1), labels=[0, 1, 3], average="macro")
    assert ours["recall"] == pytest.approx(recalls)


def test_a_diverged_net_has_no_scores():
    probs = torch.tensor([[0.5, 0.5], [float("nan")] * 2, [0.1, 0.9]])
    assert set(score(probs, torch.tensor([0, 1, 1]), "binary").values()) == {None}


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_no_rows_no_scores_and_no_warnings(kind):
    label = torch.zeros((0, 3) if kind == "multilabel" else 0, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = score(torch.zeros(0, 2 if kind == "binary" else 3), label, kind)
    assert set(ours.values()) == {None}


def test_probabilities_a_hair_above_one_are_not_taken_for_logits():
    probs, label = simulate("binary")
    near = torch.tensor(probs)
    near[0, 1] = 1 + 1e-7
    assert score(near, torch.tensor(label), "binary")["brier"] == pytest.approx(
        score(near.clamp(max=1), torch.tensor(label), "binary")["brier"]
    )


def test_half_precision_is_scored_in_single():
    probs, label = simulate("binary")
    half = torch.tensor(probs).bfloat16()
    ours = score(half, torch.tensor(label), "binary")
    assert ours == pytest.approx(score(half.float(), torch.tensor(label), "binary"))
