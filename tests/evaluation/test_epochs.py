import math

import pandas as pd
import pytest

from medvision.evaluation.epochs import (
    explain_choice,
    explain_last,
    find_best_epoch,
    keeps_last,
    note_last,
    rank_epoch,
)

AUROC = {"val/auroc": "max", "val/loss": "min"}


def history(**columns):
    return pd.DataFrame({"epoch": range(len(next(iter(columns.values()))))}).assign(
        **{f"val/{name}": values for name, values in columns.items()}
    )


@pytest.mark.parametrize("stuck", [1.0, 0.0])
def test_of_equal_epochs_the_one_of_the_lowest_loss_is_best(stuck):
    told = history(auroc=[stuck] * 4, loss=[0.69, 0.4, 0.2, 0.3])
    assert find_best_epoch(told, "val/auroc") == 2


def test_the_monitor_comes_first_and_what_is_no_number_last():
    told = history(auroc=[math.nan, 0.9, 0.8], loss=[0.1, 0.6, 0.2])
    assert find_best_epoch(told, "val/auroc") == 1
    assert rank_epoch({"val/auroc": 0.9}, AUROC) < rank_epoch(
        {"val/auroc": 0.9, "val/loss": 5.0}, AUROC
    )
    assert find_best_epoch(told, "val/f1") is None


def test_of_epochs_equal_in_everything_the_first_is_best():
    assert find_best_epoch(history(auroc=[0.5, 0.9, 0.9], loss=[1, 1, 1]), "val/auroc") == 1


def test_a_choice_is_explained_by_what_decided_it():
    told = history(auroc=[1.0, 0.5, 1.0, 1.0], loss=[0.69, 0.4, 0.2, 0.3])
    assert explain_choice(told, AUROC) == (
        "highest val/auroc (1.000) in 3 of 4 epochs; of these the lowest val/loss (.200)"
    )
    assert explain_choice(told, {"val/loss": "min"}) == "lowest val/loss (.200)"
    assert explain_choice(history(kappa=[-0.2, -0.1]), {"val/kappa": "max", "val/loss": "min"}) == (
        "highest val/kappa (-.100)"
    )
    same = history(gate_score=[0.0, 0.0], coverage=[0.0, 0.0], diversity=[math.nan, 0.0])
    ways = {"val/gate_score": "max", "val/coverage": "max", "val/diversity": "max"}
    assert explain_choice(same, ways).endswith("of these the highest val/diversity (.000)")
    assert explain_choice(same, {"val/coverage": "max"}) == (
        "highest val/coverage (.000) in 2 of 2 epochs; the first of these"
    )


@pytest.mark.parametrize(("keep", "patients", "last"), [
    ("auto", 39, True), ("auto", 40, False), ("best", 39, False), ("last", 40, True),
])  # fmt: skip
def test_few_patients_of_val_choose_no_epoch(keep, patients, last):
    assert keeps_last(keep, patients) is last


def test_it_is_said_before_and_after_and_so_is_the_way_out():
    (note,) = note_last("auto", 14, "val/auroc")
    assert note.startswith("val holds 14 patients, too few")
    assert "keep=best lets val/auroc choose" in note
    for keep, patients in (("auto", 40), ("last", 14), ("best", 14)):
        assert note_last(keep, patients, "val/auroc") == []
    assert explain_last("auto", 14, "val/auroc", 20) == (
        "the last of 20, as val holds 14 patients and from 40 on val/auroc chooses"
    )
    assert explain_last("last", 14, "val/auroc", 20) == "the last of 20, as keep=last asks"
