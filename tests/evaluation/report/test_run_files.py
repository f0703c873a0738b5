import json

import pandas as pd
import pytest

from medvision.errors import MedvisionError
from medvision.evaluation.report.run_files import check_prevalence, read_run_files


def test_a_path_leads_into_every_file_and_nowhere_is_none(cohort):
    run = read_run_files(cohort)
    assert run.get("config.data.reader.size") == [32, 32]
    assert run.get("record.device") == "a CPU"
    assert run.get("metrics.operating_point.threshold") == 0.5
    for nowhere in ("config.data.reader.size.deeper", "audit.no.such", "card.facts.none"):
        assert run.get(nowhere) is None
    with pytest.raises(AttributeError):
        run.get("recrod.device")


def test_scores_are_those_of_the_part_and_nothing_beside_them(cohort, change):
    run = read_run_files(cohort)
    assert run.part == "test"
    assert {"auroc", "brier"} <= set(run.scores)
    change(cohort / "metrics.json", test=None)
    run = read_run_files(cohort)
    assert run.part == "val"
    assert "fitted_on" in run.metrics["val"]
    assert "fitted_on" not in run.scores
    nothing = {"value": None, "low": None, "high": None}
    change(cohort / "metrics.json", val={"auroc": nothing, "f1": nothing | {"value": 0.5}})
    run = read_run_files(cohort)
    assert list(run.defined) == ["f1"]
    assert run.bounded == {}


def test_the_kept_epoch_is_the_recorded_one_else_the_best(cohort, change):
    history = pd.DataFrame({"epoch": [0, 1, 2], "val/auroc": [0.7, 0.9, 0.8]})
    history.to_csv(cohort / "history.csv", index=False)
    assert read_run_files(cohort).best_epoch == (1, "val/auroc", 0.9)
    change(cohort / "record.json", best_epoch=2)
    assert read_run_files(cohort).best_epoch == (2, "val/auroc", 0.8)
    (cohort / "history.csv").unlink()
    assert read_run_files(cohort).best_epoch is None


def test_what_a_simulation_alone_knows_is_no_covariate(cohort, change):
    names = [one.name for one in read_run_files(cohort).covariates]
    assert {"site", "x_age_years", "x_sex"} <= set(names)
    facts = {"simulated": True, "truth": {"label": "as drawn", "x_age_years": "as drawn"}}
    change(cohort / "card.json", facts=facts)
    names.remove("x_age_years")
    assert [one.name for one in read_run_files(cohort).covariates] == names


@pytest.mark.parametrize("stated", [0, 1, -0.1, 2.0, "0.1"])
def test_a_prevalence_is_a_share(stated):
    with pytest.raises(MedvisionError, match="is not between 0 and 1; give a share"):
        check_prevalence(stated)


def test_a_prevalence_that_is_given_takes_the_place_of_the_configured(cohort):
    assert read_run_files(cohort).prevalence is None
    config = cohort / "config.yaml"
    config.write_text(config.read_text() + "report: {prevalence: 0.02}\n")
    assert read_run_files(cohort).prevalence == 0.02
    assert read_run_files(cohort, 0.3).prevalence == 0.3


def test_an_empty_folder_holds_nothing(tmp_path):
    run = read_run_files(tmp_path)
    assert run.scores == run.evaluations == run.datasets == run.net == {}
    assert run.covariates == run.words("site") == run.find("patient_rule") == []
    assert (run.epochs, run.best_epoch, run.cases) == (0, None, None)


def test_other_evaluations_and_drawn_cases_are_found(cohort):
    for name in ("b-2", "a-1"):
        place = cohort / "evaluations" / name
        place.mkdir(parents=True)
        (place / "metrics.json").write_text("{}")
    figures = cohort / "figures" / "cases"
    figures.mkdir(parents=True)
    (figures / "cases.json").write_text(json.dumps({"counts": {"hit": 3}, "cases": []}))
    run = read_run_files(cohort)
    assert list(run.evaluations) == ["a-1", "b-2"]
    assert run.cases == {"hit": 3}
    assert run.explained
