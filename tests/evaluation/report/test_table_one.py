import math

import numpy as np
import pandas as pd
import pytest

from medvision.evaluation.report.run_files import read_run_files
from medvision.evaluation.report.table_one import (
    describe_cohort,
    show_quartiles,
    standardised_difference,
)


def read(run):
    table = describe_cohort(read_run_files(run))
    assert table.head == ["", "train", "val", "test", "all", "SMD"]
    return {(title, row[0]): row[1:] for title, rows in table.blocks for row in rows}, table


def test_every_part_is_described_at_the_level_of_patients(cohort):
    cells, table = read(cohort)
    rows = pd.read_csv(cohort / "manifest.csv", keep_default_na=False)
    assert cells["", "patients"] == [20, 20, 20, 60, ""]
    assert cells["", "images"] == [40, 40, 40, 120, ""]
    assert cells["", "images a patient, median [quartiles]"] == ["2"] * 4 + [".000"]
    sick = rows[(rows["label"] == "sick") & (rows["split"] == "test")]
    label = "label of images, n (%)"
    assert cells[label, "sick"][2] == f"{len(sick)} ({100 * len(sick) / 40:.0f} %)"
    assert cells[label, "not annotated"] == [1, 0, 0, 1, ""]
    whole = sum((rows["split"] == "train") & (rows["label"] == "sick"))
    assert cells[label, "sick"][0] == f"{whole} ({100 * whole / 39:.0f} %)"
    each = sick["patient"].nunique()
    assert cells["patients with such a label, n (%)", "sick"][2].startswith(f"{each} (")
    assert cells["site (patients), n (%)", "A"] == ["10 (50 %)"] * 3 + ["30 (50 %)", ".000"]
    assert cells["", "age years (patients), median [quartiles]"][0] == "49.5 [44.75–54.25]"
    assert cells["", "age years, not recorded"] == [0, 0, 5, 5, ""]
    assert ("sex (patients), n (%)", "f") in cells
    assert "32 × 32 (120)" in table.notes[2]


def test_what_differs_within_a_patient_is_told_of_images(cohort):
    rows = pd.read_csv(cohort / "manifest.csv", dtype=str, keep_default_na=False)
    rows["x_depth_mm"] = [str(k % 37) for k in range(120)]
    rows["series"] = rows["patient"]
    rows["spacing_y_mm"] = rows["spacing_x_mm"] = "0.5"
    made = rows.iloc[:10].assign(origin="generated", split="train", patient="g")
    pd.concat([rows, made]).to_csv(cohort / "manifest.csv", index=False)
    cells, table = read(cohort)
    assert ("", "depth mm (images), median [quartiles]") in cells
    assert cells["", "series"] == [20, 20, 20, 60, ""]
    assert cells["", "images"] == [40, 40, 40, 120, ""]
    assert cells["", "pixel in mm (images), median [quartiles]"] == ["0.5"] * 4 + [".000"]
    assert "Generated images are not counted." in table.notes


def test_standardised_differences_follow_the_published_formula():
    few, many = [1.0, 2.0, 3.0], [1.0, 3.0, 5.0]  # means 2 and 3, variances 1 and 4
    spread = math.sqrt((1 + 4) / 2)
    assert standardised_difference(2, 1, 3, 4) == pytest.approx((3 - 2) / spread)
    assert standardised_difference(
        np.mean(few), np.var(few, ddof=1), np.mean(many), np.var(many, ddof=1)
    ) == pytest.approx(1 / spread)
    share = 0.3 / math.sqrt((0.2 * 0.8 + 0.5 * 0.5) / 2)  # of 20 % and 50 %
    assert standardised_difference(0.5, 0.25, 0.2, 0.16) == pytest.approx(share)
    assert standardised_difference(1, 0, 1, 0) == 0
    assert standardised_difference(1, 0, 0, 0) == math.inf


def test_the_last_column_is_the_largest_difference_between_two_parts(cohort):
    cells, table = read(cohort)
    # Ages are 40 to 59 in train and 80 to 94 in test: means 49.5 and 87, variances 35 and 20.
    apart = f"{(87 - 49.5) / math.sqrt((35 + 20) / 2):.3f}"
    assert cells["", "age years (patients), median [quartiles]"][-1] == apart
    # 7 of 20 are men in train and test, 6 of 20 in val.
    apart = f"{0.05 / math.sqrt((0.35 * 0.65 + 0.3 * 0.7) / 2):.3f}".removeprefix("0")
    assert cells["sex (patients), n (%)", "m"][-1] == apart
    assert any("SMD" in note for note in table.notes)
    rows = pd.read_csv(cohort / "manifest.csv", dtype=str, keep_default_na=False)
    rows["site"] = np.where(rows["split"] == "test", "B", "A")
    rows.to_csv(cohort / "manifest.csv", index=False)
    assert read(cohort)[0]["site (patients), n (%)", "B"][-1] == "∞"


def test_a_run_without_rows_has_no_table(tmp_path):
    assert describe_cohort(read_run_files(tmp_path)) is None


def test_quartiles_are_left_out_where_all_are_one():
    assert show_quartiles(pd.Series([2.0, 2.0, 2.0])) == "2"
    assert show_quartiles(pd.Series([float("nan")])) == "\N{EN DASH}"
    assert show_quartiles(pd.Series([0.0, 1.0, 2.0, 3.0, 4.0])) == "2 [1–3]"
