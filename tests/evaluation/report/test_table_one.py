import pandas as pd

from medvision.evaluation.report.run_files import read_run_files
from medvision.evaluation.report.table_one import describe_cohort, show_quartiles


def read(run):
    table = describe_cohort(read_run_files(run))
    assert table.head == ["", "train", "val", "test", "all"]
    return {(block.title, row[0]): row[1:] for block in table.blocks for row in block.rows}, table


def test_every_part_is_described_at_the_level_of_patients(cohort):
    cells, table = read(cohort)
    rows = pd.read_csv(cohort / "manifest.csv", keep_default_na=False)
    assert cells["", "patients"] == ["20", "20", "20", "60"]
    assert cells["", "images"] == ["40", "40", "40", "120"]
    assert cells["", "images a patient, median [quartiles]"] == ["2"] * 4
    sick = rows[(rows["label"] == "sick") & (rows["split"] == "test")]
    label = "label of images, n (%)"
    assert cells[label, "sick"][2] == f"{len(sick)} ({100 * len(sick) / 40:.0f} %)"
    assert cells[label, "unlabelled"] == ["1", "0", "0", "1"]
    whole = sum((rows["split"] == "train") & (rows["label"] == "sick"))
    assert cells[label, "sick"][0] == f"{whole} ({100 * whole / 39:.0f} %)"
    each = sick["patient"].nunique()
    assert cells["patients with such a label, n (%)", "sick"][2].startswith(f"{each} (")
    assert cells["site (patients), n (%)", "A"] == ["10 (50 %)"] * 3 + ["30 (50 %)"]
    assert cells["", "age years (patients), median [quartiles]"][0] == "49.5 [44.75–54.25]"
    assert cells["", "age years, not recorded"] == ["0", "0", "5", "5"]
    assert ("sex (patients), n (%)", "f") in cells
    assert "32 × 32 (120)" in table.notes[1]


def test_what_differs_within_a_patient_is_told_of_images(cohort):
    rows = pd.read_csv(cohort / "manifest.csv", dtype=str, keep_default_na=False)
    rows["x_depth_mm"] = [str(k % 37) for k in range(120)]
    rows["series"] = rows["patient"]
    rows["spacing_y_mm"] = rows["spacing_x_mm"] = "0.5"
    made = rows.iloc[:10].assign(origin="generated", split="train", patient="g")
    pd.concat([rows, made]).to_csv(cohort / "manifest.csv", index=False)
    cells, table = read(cohort)
    assert ("", "depth mm (images), median [quartiles]") in cells
    assert cells["", "series"] == ["20", "20", "20", "60"]
    assert cells["", "images"] == ["40", "40", "40", "120"]
    assert cells["", "pixel in mm (images), median [quartiles]"] == ["0.5"] * 4
    assert "Generated images are not counted." in table.notes


def test_a_run_without_rows_has_no_table(tmp_path):
    assert describe_cohort(read_run_files(tmp_path)) is None


def test_quartiles_are_left_out_where_all_are_one():
    assert show_quartiles(pd.Series([2.0, 2.0, 2.0])) == "2"
    assert show_quartiles(pd.Series([float("nan")])) == "\N{EN DASH}"
    assert show_quartiles(pd.Series([0.0, 1.0, 2.0, 3.0, 4.0])) == "2 [1–3]"
