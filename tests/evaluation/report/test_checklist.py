import json
import shutil

import pandas as pd
import pytest

from medvision.evaluation.report.checklist import UNKNOWN, fill_checklists, read_forms, write_card
from medvision.evaluation.report.run_files import read_run_files
from medvision.evaluation.report.summary import Sentences


def read(run):
    """Return (list, item number) → answer."""
    lists = fill_checklists(Sentences(read_run_files(run)))
    return {(one.name, item.n): item.answer for one in lists for item in one.items}


def read_card(run):
    return {one.title: one.answers for one in write_card(Sentences(read_run_files(run)))}


def test_the_lists_are_whole_and_every_answer_is_known():
    claim, tripod = read_forms()["lists"]
    assert [item["n"] for item in claim["items"]] == [str(n) for n in range(1, 45)]
    numbers = [item["n"] for item in tripod["items"]]
    assert len(set(numbers)) == len(numbers) == 52
    assert {int(number.rstrip("abcdefg")) for number in numbers} == set(range(1, 28))
    items = [*claim["items"], *tripod["items"]]
    told = {name for item in items for name in item.get("answer", ())}
    assert told <= set(read_forms()["sentences"]) | {"limits"}
    assert all(item.get("answer") or item.get("fill") for item in items)


def test_every_item_is_answered_or_left_to_the_author(cohort):
    answers = read(cohort)
    assert len(answers) == 44 + 52
    assert all(answer.text or answer.fill for answer in answers.values())
    assert not answers["CLAIM 2024", "20"].fill
    assert "no patient and no image in two parts" in answers["CLAIM 2024", "20"].text
    assert answers["CLAIM 2024", "44"].text == ""
    assert answers["CLAIM 2024", "44"].fill == "funding and its role"
    assert not answers["TRIPOD+AI", "23a"].fill
    assert not answers["TRIPOD+AI", "23b"].fill
    assert "2 sites" in answers["TRIPOD+AI", "6a"].text


@pytest.mark.parametrize(
    ("file", "keys", "items"),
    [
        ("audit.json", ["remaining"], [("CLAIM 2024", "20"), ("TRIPOD+AI", "12a")]),
        ("audit.json", ["mode"], [("CLAIM 2024", "19"), ("TRIPOD+AI", "12a")]),
        ("audit.json", ["flow"], [("CLAIM 2024", "10"), ("CLAIM 2024", "12"),
                                  ("TRIPOD+AI", "21")]),
        ("record.json", ["versions"], [("CLAIM 2024", "23")]),
        ("record.json", ["model"], [("TRIPOD+AI", "12g")]),
        ("metrics.json", ["subgroups"], [("TRIPOD+AI", "12d"), ("TRIPOD+AI", "23a"),
                                         ("TRIPOD+AI", "23b")]),
        ("metrics.json", ["test"], [("CLAIM 2024", "32"), ("CLAIM 2024", "37"),
                                    ("CLAIM 2024", "38"), ("TRIPOD+AI", "23a")]),
        ("metrics.json", ["operating_point"], [("TRIPOD+AI", "12f"), ("TRIPOD+AI", "24")]),
    ],
)  # fmt: skip
def test_nothing_is_filled_whose_fact_is_not_in_the_folder(cohort, change, file, keys, items):
    assert all(not read(cohort)[item].fill for item in items)
    change(cohort / file, **dict.fromkeys(keys))
    answers = read(cohort)
    assert all(answers[item].fill == UNKNOWN for item in items)


def test_without_a_column_of_sites_nothing_is_said_of_them(cohort, change):
    table = pd.read_csv(cohort / "manifest.csv", dtype=str, keep_default_na=False)
    table.drop(columns=["site", "x_age_years", "x_sex"]).to_csv(
        cohort / "manifest.csv", index=False
    )
    change(cohort / "metrics.json", subgroups=None)
    answers = read(cohort)
    for item in [("TRIPOD+AI", "6a"), ("CLAIM 2024", "36"), ("TRIPOD+AI", "23b")]:
        assert answers[item].text == ""
        assert answers[item].fill
    assert "site" not in " ".join(answer.text for answer in answers.values()).replace("Sites", "")


def test_a_folder_of_scores_alone_knows_scores_alone(cohort):
    for name in ("record.json", "audit.json", "card.json", "manifest.csv"):
        (cohort / name).unlink()
    shutil.rmtree(cohort / "predictions")
    (cohort / "config.yaml").write_text("name: x\n")
    metrics = json.loads((cohort / "metrics.json").read_text())
    del metrics["subgroups"]
    (cohort / "metrics.json").write_text(json.dumps(metrics))
    whole = {key for key, answer in read(cohort).items() if not answer.fill}
    assert whole == {
        ("CLAIM 2024", "28"), ("CLAIM 2024", "29"), ("CLAIM 2024", "32"), ("CLAIM 2024", "37"),
        ("CLAIM 2024", "38"), ("TRIPOD+AI", "12e"), ("TRIPOD+AI", "12f"), ("TRIPOD+AI", "24"),
    }  # fmt: skip


def test_runs_without_scores_and_generators_have_no_lists(cohort, change, tmp_path):
    for name in ("record.json", "metrics.json"):
        change(cohort / name, task="generation")
    assert fill_checklists(Sentences(read_run_files(cohort))) == []
    assert fill_checklists(Sentences(read_run_files(tmp_path))) == []


def test_external_evaluations_are_named_with_their_score(cohort):
    assert read(cohort)["CLAIM 2024", "33"].fill == UNKNOWN
    place = cohort / "evaluations" / "other-12345678"
    place.mkdir(parents=True)
    score = {"test": {"auroc": {"value": 0.75, "low": 0.6, "high": 0.9}}}
    (place / "metrics.json").write_text(json.dumps(score))
    answer = read(cohort)["CLAIM 2024", "33"]
    assert "other-12345678, AUROC .750 (95 % CI .600–.900)" in answer.text
    assert not answer.fill


def test_the_card_says_what_the_run_knows_and_asks_for_the_rest(cohort):
    card = read_card(cohort)
    assert list(card) == [
        "Intended use", "Out of scope", "Data", "Model and training", "Decisions", "Performance",
        "Limits",
    ]  # fmt: skip
    assert card["Intended use"][0].text == ""
    assert card["Intended use"][0].fill
    assert card["Out of scope"][0].text.startswith("Research software, not a medical device.")
    said = " ".join(answer.text for answers in card.values() for answer in answers)
    for sentence in (
        "clinic (60 patients)", "positive is sick", "2 sites.", "ConvNet with widths 8, 16",
        "Operating point: probability .500", "On 40 test images of 20 patients: AUROC",
        "Calibration: Brier score .",
    ):  # fmt: skip
        assert sentence in said


def test_a_run_without_a_model_has_no_card(cohort, change):
    change(cohort / "record.json", model=None)
    assert read_card(cohort) == {}
