"""Tests of differences against scipy, scikit-learn, naive sums, hands and simulated studies."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from medvision.evaluation.comparison.arms import Aligned
from medvision.evaluation.comparison.compare import compare_arms, compare_trainings
from medvision.evaluation.evaluator import Scored, open_evaluator
from medvision.stats.hypothesis_tests import (
    adjust,
    compare_areas,
    compare_folds,
)


def draw(n=80, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    shared = rng.normal(size=n)
    scores = np.stack([label + shared + rng.normal(size=n) * s for s in (0.5, 1.5)])
    return label, scores.round(1)  # with ties


def test_trainings_are_compared_cell_by_cell():
    first = {(0, 0, None): 0.8, (1, 0, None): 0.7}
    second = {(1, 0, None): 0.8, (0, 0, None): 0.82}
    seeds = compare_trainings(first, second, 0.25)["seeds"]
    assert seeds["differences"] == pytest.approx([0.02, 0.1])
    assert seeds["sd"] == pytest.approx(0.08 / math.sqrt(2))
    assert compare_trainings({(0, 0, 2): 0.8}, {(0, 0, 2): 0.9}, 0.25) == {}


def test_seeds_of_one_fold_are_one_value_of_the_test_over_folds():
    first = {(seed, 0, fold): 0.5 for seed in (0, 1) for fold in (0, 1)}
    second = {(0, 0, 0): 0.6, (1, 0, 0): 0.8, (0, 0, 1): 0.5, (1, 0, 1): 0.9}
    folds = compare_trainings(first, second, 0.25)["folds"]
    expected = compare_folds([0.2, 0.2 + 1e-12], 0.25)
    assert folds["folds"] == expected["folds"] == 2
    assert folds["value"] == pytest.approx(0.2)


EVALUATOR = open_evaluator("classification", {"classes": ["no", "yes"], "kind": "binary"})


def make_arm(scores, label, patients):
    table = pd.DataFrame({"label": [["no", "yes"][k] for k in label]})
    probs = [np.stack([1 - p, p], axis=1) for p in scores]
    scored = [
        Scored(table, {}, {"probs": p, "label": label, "preds": p >= 0.5}, patients) for p in probs
    ]
    keys = [("d", f"{n}.png", 0) for n in range(len(label))]
    return Aligned(keys, [*zip(table["label"])], patients, [""] * len(label), scored)


def compare(arms, cells=None, **options):
    cells = cells or [{(0, 0, None): 0.5}] * len(arms)
    return compare_arms(arms, cells, EVALUATOR, "auroc", 0.25, resamples=200, **options)


def test_single_images_of_one_training_are_tested_by_delong_and_exact_mcnemar():
    label, scores = draw()
    arms = [make_arm([norm.cdf(x - 0.5)], label, list(range(80))) for x in scores]
    found, (pair,) = compare(arms)
    assert pair["tests"]["score"]["test"] == "DeLong"
    assert pair["tests"]["score"]["p"] == pytest.approx(compare_areas(label, *scores).p)
    assert pair["tests"]["score"]["p_holm"] == pair["tests"]["score"]["p"]
    assert pair["tests"]["decisions"]["test"] == "exact McNemar"
    right = [(x >= 0.5) == label for x in scores]
    assert pair["tests"]["decisions"]["only_first"] == (right[0] & ~right[1]).sum()
    difference = found[1]["auroc"]["value"] - found[0]["auroc"]["value"]
    assert pair["scores"]["auroc"]["value"] == pytest.approx(difference)
    assert pair["scores"]["auroc"]["low"] < difference < pair["scores"]["auroc"]["high"]


def test_several_images_or_trainings_are_tested_over_patients():
    label, scores = draw()
    label = np.repeat(label[:40], 2)
    several = [make_arm([norm.cdf(x)], label, list(np.arange(80) // 2)) for x in scores]
    repeated = [make_arm([norm.cdf(x), norm.cdf(-x)], label, list(range(80))) for x in scores]
    for arms in (several, repeated):
        tests = compare(arms)[1][0]["tests"]
        assert tests["score"]["test"] == "paired patient bootstrap"
        assert tests["decisions"]["test"] == "clustered McNemar"


def test_three_arms_are_three_pairs_under_holm():
    label, scores = draw()
    arms = [make_arm([norm.cdf(x)], label, list(range(80))) for x in (*scores, -scores[0])]
    _, pairs = compare(arms)
    assert [(pair["first"], pair["second"]) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    ps = [pair["tests"]["score"]["p"] for pair in pairs]
    assert [pair["tests"]["score"]["p_holm"] for pair in pairs] == pytest.approx(adjust(ps))


def test_an_arm_against_itself_shows_nothing():
    label, scores = draw()
    arm = make_arm([norm.cdf(scores[0])], label, list(range(80)))
    _, (pair,) = compare([arm, arm])
    assert pair["scores"]["auroc"] == {"value": 0, "low": 0, "high": 0}
    assert pair["tests"]["score"]["p"] == pair["tests"]["decisions"]["p"] == 1
    assert pair["smallest_difference"] is None
