"""Tests of multi_seed.py: simulated studies of known truth, closed forms, sentences, bad input."""

import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, ttest_1samp

from medvision.errors import MedvisionError
from medvision.evaluation.comparison.arms import Aligned, Repeat
from medvision.stats.hypothesis_tests import compare_draws
from multi_seed import (
    Contrast,
    Verdict,
    choose,
    contrast,
    decide,
    draw_trainings,
    judge,
    phrase,
    smallest_benefit,
)

STUDY = Path(__file__).parents[1] / "experiments" / "gan_augmentation" / "simulate.py"


@pytest.fixture(scope="module")
def study():
    return runpy.run_path(str(STUDY))


# --- simulated studies -------------------------------------------------------------------------


def call_different(study, law, studies=150):
    """Return how often two equal arms are told apart at 5 %, by each way of counting."""
    calls = dict.fromkeys(["both", "patients", "seeds"], 0)
    for number in range(studies):
        *_, (who, label, scores) = law.draw(number, (0.0, 0.0))
        first, second = (study["draw_areas"](who, label, arm, 200, number) for arm in scores)
        gains = second - first
        calls["both"] += contrast(gains).p < 0.05
        calls["patients"] += compare_draws(gains.mean(axis=0)).p < 0.05
        calls["seeds"] += ttest_1samp(gains[:, 0], 0).pvalue < 0.05
    return {way: n / studies for way, n in calls.items()}


def test_equal_arms_are_seldom_told_apart_where_training_is_a_lottery(study):
    law = study["Law"](test=(60, 60), val=(1, 1), luck=0.25)
    calls = call_different(study, law)
    assert calls["both"] <= 0.09
    assert calls["patients"] >= 0.15


def test_equal_arms_are_seldom_told_apart_where_patients_decide(study):
    law = study["Law"](test=(60, 60), val=(1, 1), arm=0.6, training=0.2, luck=0.0)
    calls = call_different(study, law)
    assert calls["both"] <= 0.09
    assert calls["seeds"] >= 0.15


def test_images_of_a_patient_count_as_one(study):
    law = study["Law"](test=(30, 30), val=(1, 1), images=4)
    assert call_different(study, law)["both"] <= 0.09


def test_a_planted_benefit_is_found_and_none_is_invented(study):
    nothing, _, copies, helped, harmed, _ = study["TRUTHS"].values()
    found = study["count"](25, helped, 150)
    assert found["benefit"] >= 0.8
    assert study["count"](25, harmed, 150)["harm"] >= 0.6
    assert study["count"](25, nothing, 150)["none"] >= 0.93
    like_copies = study["count"](25, copies, 150)
    assert like_copies["benefit"] <= 0.08
    assert like_copies["classical"] >= 0.8  # without the control it would be called a benefit


@pytest.mark.slow
def test_of_500_studies_the_null_says_no_proven_benefit_and_a_gain_of_3_points_is_found(study):
    truths = list(study["TRUTHS"].values())
    assert study["count"](500, truths[0])["none"] >= 0.93
    assert study["count"](500, truths[0])["alone/none"] >= 0.93
    assert study["count"](500, truths[3])["benefit"] >= 0.8


def test_the_simulations_areas_are_those_of_the_verdict(study):
    *_, (who, label, scores) = study["SMALL"].draw(3, (0.0,))
    probs = norm.cdf(scores[0])
    arm = Aligned(
        "binary", ["a", "b"], [], label, who.tolist(), [""] * len(label),
        [np.stack([1 - p, p], axis=1) for p in probs],
        [np.stack([p < 0.5, p >= 0.5], axis=1) for p in probs],
    )  # fmt: skip
    ours = study["draw_areas"](who, label, scores[0], 50, 0)
    assert ours == pytest.approx(draw_trainings(arm, "auroc", 50), abs=1e-6)
    assert study["measure_areas"](label, scores[0]) == pytest.approx(ours[:, 0], abs=1e-6)


# --- closed forms ------------------------------------------------------------------------------


def test_without_luck_of_patients_it_is_the_paired_t_test():
    values = np.array([0.01, 0.03, 0.02, 0.05, -0.01])
    found = contrast(np.repeat(values[:, None], 100, axis=1))
    expected = ttest_1samp(values, 0)
    assert found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.freedom == 4


