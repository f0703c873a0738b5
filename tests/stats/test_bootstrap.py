"""Patients drawn with replacement: what is drawn, and the coverage of its intervals."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from medvision.stats.bootstrap import interval, resample_patients

COVERAGE = Path(__file__).parents[2] / "experiments" / "coverage" / "simulate.py"


def test_all_rows_of_a_patient_are_drawn_together_and_n_patients_each_time():
    patients = ["a", "b", "a", "c", "b", "a"]
    drawn = np.concatenate(list(resample_patients(patients, 500, seed=3)))
    assert (drawn[0] == 1).all()
    assert (drawn[:, [0, 0, 1]] == drawn[:, [2, 5, 4]]).all()
    assert (drawn[:, [0, 1, 3]].sum(1) == 3).all()
    assert drawn[1:, [0, 1, 3]].mean(0) == pytest.approx([1, 1, 1], abs=0.1)


def test_fewer_than_half_of_the_resamples_make_no_interval():
    nan = np.nan
    assert interval(np.array([0.5, nan, nan, nan, 0.4])) == {
        "value": 0.5,
        "low": None,
        "high": None,
    }
    assert interval(np.array([0.5, nan, nan, 0.4, 0.4]))["low"] == 0.4


def test_every_stratum_keeps_its_number_of_patients():
    patients = ["a", "b", "a", "c", "d", "e"]
    strata = ["0", "0", "1", "0", "1", "1"]  # a is of 0, where it is met first
    drawn = np.concatenate(list(resample_patients(patients, 500, 3, strata)))
    assert (drawn[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert (drawn[:, [4, 5]].sum(axis=1) == 2).all()
    assert (drawn[:, 0] == drawn[:, 2]).all()
    assert drawn[1:].mean(axis=0) == pytest.approx(np.ones(6), abs=0.15)


def test_one_stratum_is_no_stratum():
    plain = list(resample_patients(range(9), 20, 1))
    single = list(resample_patients(range(9), 20, 1, ["x"] * 9))
    assert all((a == b).all() for a, b in zip(plain, single, strict=True))


def test_the_patient_bootstrap_covers_the_truth_and_a_row_bootstrap_does_not():
    study = runpy.run_path(str(COVERAGE))
    shares = study["count"](60, 200, study["SMALL"])
    assert shares["cover/patients"] >= 0.87
    assert shares["cover/rows"] < 0.85


@pytest.mark.slow
def test_the_coverage_of_500_studies_is_nominal():
    shares = runpy.run_path(str(COVERAGE))["count"](500)
    assert 0.93 <= shares["cover/patients"] <= 0.97
    assert shares["cover/rows"] < 0.85
