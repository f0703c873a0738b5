"""Weighted scores against scikit-learn and repeated rows, and their intervals over patients."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest
from sklearn import metrics as sk

from medvision.evaluation.evaluator import Scored, open_evaluator
from medvision.evaluation.scoring import score_parts
from medvision.stats.bootstrap import draw, interval, resample_patients
from medvision.tasks.classification.bands import draw_bands
from medvision.tasks.classification.calibration import apply_thresholds
from medvision.tasks.classification.metrics import METRICS, score
from medvision.tasks.classification.weighted import WeightedScores

N, K = 300, 3
KINDS = ["binary", "multiclass", "multilabel"]


def prepare(probs, label, kind, patients=None, threshold=None):
    """The evaluator of a run, and predictions as it would read them."""
    probs, label = np.asarray(probs, float), np.asarray(label, int)
    target = {"classes": list("abc")[: probs.shape[1]], "kind": kind}
    decision = {"temperature": 1.0, "rule": "youden", "threshold": threshold}
    table = pd.DataFrame({"index": range(len(probs))})
    arrays = {"probs": probs, "label": label, "preds": apply_thresholds(probs, kind, threshold)}
    patients = list(range(len(probs))) if patients is None else list(patients)
    return open_evaluator("classification", target, decision), Scored(table, {}, arrays, patients)


def weighted_scores(probs, label, kind, weights, threshold=None):
    scores = WeightedScores(probs, label, kind, threshold)
    return {name: scores.score(name, np.asarray(weights, np.float64)) for name in METRICS}


def evaluate(probs, label, kind, patients, threshold=None, **options):
    """What metrics.json would hold of one part."""
    evaluator, scored = prepare(probs, label, kind, patients, threshold)
    rows = pd.DataFrame(columns=["origin", "dataset", "patient", "split"])
    return score_parts({"val": scored}, evaluator, rows, **options)


def bootstrap(*given, **options):
    """The scores of all classes together."""
    found = evaluate(*given, **options)["val"]
    return {name: found[name] for name in METRICS}


def simulate(kind, seed=0, n=N):
    rng = np.random.default_rng(seed)
    if kind == "multilabel":
        label = rng.integers(2, size=(n, K))
        probs = 1 / (1 + np.exp(-(label + rng.normal(size=(n, K)))))
        return (97 * probs).round() / 97, label
    classes = 2 if kind == "binary" else K
    label = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[label]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    probs = (97 * probs).round() / 97
    return (np.stack([1 - probs[:, 1], probs[:, 1]], 1) if kind == "binary" else probs), label


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_one_give_the_score_on_the_device(kind):
    probs, label = simulate(kind)
    label = label.astype(float)
    label[:20] = np.nan
    ours = weighted_scores(probs, label, kind, np.ones((2, N)))
    assert list(ours) == list(METRICS)
    for row in (0, 1):
        expected = score(torch.tensor(probs), torch.tensor(label), kind)
        assert {k: v[row] for k, v in ours.items()} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_weights_equal_rows_repeated(kind):
    probs, label = simulate(kind)
    weights = np.random.default_rng(1).integers(0, 4, size=(5, N))
    ours = weighted_scores(probs, label, kind, weights, 0.4)
    for row, weight in enumerate(weights):
        again = np.repeat(np.arange(N), weight)
        repeated = weighted_scores(probs[again], label[again], kind, np.ones((1, len(again))), 0.4)
        assert {k: v[row] for k, v in ours.items()} == pytest.approx(
            {k: v[0] for k, v in repeated.items()}, abs=1e-12
        )


def test_weights_equal_scikit_learns_sample_weight():
    probs, label = simulate("binary")
    p, d = probs[:, 1], probs[:, 1] >= 0.4
    weights = np.random.default_rng(2).integers(0, 4, size=(6, N))
    ours = weighted_scores(probs, label, "binary", weights, 0.4)
    for row, w in enumerate(weights):
        expected = {
            "auroc": sk.roc_auc_score(label, p, sample_weight=w),
            "average_precision": sk.average_precision_score(label, p, sample_weight=w),
            "accuracy": sk.accuracy_score(label, d, sample_weight=w),
            "precision": sk.precision_score(label, d, sample_weight=w),
            "recall": sk.recall_score(label, d, sample_weight=w),
            "specificity": sk.recall_score(label, d, pos_label=0, sample_weight=w),
            "f1": sk.f1_score(label, d, sample_weight=w),
            "balanced_accuracy": sk.balanced_accuracy_score(label, d, sample_weight=w),
            "mcc": sk.matthews_corrcoef(label, d, sample_weight=w),
            "brier": sk.brier_score_loss(label, p, sample_weight=w),
        }
        assert {k: ours[k][row] for k in expected} == pytest.approx(expected, abs=1e-12)


def test_chunks_do_not_change_the_numbers(monkeypatch):
    probs, label = simulate("multiclass")
    patients = list(np.arange(N) // 3)
    whole = bootstrap(probs, label, "multiclass", patients, resamples=60)
    monkeypatch.setattr("medvision.stats.bootstrap.CELLS", 7 * N)
    parts = bootstrap(probs, label, "multiclass", patients, resamples=60)
    assert parts["auroc"] == pytest.approx(whole["auroc"])
    assert parts["mcc"] == pytest.approx(whole["mcc"])


def test_the_seed_alone_decides():
    probs, label = simulate("binary")
    once, again, other = (
        bootstrap(probs, label, "binary", range(N), resamples=50, seed=seed) for seed in (5, 5, 6)
    )
    assert once == again
    assert once["average_precision"] != other["average_precision"]
    assert once["auroc"]["value"] == other["auroc"]["value"]
    assert all(s["low"] <= s["value"] <= s["high"] for k, s in once.items() if k != "ece")


def test_undefined_scores_have_no_interval():
    probs = np.array([[0.4, 0.6]] * 10)
    ours = bootstrap(probs, np.ones(10), "binary", range(10), resamples=20)
    assert ours["auroc"] == {"value": None, "low": None, "high": None}
    exact = binomtest(10, 10).proportion_ci().low
    assert ours["accuracy"] == {"value": 1.0, "low": pytest.approx(exact), "high": 1.0}
    assert ours["brier"]["low"] is None  # no resample differs, and nothing else is known of it
    nothing = bootstrap(np.zeros((0, 2)), [], "binary", [], resamples=20)
    assert nothing["accuracy"] == {"value": None, "low": None, "high": None}


def test_a_diverged_net_has_no_scores():
    probs, label = simulate("binary")
    probs[3] = np.nan
    found = evaluate(probs, label, "binary", range(N), resamples=5)
    assert {found["val"][name]["value"] for name in METRICS} == {None}
    assert found["per_class"]["val"]["a"]["auroc"]["value"] is None


def test_each_class_is_scored_against_the_rest():
    probs, label = simulate("multiclass")
    found = evaluate(probs, label, "multiclass", range(N), resamples=30)["per_class"]["val"]
    called = probs.argmax(1)
    for k, scores in enumerate(found.values()):
        assert scores["n"] == (label == k).sum()
        assert scores["auroc"]["value"] == pytest.approx(sk.roc_auc_score(label == k, probs[:, k]))
        assert scores["f1"]["value"] == pytest.approx(sk.f1_score(label == k, called == k))
        assert scores["auroc"]["low"] < scores["auroc"]["value"] < scores["auroc"]["high"]


def test_both_classes_of_a_binary_problem_are_listed():
    probs, label = simulate("binary")
    found = evaluate(probs, label, "binary", range(N), threshold=0.7, resamples=5)
    no, yes = found["per_class"]["val"].values()
    assert no["recall"]["value"] == yes["specificity"]["value"]
    assert no["auroc"]["value"] == pytest.approx(yes["auroc"]["value"])


def test_a_macro_mean_tells_its_number_of_classes():
    probs, label = simulate("multiclass")
    seen = label != 1
    ours = bootstrap(probs[seen], label[seen], "multiclass", range(seen.sum()), resamples=5)
    assert ours["auroc"]["classes"] == 2
    assert "classes" not in ours["accuracy"]


def test_bands_hold_the_curve_and_end_in_the_corners():
    probs, label = simulate("binary")
    bands = draw_bands(probs[:, 1], label, range(N), range(N), resamples=200)
    band = bands["roc"]
    fpr, tpr, _ = sk.roc_curve(label, probs[:, 1], drop_intermediate=False)
    curve = np.interp(band.x, fpr, tpr)
    inside = (band.low <= curve + 1e-9) & (curve <= band.high + 1e-9)
    assert inside.mean() > 0.95
    assert band.low[-1] == band.high[-1] == 1
    band = bands["pr"]
    precision, recall, _ = sk.precision_recall_curve(label, probs[:, 1])
    curve = np.array([precision[recall >= x - 1e-12][-1] for x in band.x])
    inside = (band.low <= curve + 1e-9) & (curve <= band.high + 1e-9)
    assert inside[1:].mean() > 0.95
    assert 0 < band.low[-1] <= label.mean() + 0.1


def test_one_class_has_no_band():
    for band in draw_bands([0.1, 0.6], [1, 1], [0, 1], [0, 1], resamples=10).values():
        assert np.isnan(band.low).all()
        assert np.isnan(band.high).all()


@pytest.mark.parametrize("kind", KINDS)
def test_given_decisions_decide_instead_of_the_threshold(kind):
    probs, label = simulate(kind)
    preds = WeightedScores(probs, label, kind, 0.3).preds
    weights = np.ones((1, N))
    ours = WeightedScores(probs, label, kind, 0.7, preds=preds)
    assert ours.score("f1", weights) == WeightedScores(probs, label, kind, 0.3).score("f1", weights)
    preds = ~preds if kind == "multilabel" else np.roll(preds, 1, axis=1)
    other = WeightedScores(probs, label, kind, preds=preds)
    assert other.score("accuracy", weights) < 0.5 < ours.score("accuracy", weights)
    assert other.score("auroc", weights) == ours.score("auroc", weights)


def test_models_are_drawn_on_the_same_patients_and_repeats_averaged():
    probs, label = simulate("binary")
    other = simulate("binary", seed=1)[0][:, ::-1]
    patients = list(np.arange(N) // 3)
    evaluator, _ = prepare(probs, label, "binary")
    arms = [[prepare(p, label, "binary", patients)[1] for p in some] for some in
            ([probs], [probs], [probs, other])]  # fmt: skip
    asked = {"auroc": evaluator.metrics["auroc"]}
    once, again, mean = draw(asked, arms, patients, resamples=30, seed=4)
    assert (once["auroc"] == again["auroc"]).all()
    last = [arms[0], arms[1], arms[2][:1], arms[2][1:]]
    *_, alone = draw(asked, last, patients, resamples=30, seed=4)
    assert mean["auroc"] == pytest.approx((once["auroc"] + alone["auroc"]) / 2)
    stored = bootstrap(probs, label, "binary", patients, resamples=30, seed=4)
    (own,) = draw(asked, [arms[0]], patients, resamples=30, seed=4)
    assert evaluator.interval("auroc", arms[0], own["auroc"]) == stored["auroc"]


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_know_neither_the_order_of_rows_nor_the_names_of_patients(kind):
    probs, label = simulate(kind)
    patients = np.arange(N) // 3
    order, names = np.random.default_rng(1).permutation(N), np.random.default_rng(2).permutation(N)
    ours = bootstrap(probs, label, kind, list(patients), resamples=50)
    other = bootstrap(probs[order], label[order], kind, list(names[patients[order]]), resamples=50)
    assert {name: other[name] for name in METRICS} == {
        name: pytest.approx(ours[name], abs=1e-12) for name in METRICS
    }


def test_arms_that_change_places_are_drawn_on_the_same_resamples():
    probs, label = simulate("binary")
    evaluator, one = prepare(probs, label, "binary")
    _, other = prepare(simulate("binary", seed=1)[0], label, "binary")
    asked = {"auroc": evaluator.metrics["auroc"]}
    ahead = draw(asked, [[one], [other]], range(N), resamples=30)
    behind = draw(asked, [[other], [one]], range(N), resamples=30)
    assert (ahead[0]["auroc"] == behind[1]["auroc"]).all()
    assert (ahead[1]["auroc"] == behind[0]["auroc"]).all()


def test_a_mean_over_classes_is_over_the_same_classes_in_every_resample():
    label = np.array([0] * 20 + [1] * 20 + [2])
    probs = np.full((41, 3), 0.1)
    probs[np.arange(41), label] = 0.8
    probs[-1] = (0.5, 0.4, 0.1)  # the one of its class is always missed
    weights = np.ones((2, 41))
    weights[1, -1] = 0
    found = WeightedScores(probs, label, "multiclass").score("recall", weights)
    assert found[0] == pytest.approx(2 / 3)
    assert np.isnan(found[1])  # of two classes it would be 1
    scores = bootstrap(probs, label, "multiclass", range(41), resamples=200)
    for name in METRICS:
        assert scores[name]["low"] <= scores[name]["value"] <= scores[name]["high"], name


def test_a_value_lies_in_its_interval_where_resamples_are_worse_than_the_data():
    rng = np.random.default_rng(0)
    positive = rng.uniform(size=60)
    label = (np.arange(60) % 10 < 10 * positive).astype(int)
    probs = np.stack([1 - positive, positive], axis=1)
    weighted = WeightedScores(probs, label, "binary")
    drawn = np.concatenate([weighted.score("ece", w) for w in resample_patients(range(60), 500, 0)])
    held = interval(drawn)
    assert held["low"] <= held["value"] <= held["high"]
    assert held["value"] < np.quantile(drawn[1:], 0.5)  # as said: most resamples are worse