def test_without_luck_of_training_it_is_a_z_test_of_the_bootstrap():
    drawn = np.random.default_rng(0).normal(0.02, 0.01, 400)
    found = contrast(np.tile(np.append(0.02, drawn), (5, 1)))
    assert found.by_training == pytest.approx(0, abs=1e-12)
    assert found.p == pytest.approx(2 * norm.sf(0.02 / drawn.std(ddof=1)), rel=1e-3)


def test_the_variance_is_that_of_obuchowski_and_rockette():
    rng = np.random.default_rng(1)
    patients = rng.normal(size=300) * 0.02
    gains = 0.01 + patients + rng.normal(size=(4, 300)) * 0.03
    found = contrast(gains)
    covariance = np.cov(gains[:, 1:])
    shared = np.mean([covariance[i, j] for i in range(4) for j in range(4) if i != j])
    between = gains[:, 0].var(ddof=1) / 4
    assert found.error == pytest.approx(math.sqrt(between + shared))
    assert found.freedom == pytest.approx((between + shared) ** 2 / (between**2 / 3))


def test_more_verdicts_widen_the_intervals():
    gains = np.random.default_rng(2).normal(0.01, 0.02, (5, 200))
    one, three = contrast(gains), contrast(gains, 0.05 / 3)
    assert three.low < one.low < one.high < three.high
    assert three.p == one.p


def test_what_never_varies_has_no_interval_and_proves_nothing():
    drawn = {"new": np.full((3, 50), 1.0), "old": np.full((3, 50), 0.8)}
    verdict = decide(drawn, "new", ["old"], patients=4)
    assert verdict.contrasts["old"].low is None
    assert verdict.outcome == "none"
    assert phrase(verdict).startswith("No proven benefit in AUROC: new − old +.200 (–)")
    assert contrast(np.zeros((3, 50))).p == 1


def test_a_score_that_is_undefined_is_refused():
    drawn = {"new": np.full((3, 50), np.nan), "old": np.full((3, 50), 0.8)}
    with pytest.raises(MedvisionError, match="AUROC is undefined on these labels"):
        decide(drawn, "new", ["old"], patients=4)


def test_of_low_scores_that_are_good_less_is_a_benefit():
    rng = np.random.default_rng(3)
    low, high = (rng.normal(mean, 0.002, (5, 200)) for mean in (0.1, 0.2))
    for new, old, outcome in ((low, high, "benefit"), (high, low, "harm")):
        verdict = decide({"new": new, "old": old}, "new", ["old"], "brier", patients=9)
        assert verdict.outcome == outcome
        assert "(above 0 is better)" in phrase(verdict)
    assert choose({"a": [0.2, 0.3], "b": [0.1, 0.3]}, "brier") == "b"


def test_the_best_ratio_on_val_is_chosen_and_the_first_of_equal_ones():
    assert choose({"0.25": [0.9, 0.8], "0.5": [0.95, 0.8], "1": [0.7, 0.9]}) == "0.5"
    assert choose({"0.25": [0.9], "0.5": [0.9]}) == "0.25"


# --- sentences ---------------------------------------------------------------------------------


def say(*ends, outcome):
    names = ("classical", "duplicated")
    contrasts = {
        name: Contrast((low + high) / 2, low, high, 0.01, 5.0, 0.003, 0.004)
        for name, (low, high) in zip(names, ends, strict=True)
    }
    return Verdict(outcome, "generated", "auroc", contrasts, seeds=5, patients=624, looks=1)


def test_a_benefit_is_the_smaller_of_both():
    assert phrase(say((0.02, 0.04), (0.01, 0.03), outcome="benefit")) == (
        "A proven benefit of +.020 AUROC: generated − classical +.030 (+.020, +.040), generated − "
        "duplicated +.020 (+.010, +.030); 95 % intervals over 5 seeds and 624 patients."
    )


def test_no_benefit_says_what_could_have_been_shown():
    verdict = say((0.01, 0.03), (-0.01, 0.03), outcome="none")
    least = 0.005 * (2.570582 + 0.841621)  # t of 5 degrees, z of 80 %
    assert smallest_benefit(verdict) == pytest.approx(least, abs=1e-6)
    assert phrase(verdict) == (
        "No proven benefit in AUROC: generated − classical +.020 (+.010, +.030), generated − "
        "duplicated +.010 (-.010, +.030); 95 % intervals over 5 seeds and 624 patients; such a "
        "study shows a benefit of .017 in 80 of 100."
    )


