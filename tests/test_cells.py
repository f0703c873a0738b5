"""Tables that are written run nothing in a spreadsheet, and read back the same."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvision.cells import guard_cells, unguard_cells
from medvision.evaluation.predictions import Schema, read_predictions, write_predictions

FORMULAS = ("=1+1", "=cmd|' /C calc'!A0", "+49 30 1", "-x", "@SUM(1)", "\t=1", "'=1", "''@x")


@given(st.lists(st.text(max_size=6) | st.sampled_from([*FORMULAS, "-1.5", "+3", "1e5", "'"])))
def test_any_text_reads_back_the_same(cells):
    table = pd.DataFrame({"path": cells}, dtype=object)
    assert unguard_cells(guard_cells(table))["path"].tolist() == cells


@pytest.mark.parametrize("cell", FORMULAS)
def test_no_cell_and_no_title_begins_as_a_formula(cell):
    written = guard_cells(pd.DataFrame({cell: [cell, "plain"]}))
    assert [*written.columns, *written.iloc[:, 0]] == [f"'{cell}", f"'{cell}", "plain"]


def test_numbers_stay_as_they_are():
    table = pd.DataFrame({"a": ["-1.5", "+3", ""], "b": [-1.0, 2.0, 3.0]})
    pd.testing.assert_frame_equal(guard_cells(table), table)


def test_predictions_of_a_file_named_as_a_formula(tmp_path):
    table = pd.DataFrame({
        "index": [0], "dataset": "d", "path": "=cmd.png", "frame": 0, "patient": "@p", "series": "",
        "label": "-", "logit_a": -1.5,
    })  # fmt: skip
    place = write_predictions(tmp_path / "p.csv", table)
    assert "'=cmd.png" in place.read_text()
    schema = Schema(text=("label",), truth=("label",), numbers=("logit_",), example="logit_a")
    again = read_predictions(place, schema)
    assert again[["path", "patient", "label"]].iloc[0].tolist() == ["=cmd.png", "@p", "-"]
    assert again["logit_a"][0] == -1.5
