"""Temperature and operating point: recovered truths, rules by brute force, and refusals."""

import logging

import numpy as np
import pytest

from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import open_evaluator
from medvision.tasks.classification.calibration import (
    apply_temperature,
    apply_thresholds,
    choose_threshold,
    choose_thresholds,
    fit_temperature,
    parse_rule,
)
from medvision.tasks.classification.tables import note_scores


def draw_labels(probs, rng):
    return (rng.random(len(probs))[:, None] > probs.cumsum(1)).sum(1)


@pytest.mark.parametrize("true", [0.2, 1.0, 3.0])
def test_a_known_temperature_is_recovered(true):
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(20_000, 3))
    label = draw_labels(apply_temperature(logits, 1, "multiclass"), rng)
    assert fit_temperature(true * logits, label, "multiclass") == pytest.approx(true, rel=0.05)


def test_a_known_temperature_is_recovered_from_labels_with_gaps():
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(8000, 3))
    label = (rng.random(logits.shape) < apply_temperature(logits, 1, "multilabel")).astype(float)
    label[:2000, 0] = np.nan
    assert fit_temperature(2 * logits, label, "multilabel") == pytest.approx(2, rel=0.05)


def test_the_temperature_minimises_the_surprise():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(300, 2)) * 4
    label = draw_labels(apply_temperature(logits, 2.5, "binary"), rng)

    def surprise(temperature):
        probs = apply_temperature(logits, temperature, "binary")
        return -np.log(probs[np.arange(300), label]).mean()

    best = surprise(fit_temperature(logits, label, "binary"))
    assert best <= min(surprise(t) for t in np.geomspace(0.05, 20, 400)) + 1e-9


@pytest.mark.parametrize(
    ("logits", "label", "reason"),
    [
        (np.ones((20, 2)), np.ones(20), "one class only"),
        (np.ones((5, 2)), [0, 1, 0, 1, 0], "5 labelled rows, fewer than 10"),
        (np.full((20, 2), np.nan), [0, 1] * 10, "not finite"),
        (10 * np.eye(2)[[0, 1] * 10], [0, 1] * 10, "below 1/20"),
        (np.zeros((20, 2)), [-1] * 20, "0 labelled rows"),
    ],
)
def test_what_cannot_be_fitted_stays_one_and_says_why(logits, label, reason, caplog):
    with caplog.at_level(logging.WARNING):
        assert fit_temperature(logits, label, "binary") == 1.0
    assert reason in caplog.text


def test_temperature_never_changes_the_order():
    logits = np.random.default_rng(3).normal(size=(50, 2))
    cold, warm = (apply_temperature(logits, t, "binary")[:, 1] for t in (0.5, 4))
    assert (np.argsort(cold) == np.argsort(warm)).all()
    np.testing.assert_allclose(apply_temperature(logits, 2, "binary").sum(1), 1)


def rates(probs, label, cut):
    called = probs >= cut
    return called[label == 1].mean(), (~called)[label == 0].mean()


@pytest.mark.parametrize("rule", ["youden", "f1", "sensitivity>=0.9", "specificity>=0.8"])
def test_no_other_threshold_does_better(rule):
    rng = np.random.default_rng(4)
    label = rng.integers(2, size=120)
    probs = (1 / (1 + np.exp(-(rng.normal(size=120) + 1.5 * label)))).round(2)
    chosen = choose_threshold(probs, label, rule)

    def worth(cut):
        sensitivity, specificity = rates(probs, label, cut)
        tp = sensitivity * label.sum()
        f1 = 2 * tp / ((probs >= cut).sum() + label.sum())
        return {
            "youden": sensitivity + specificity,
            "f1": f1,
            "sensitivity>=0.9": (sensitivity >= 0.9) * (1 + specificity),
            "specificity>=0.8": (specificity >= 0.8) * (1 + sensitivity),
        }[rule]

    assert worth(chosen) >= max(worth(cut) for cut in np.linspace(0, 1.01, 2000)) - 1e-12
    assert chosen not in probs


def test_the_threshold_lies_midway_between_scores():
    assert choose_threshold([0.1, 0.2, 0.6, 0.9], [0, 0, 1, 1], "youden") == pytest.approx(0.4)


def test_equals_go_to_the_other_rate_then_to_the_nearest_of_a_half():
    # Every threshold up to .3 finds all positives; the highest of them is the most specific.
    probs, label = [0.1, 0.2, 0.3, 0.8], [0, 0, 1, 1]
    assert choose_threshold(probs, label, "sensitivity>=0.5") == pytest.approx(0.25)
    # Youden 0.5 both at 0.2 and at 0.8: equally near 0.5, so the lower.
    assert choose_threshold([0.3, 0.1, 0.7, 0.9], [1, 0, 0, 1], "youden") == pytest.approx(0.2)