def test_harm_is_said_as_harm_and_intervals_by_their_level():
    verdict = replace(say((-0.04, -0.02), (-0.03, 0.01), outcome="harm"), looks=3)
    assert phrase(verdict).startswith("Proven harm of -.030 AUROC against classical: generated −")
    assert "98.3 % intervals" in phrase(verdict)
    assert verdict.to_json()["sentence"] == phrase(verdict)


def test_one_control_that_is_not_beaten_is_no_benefit_and_only_the_first_tells_harm():
    rng = np.random.default_rng(4)
    arms = {
        name: rng.normal(mean, 0.002, (5, 200))
        for name, mean in {"new": 0.9, "worse": 0.8, "alike": 0.9, "better": 0.95}.items()
    }
    for controls, outcome in (
        (["worse"], "benefit"), (["worse", "alike"], "none"), (["alike", "better"], "none"),
        (["better", "worse"], "harm"),
    ):  # fmt: skip
        assert decide(arms, "new", controls, patients=9).outcome == outcome


# --- from predictions --------------------------------------------------------------------------


def train(gain=0.0, seeds=range(4), n=80, folds=None):
    """Make the predictions of one arm, with ease of the patients that all arms share."""
    label = np.arange(n) % 2
    ease = np.random.default_rng(0).normal(size=n)
    repeats = []
    for seed in seeds:
        noise = np.random.default_rng([seed, round(1000 * gain)]).normal(size=n)
        p = norm.cdf((1 + gain) * (label - 0.5) + ease * 0.5 + noise * 0.3)
        table = pd.DataFrame({
            "dataset": "d", "path": [f"{k}.png" for k in range(n)], "frame": 0,
            "patient": [f"p{k}" for k in range(n)], "label": np.where(label == 1, "b", "a"),
            "pred": np.where(p > 0.5, "b", "a"), "prob_a": 1 - p, "prob_b": p, "fold": "",
        })  # fmt: skip
        repeats.append(Repeat(seed, 0, folds or [None], table))
    return repeats


def settle(arms, controls=("classical", "duplicated"), **given):
    return judge(arms, "new", controls, ["a", "b"], "binary", resamples=200, **given)


def test_predictions_of_a_better_arm_are_a_proven_benefit():
    arms = {"new": train(3.0), "classical": train(), "duplicated": train(0.1)}
    verdict = settle(arms, looks=3)
    assert verdict.outcome == "benefit"
    assert (verdict.seeds, verdict.patients, verdict.looks) == (4, 80, 3)
    assert list(verdict.contrasts) == ["classical", "duplicated"]
    assert settle(arms).contrasts["classical"].value == verdict.contrasts["classical"].value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"duplicated": []}, "no finished training of arm duplicated; train it"),
        ({"duplicated": train(seeds=[0, 1, 2])}, "only one of them has 3; train what is missing"),
        ({"duplicated": train(n=60)}, "new and duplicated were not tested on the same images"),
        ({"duplicated": train(folds=[0, 1])}, "over seeds of one split, not over folds"),
    ],
)
def test_arms_that_are_missing_or_not_paired_are_refused(change, words):
    arms = {"new": train(1.0), "classical": train(), "duplicated": train()} | change
    with pytest.raises(MedvisionError, match=words):
        settle(arms)


def test_one_training_an_arm_gives_no_verdict():
    arms = {name: train(seeds=[0]) for name in ("new", "classical", "duplicated")}
    with pytest.raises(MedvisionError, match="one training an arm gives no verdict"):
        settle(arms)


@pytest.mark.parametrize("column", ["patient", "label"])
def test_other_patients_or_labels_are_refused(column):
    other = train()
    for repeat in other:
        repeat.table[column] = repeat.table[column].to_numpy()[::-1]
    arms = {"new": train(1.0), "classical": other}
    with pytest.raises(MedvisionError, match=f"were not tested on the same {column}s"):
        settle(arms, ["classical"])


def test_a_verdict_needs_a_control():
    with pytest.raises(MedvisionError, match="a candidate and at least one control"):
        settle({"new": train()}, [])
