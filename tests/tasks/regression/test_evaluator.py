import numpy as np
import pandas as pd
import pytest

from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import HIT, open_evaluator
from medvision.evaluation.predictions import read_tables, write_predictions
from medvision.evaluation.scoring import prepare_parts, score_parts
from medvision.target import find_folder, open_target
from medvision.tasks.regression.target import Number

DECISION = {
    "outputs": ["mean", "log_variance"], "center": [10.0, 200.0], "spread": [2.0, 50.0],
    "level": 0.9, "width": [2.0, None],
}  # fmt: skip
TARGET = {"targets": ["age", "gap"]}
NOWHERE = pd.DataFrame(columns=["origin", "dataset", "patient", "split"])


def facts(rows):
    return pd.DataFrame({
        "index": range(rows), "dataset": "d", "path": [f"{k}.png" for k in range(rows)],
        "frame": 0, "patient": [f"p{k // 2}" for k in range(rows)], "series": "",
        "value_age": [*range(8, 8 + rows)], "value_gap": [None, *range(1, rows)],
    })  # fmt: skip


def make(rows=6, **decision):
    evaluator = open_evaluator("regression", TARGET, DECISION | decision)
    logits = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    return evaluator, {"logits": logits}, {"": facts(rows)}


def test_predictions_are_in_the_users_units_beside_the_facts():
    evaluator, outputs, given = make()
    table = evaluator.tabulate(outputs, given)[""]
    logits = outputs["logits"].astype(np.float64)
    np.testing.assert_allclose(table["pred_age"], 10 + 2 * logits[:, 0])
    reach = 2 * 2 * np.exp(logits[:, 1] / 2)
    np.testing.assert_allclose(table["high_age"] - table["low_age"], 2 * reach)
    np.testing.assert_allclose(table["pred_gap"], 200 + 50 * logits[:, 2])
    assert table[["low_gap", "high_gap"]].isna().all(axis=None)
    assert table["value_age"].tolist() == [*range(8, 14)]


def test_stored_predictions_score_the_same_and_an_edit_is_noticed(tmp_path):
    evaluator, outputs, given = make(40)
    tables = evaluator.tabulate(outputs, given)
    write_predictions(tmp_path / "test.csv", tables[""])
    stored = read_tables(tmp_path / "test.csv", evaluator.tables)

    def score(some):
        return score_parts(
            prepare_parts({"test": some}, evaluator), evaluator, NOWHERE, resamples=9
        )

    found = score(stored)
    assert found == score(tables)
    assert found["targets"] == ["age", "gap"]
    assert found["interval"] == {"level": 0.9, "widened_by": {"age": 2.0, "gap": None}}
    assert found["per_target"]["test"]["gap"]["n"] == 39
    assert found["per_target"]["test"]["gap"]["coverage"]["value"] is None
    text = (tmp_path / "test.csv").read_text().replace(str(stored[""]["pred_age"][3]), "99.5")
    (tmp_path / "test.csv").write_text(text)
    edited = score(read_tables(tmp_path / "test.csv", evaluator.tables))
    assert edited["test"]["mae"] != found["test"]["mae"]


def test_columns_that_are_missing_are_named():
    evaluator, outputs, given = make()
    table = evaluator.tabulate(outputs, given)[""].drop(columns=["pred_gap", "value_age"])
    with pytest.raises(MedvisionError, match="lack columns: value_age; pred_gap"):
        evaluator.read({"": table})


def test_rows_of_which_nothing_is_known_are_left_out_and_counted():
    evaluator, outputs, given = make()
    given[""].loc[[0, 3], ["value_age", "value_gap"]] = np.nan
    scored = evaluator.read(evaluator.tabulate(outputs, given))
    assert len(scored) == 4
    assert evaluator.count(scored, "images") == {"images": 4, "patients": 3, "unlabelled": 2}


def test_an_ensemble_is_the_mean_of_predictions_and_of_bounds():
    (first, outputs, given), (second, other, _) = make(), make(center=[20.0, 0.0], width=[1.0, 3.0])
    joined = first.join([first, second])
    several = joined.combine([outputs, other], [first, second])
    each = [one.tabulate(said, given)[""] for one, said in ((first, outputs), (second, other))]
    table = joined.tabulate(several, given)[""]
    for name in ("pred_age", "low_age", "high_age", "pred_gap"):
        np.testing.assert_allclose(table[name], (each[0][name] + each[1][name]) / 2)
    assert joined.level == 0.9
    with pytest.raises(MedvisionError, match=r"intervals of 80% and 90%, .*model\.level"):
        first.join([first, make(level=0.8)[0]])