def test_neighbouring_floats_and_scores_of_nought_and_one_are_told_apart():
    low, high = 0.5, np.nextafter(0.5, 1)
    cut = choose_threshold([low, high], [0, 1], "youden")
    assert low < cut <= high
    assert choose_threshold([0.0, 1.0], [1, 0], "sensitivity>=1") == 0.0
    assert choose_threshold([0.0, 1.0], [1, 0], "specificity>=1") > 1.0


def test_one_class_stays_at_a_half_and_says_why(caplog):
    with caplog.at_level(logging.WARNING):
        assert choose_threshold([0.1, 0.9, 0.3], [1, 1, -1], "youden") == 0.5
    assert "one class only" in caplog.text


def test_a_fixed_threshold_asks_no_data():
    assert choose_threshold([], [], "fixed=0.3") == 0.3


@pytest.mark.parametrize("rule", ["yuden", "sensitivity>=1.5", "sensitivity", "fixed=a"])
def test_an_unknown_rule_lists_the_rules(rule):
    with pytest.raises(MedvisionError) as error:
        parse_rule(rule)
    assert f"operating_point={rule} is not a rule" in str(error.value)
    assert "youden, f1, sensitivity>=0.95, specificity>=0.9, fixed=0.5" in str(error.value)


def test_a_mistyped_rule_is_recognised():
    with pytest.raises(MedvisionError, match="did you mean 'youden'"):
        parse_rule("yuden")
    assert parse_rule("Sensitivity >= .9") == ("sensitivity", 0.9)


def test_each_kind_gets_its_thresholds():
    probs, label = np.array([[0.8, 0.2], [0.3, 0.7]]), np.array([0, 1])
    assert choose_thresholds(probs, label, "multiclass", "youden") is None
    assert choose_thresholds(probs, label, "binary", "youden") == pytest.approx(0.45)
    cuts = choose_thresholds(probs, np.array([[1, 0], [0, 1]]), "multilabel", "youden")
    assert cuts == pytest.approx([0.55, 0.45])


def test_decisions_are_inclusive():
    probs = np.array([[0.6, 0.4], [0.61, 0.39]])
    assert apply_thresholds(probs, "binary", 0.4).tolist() == [[False, True], [True, False]]
    assert apply_thresholds(probs, "multiclass").tolist() == [[True, False], [True, False]]
    assert apply_thresholds(probs, "multilabel", [0.61, 0.4]).tolist() == [
        [False, True],
        [True, False],
    ]


def fit(label, patients, kind="binary", rule="youden"):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(len(label), 2)) + 1
    target = {"classes": ["well", "ill"], "kind": kind}
    evaluator = open_evaluator("classification", target)
    truth = {"label": np.asarray(label)}
    return evaluator.fit({"logits": logits}, truth, rule, patients)


def test_no_threshold_is_chosen_on_fewer_than_ten_patients_of_a_class():
    label = np.array([0] * 60 + [1] * 60)
    nine = [f"w{n % 30}" for n in range(60)] + [f"i{n % 9}" for n in range(60)]
    ten = [f"w{n % 30}" for n in range(60)] + [f"i{n % 10}" for n in range(60)]
    few, enough = fit(label, nine), fit(label, ten)
    assert (few["threshold"], few["too_few"]) == (0.5, {"ill": 9})
    assert enough["threshold"] != 0.5
    assert "too_few" not in enough
    assert fit(label, nine, rule="fixed=0.3") == enough | {"threshold": 0.3, "rule": "fixed=0.3"}
    each = np.stack([label, np.arange(120) % 2], axis=1)
    several = fit(each, nine, "multilabel")
    assert several["threshold"][0] == 0.5 != several["threshold"][1]
    assert several["too_few"] == {"well": 9}


def test_scores_say_that_no_threshold_was_chosen():
    decision = {"temperature": 1.0, "rule": "youden", "threshold": 0.5, "too_few": {"ill": 9}}
    target = {"classes": ["well", "ill"], "kind": "binary"}
    decided = open_evaluator("classification", target, decision).decided()
    (note,) = note_scores(decided, {})
    assert "No threshold was chosen, 0.5 was taken" in note
    assert "9 of ill; 10 are needed" in note


def test_beside_binary_scores_it_is_said_whose_sensitivity_they_hold():
    n = {"test": {"images": 4, "per_class": {"normal": 2, "sick": 2}}}
    binary = {"n": n, "operating_point": {"rule": "youden", "threshold": 0.4}}
    assert list(note_scores(binary, {})) == [
        "Recall is the sensitivity of sick; specificity is that of normal."
    ]
    several = {"n": n, "operating_point": {"rule": "youden", "threshold": [0.4, 0.5]}}
    assert list(note_scores(several, {})) == []
    assert (
        list(note_scores(binary | {"n": {"val": {"per_class": {"a": 1, "b": 1, "c": 1}}}}, {}))
        == []
    )
