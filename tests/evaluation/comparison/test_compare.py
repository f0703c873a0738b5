"""Tests of differences against scipy, scikit-learn, naive sums, hands and simulated studies."""

import math
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, chi2, norm
from sklearn.metrics import roc_auc_score

from medvision.evaluation.comparison.arms import Aligned
from medvision.evaluation.comparison.compare import compare_arms, compare_trainings
from medvision.evaluation.evaluator import Scored, open_evaluator
from medvision.stats.hypothesis_tests import (
    adjust,
    compare_areas,
    compare_decisions,
    compare_draws,
    compare_folds,
    delong,
    smallest_difference,
)

COVERAGE = Path(__file__).parents[3] / "experiments" / "coverage" / "simulate.py"


def draw(n=80, seed=0):
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    shared = rng.normal(size=n)
    scores = np.stack([label + shared + rng.normal(size=n) * s for s in (0.5, 1.5)])
    return label, scores.round(1)  # with ties


def delong_naive(label, scores):
    """Compare every positive with every negative, as the paper of 1988 does."""
    psi = np.stack([
        (x[label == 1][:, None] > x[label == 0]) + 0.5 * (x[label == 1][:, None] == x[label == 0])
        for x in scores
    ])  # fmt: skip
    hits, misses = psi.mean(axis=2), psi.mean(axis=1)
    return psi.mean(axis=(1, 2)), np.cov(hits) / hits.shape[1] + np.cov(misses) / misses.shape[1]


def test_delong_by_ranks_is_delong_by_pairs():
    label, scores = draw()
    areas, covariance = delong(label, scores)
    expected = delong_naive(label, scores)
    assert areas == pytest.approx(expected[0])
    assert areas == pytest.approx([roc_auc_score(label, one) for one in scores])
    assert covariance == pytest.approx(expected[1])
    z = (areas[1] - areas[0]) / math.sqrt(np.array([1, -1]) @ expected[1] @ [1, -1])
    assert compare_areas(label, *scores).p == pytest.approx(2 * norm.sf(abs(z)))


def test_delong_says_nothing_where_nothing_varies():
    label = np.array([0, 0, 1, 1])
    assert compare_areas(label, label, label).p == 1
    assert math.isnan(compare_areas(label, label, 1 - label).p)
    assert math.isnan(compare_areas([0, 0, 1], [0, 1, 2], [2, 1, 0]).p)


def test_one_image_a_patient_is_the_exact_mcnemar():
    gains = [1] * 9 + [-1] * 2 + [0] * 30
    finding = compare_decisions(gains, range(41))
    assert finding.test == "exact McNemar"
    assert finding.p == pytest.approx(binomtest(2, 11).pvalue)
    assert compare_decisions([0, 0], "ab").p == 1


def test_clustered_mcnemar_of_single_images_is_mcnemars_chi_square():
    gains = np.array([1] * 9 + [-1] * 2 + [0] * 30)
    half = compare_decisions(gains / 2, range(41))  # a mean over repeats is not exact
    assert half.test == "clustered McNemar"
    assert half.p == pytest.approx(chi2.sf((9 - 2) ** 2 / (9 + 2), 1))


def test_images_of_one_patient_count_once():
    gains, patients = [1, 1, 1, -1, 0, 1], ["a", "a", "a", "b", "b", "c"]
    assert compare_decisions(gains, patients).p == pytest.approx(chi2.sf(3**2 / (9 + 1 + 1), 1))
    assert compare_decisions([1, -1, 0], "aab").p == 1


def test_the_bootstrap_p_is_twice_the_smaller_side_and_never_0():
    drawn = np.concatenate([[0.1], np.linspace(-0.1, 0.9, 199)])
    below = (drawn[1:] <= 0).sum()
    assert compare_draws(drawn).p == pytest.approx(2 * (1 + below) / 200)
    assert compare_draws(np.full(200, 0.3)).p == pytest.approx(2 / 200)
    assert compare_draws(np.zeros(200)).p == 1
    assert math.isnan(compare_draws(np.array([0.1, 0.2, np.nan, np.nan])).p)


def test_corrected_t_by_hand():
    # mean .025, variance .0005/3, (1/4 + 1/4) of it has the root .0091287, t = 2.7386 of 3 degrees
    found = compare_folds([0.02, 0.01, 0.03, 0.04], ratio=0.25)
    t = 0.025 / 0.00912871
    x = t / math.sqrt(3)
    assert found["p"] == pytest.approx(1 - 2 / math.pi * (x / (1 + x**2) + math.atan(x)), abs=1e-5)
    assert found["low"] == pytest.approx(0.025 - 3.18245 * 0.00912871, abs=1e-6)
    assert (found["value"], found["folds"]) == (pytest.approx(0.025), 4)


def test_folds_without_a_score_or_without_spread():
    assert compare_folds([0.1, np.nan, 0.3], 0.2)["folds"] == 2
    assert compare_folds([0.1, np.nan], 0.2)["p"] is None
    assert compare_folds([0.1, 0.1], 0.2)["p"] is None
    assert compare_folds([0.0, 0.0], 0.2)["p"] == 1


def test_holm_by_hand():
    assert adjust([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust([0.7, None, 0.6]) == [1, None, 1]
    assert adjust([0.2]) == [0.2]


def test_the_smallest_difference_is_2_8_standard_errors():
    values = np.random.default_rng(0).normal(0.01, 0.02, 4001)
    assert smallest_difference(values) == pytest.approx(2.8016 * 0.02, rel=0.05)
    assert smallest_difference(np.zeros(50)) is None


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


def test_equal_models_are_seldom_called_different():
    study = runpy.run_path(str(COVERAGE))
    calls = study["count"](80, 200, study["SMALL"])
    assert calls["auroc/patients"] <= 0.12
    assert calls["decisions/patients"] <= 0.12
    assert calls["auroc/rows"] > 0.12


@pytest.mark.slow
def test_of_500_pairs_of_equal_models_7_percent_at_most_are_called_different():
    calls = runpy.run_path(str(COVERAGE))["count"](500)
    assert calls["auroc/patients"] <= 0.07
    assert calls["decisions/patients"] <= 0.07
    assert calls["auroc/rows"] > 0.12


@pytest.mark.slow
def test_the_smallest_difference_is_found_in_80_of_100():
    study = runpy.run_path(str(COVERAGE))
    shown = study["count"](200, resamples=200, units=["patients"])["shown"]
    found = study["count"](300, resamples=200, apart=shown, units=["patients"])
    assert 0.7 <= found["auroc/patients"] <= 0.9