def test_patients_are_judged_by_the_means_of_their_series():
    evaluator, outputs, given = make()
    scored = evaluator.read(evaluator.tabulate(outputs, given))
    whole = evaluator.by_patient(scored)
    assert whole.patients == [("d", "p0"), ("d", "p1"), ("d", "p2")]
    np.testing.assert_allclose(whole.arrays["value"], [[8.5, 1], [10.5, 2.5], [12.5, 4.5]])
    known = scored.arrays["pred"][1, 1]  # of the first patient the gap of one row is known
    assert whole.arrays["pred"][0, 1] == known
    assert np.isnan(whole.arrays["low"]).all()
    once = np.ones((1, 3))
    assert np.isnan(evaluator.metrics["coverage"].compute(whole, once))[0]
    assert "intervals" in evaluator.metrics["coverage"].needs(whole)
    assert evaluator.by_patient(whole) is None


def test_cases_are_the_furthest_off_on_both_sides_then_the_nearest():
    evaluator = open_evaluator("regression", {"targets": ["age"]}, {**DECISION, "width": [1.0]})
    table = facts(8).drop(columns="value_gap")
    miss = np.array([9.0, -8, 0.1, 7, -1, 6, -0.2, 20])
    table["pred_age"] = table["value_age"] + miss
    table["low_age"], table["high_age"] = table["pred_age"] - 2, table["pred_age"] + 2
    scored = evaluator.read({"": table})
    cases = list(evaluator.cases(scored))
    assert [(case.row, case.kind) for case in cases] == [
        (7, "too high"), (1, "too low"), (0, "too high"), (3, "too high"), (5, "too high"),
        (2, HIT), (6, HIT), (4, HIT),
    ]  # fmt: skip
    assert evaluator.kinds(scored).count(HIT) == 3
    assert cases[0].text == "age 15, predicted 35 (33 to 37)"
    assert cases[0].target == 0
    assert evaluator.phrase_case(cases[0].facts) == cases[0].text


def test_only_intervals_that_differ_tell_how_sure_a_prediction_is():
    evaluator, outputs, given = make(width=[2.0, 3.0])
    given[""]["value_gap"] = range(6)
    scored = evaluator.read(evaluator.tabulate(outputs, given))
    width = [scored.arrays["high"] - scored.arrays["low"]][0] / scored.arrays["value"].std(axis=0)
    np.testing.assert_array_equal(
        np.argsort(evaluator.confidence(scored)), np.argsort(-width.mean(axis=1))
    )
    outputs["logits"][:, [1, 3]] = 0
    assert evaluator.confidence(evaluator.read(evaluator.tabulate(outputs, given))) is None


def test_figures_show_every_row_and_the_limits():
    evaluator, outputs, given = make(40)
    scored = evaluator.read(evaluator.tabulate(outputs, given))
    drawn = dict(evaluator.figures(scored))
    assert set(drawn) == {"scatter", "bland_altman"}
    first, second = drawn["scatter"].axes
    assert [len(axes.collections[-1].get_offsets()) for axes in (first, second)] == [40, 39]
    lines = drawn["bland_altman"].axes[0].get_lines()
    heights = sorted(line.get_ydata()[0] for line in lines if line.get_ydata()[0])
    gap = scored.arrays["pred"][:, 0] - scored.arrays["value"][:, 0]
    expected = [gap.mean() + side * gap.std(ddof=1) for side in (-1.96, 0, 1.96)]
    assert heights == pytest.approx(expected)


def test_a_task_within_a_folder_goes_by_both_names():
    assert open_target("regression") is Number
    assert open_target("medvision.tasks.regression.task.Regressor") is Number
    assert find_folder("medvision.tasks.regression.ordinal.task.OrdinalRegressor") == (
        "regression.ordinal"
    )
    assert open_evaluator("regression.ordinal").task == "regression.ordinal"
    assert find_folder("regression.task.Mine") == ""  # of a package of a user's


def test_a_number_that_every_sample_gets_is_named():
    evaluator, outputs, given = make(40)
    tables = evaluator.tabulate(outputs, given)
    assert list(evaluator.doubts(evaluator.read(tables))) == []
    tables[""]["pred_gap"] = 17.0
    (doubt,) = evaluator.doubts(evaluator.read(tables))
    assert doubt.startswith("all predictions of gap are nearly 17: the net tells nothing apart")
