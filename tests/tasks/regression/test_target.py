import numpy as np
import pandas as pd
import pytest

from medvision.errors import MedvisionError
from medvision.tasks.regression.target import Number

CARD = {"classes": None, "facts": {}}


def rows(**columns):
    return pd.DataFrame(columns)


TABLE = rows(
    y_age=["61", "", " 4.5e1", "70"], y_gap=["1", "2", "", ""], x_age=["a"] * 4, label=["u"] * 4
)


def test_all_columns_are_asked_for_or_those_that_are_named():
    assert Number.resolve(TABLE, CARD).names == ["age", "gap"]
    assert Number.resolve(TABLE, CARD, targets=["gap"]).names == ["gap"]
    assert Number.resolve(TABLE, CARD, targets=["y_gap", "age"]).names == ["gap", "age"]


def test_encoding_is_single_precision_and_reads_back_as_it_was_written():
    target = Number(["age", "gap"])
    encoded = target.encode(rows(y_age=["61.13", "", "1e-7"], y_gap=["", "", "-3"]))
    assert encoded["value"].dtype == np.float32
    assert target.decode(encoded) == {
        "value_age": [61.13, None, 1e-7], "value_gap": [None, None, -3.0]
    }  # fmt: skip
    assert target.known(encoded).tolist() == [True, False, True]
    assert np.isnan(target.encode(rows(path=["a"]))["value"]).all()  # a table without the columns


@pytest.mark.parametrize(
    ("table", "targets", "told"),
    [
        (rows(label=["a"]), None, r"there is no column y_NAME .*say columns\.y_NAME=THEIRS"),
        (TABLE, ["aeg"], r"no such columns: y_aeg \(did you mean 'age'\?\)\. .*has y_age, y_gap"),
        (TABLE, ["age", "y_age"], r"data\.annotation\.targets names age twice"),
        (rows(y_a=["1", "1", ""], y_b=["", "", ""]), None, "two different numbers: y_a; y_b"),
        (
            rows(y_a=["1", "old", "old", "inf"], y_b=["1", "2", "nan", "x"]), None,
            r"no numbers: y_a 'old' \(2 rows\), 'inf' \(1 rows\); y_b 'nan' \(1 rows\), 'x'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_told_at_once(table, targets, told):
    with pytest.raises(MedvisionError, match=told):
        Number.resolve(table, CARD, targets=targets)


def test_a_series_has_the_number_of_its_rows_where_they_agree():
    table = rows(y_a=["1", "", "2", "2", ""], y_b=["1", "2", "5", "5", ""])
    whole = Number.of_unit(table, pd.Series([*"xxyyz"]))
    assert whole["y_a"].tolist() == ["1", "1", "2", "2", ""]
    assert whole["y_b"].tolist() == ["differs within the series"] * 2 + ["5", "5", ""]
    assert Number.resolve(whole, CARD, targets=["a"]).names == ["a"]
    with pytest.raises(MedvisionError, match=r"y_b 'differs within the series' \(2 rows\)"):
        Number.resolve(whole, CARD)


def test_parts_are_alike_in_quarters():
    table = rows(y_a=[str(k) for k in range(1, 9)] + [""], y_b=["0"] * 7 + ["9", ""])
    target = Number.resolve(table, CARD)
    strata = target.strata(table)
    assert strata.tolist() == [
        "a ≤ 2.75|b ≤ 0", "a ≤ 2.75|b ≤ 0", "a 2.75 to 4.5|b ≤ 0", "a 2.75 to 4.5|b ≤ 0",
        "a 4.5 to 6.25|b ≤ 0", "a 4.5 to 6.25|b ≤ 0", "a > 6.25|b ≤ 0", "a > 6.25|b > 0", "",
    ]  # fmt: skip
    assert Number.from_plain(target.plain()) == target


def test_numbers_are_described_for_table_1():
    encoded = Number(["a"]).encode(rows(y_a=["1", "2", "3", "6", ""]))
    counts = Number(["a"]).count(encoded, [*"pqrst"])
    assert counts["unlabelled"] == 1
    assert counts["numbers"]["a"] == {
        "known": 4, "mean": 3.0, "sd": pytest.approx(np.std([1, 2, 3, 6])), "median": 2.5,
        "low": 1.75, "high": 3.75,
    }  # fmt: skip
    nothing = Number(["a"]).encode(rows(y_a=["", ""]))
    assert Number(["a"]).count(nothing, ["p", "q"])["numbers"]["a"]["median"] is None
