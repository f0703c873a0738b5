"""Bounds on few patients: those of the books, and the coverage of intervals that hold them."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from medvision.stats.bootstrap import drop_point, interval, widen_level
from medvision.stats.small_samples import Area, Share, bound_mean

COVERAGE = Path(__file__).parents[2] / "experiments" / "coverage" / "simulate.py"
STILL = np.ones(50)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 7), (19, 20)])
def test_a_share_of_patients_with_one_row_each_has_clopper_and_pearsons_interval(hits, n):
    exact = binomtest(hits, n).proportion_ci(method="exact")
    assert Share(hits / n, n, n).bound(1) == pytest.approx((exact.low, exact.high))


def test_an_area_of_one_or_nought_has_an_interval_and_half_lies_between():
    low, high = Area(1.0, 5, 5, 25).bound(1)
    assert high == 1
    assert 0.5 < low < 0.8
    assert Area(0.0, 5, 5, 25).bound(1) == pytest.approx((1 - high, 1 - low))
    low, high = Area(0.5, 10, 10, 100).bound(1)
    assert low == pytest.approx(1 - high)
    assert low < 0.3


def test_the_interval_of_an_area_solves_newcombes_equation():
    m, n, area = 12, 30, 0.8
    for end in Area(area, m, n, m * n).bound(1):
        spread = 1 + ((m + n) / 2 - 1) * ((1 - end) / (2 - end) + end / (1 + end))
        variance = end * (1 - end) * spread / (m * n)
        assert abs(end - area) == pytest.approx(1.96 * variance**0.5, rel=1e-3)


def test_rows_of_one_patient_narrow_bounds_as_far_as_resamples_vary_less():
    one = Share(0.8, 20, 200)
    alone = bound_mean([one], np.array([]))
    alike = bound_mean([one], np.random.default_rng(0).normal(0.8, 0.09, 500))
    apart = bound_mean([one], np.random.default_rng(0).normal(0.8, 0.03, 500))
    assert alone == pytest.approx(one.bound(1))
    assert alike == alone
    assert alone[0] < apart[0] < 0.8 < apart[1] < alone[1]
    still = bound_mean([one], np.random.default_rng(0).normal(0.8, 1e-4, 500))
    assert still == pytest.approx(one.bound(10))


def test_the_bounds_of_a_mean_are_nearer_than_those_of_its_parts():
    parts = [Share(0.9, 20, 20), Share(0.7, 20, 20)]
    low, high = bound_mean(parts, np.array([]))
    ends = [one.bound(1) for one in parts]
    assert low < 0.8 < high
    assert high - low < min(high - low for low, high in ends)


def test_an_interval_holds_its_bounds_and_a_point_has_no_ends():
    assert interval(STILL, bounds=[(0.6, 1.0), (0.7, 1.0)]) == {
        "value": 1.0, "low": pytest.approx(0.65), "high": 1.0,
    }  # fmt: skip
    assert drop_point(interval(STILL)) == {"value": 1.0, "low": None, "high": None}
    assert widen_level(5) > widen_level(50) > 0.95
    assert widen_level(10**6) == pytest.approx(0.95, abs=1e-4)


@pytest.mark.parametrize("patients", [5, 10, 20, 40])
def test_intervals_cover_on_few_patients(patients):
    study = runpy.run_path(str(COVERAGE))
    shares = study["count_few"](100, patients, resamples=150)
    assert min(shares[f"{score}/now"] for score in study["FEW_SCORES"]) >= 0.88, shares
    assert shares["auroc/percentile"] < 0.93
