from medvision.evaluation.model_card import STATUS, write_card
from medvision.evaluation.report.run_files import read_run_files
from medvision.evaluation.report.summary import find_limits


def read(run):
    return {section.title: section.answers for section in write_card(read_run_files(run))}


def test_the_card_says_what_the_run_knows_and_asks_for_the_rest(cohort):
    card = read(cohort)
    assert list(card) == [
        "Intended use", "Out of scope", "Data", "Model and training", "Decisions", "Performance",
        "Limits",
    ]  # fmt: skip
    assert card["Intended use"][0].text == ""
    assert card["Intended use"][0].fill
    assert card["Out of scope"][0].text == STATUS
    said = " ".join(answer.text for answers in card.values() for answer in answers)
    for sentence in (
        "clinic (60 patients)", "positive is sick", "2 sites.", "ConvNet with widths 8, 16",
        "Operating point: probability .500", "On 40 test images of 20 patients: AUROC",
        "Calibration: Brier score .",
    ):  # fmt: skip
        assert sentence in said


def test_limits_are_those_that_the_files_show(cohort, change):
    limits = list(find_limits(read_run_files(cohort)))
    for sentence in (
        "Only 20 patients in test: the intervals are wide.",
        "The threshold was chosen on 20 val patients, few for a threshold.",
        "Not evaluated on data from elsewhere.",
        "2 pairs of images of different patients are near copies, 1 of them across given parts.",
        "Only 2 patients of 'sick' in val.",
        "No site of test is new to the model: it was trained on images of each.",
    ):
        assert sentence in limits
    assert not any("simulated" in one or "generated" in one for one in limits)
    change(cohort / "card.json", key=None, patient_rule="each image is its own patient (…)")
    change(cohort / "audit.json", generated=[{"images": 70}])
    change(cohort / "record.json", test_openings=[{}, {}])
    more = list(find_limits(read_run_files(cohort)))
    assert "70 generated images joined the training part." in more
    assert "The test part was opened 2 times: only the first look is untouched." in more
    assert any(one.startswith("Each image counts as a patient") for one in more)
    assert "Patients are given as they stand in the manifest, not hashed." in more


def test_a_run_without_a_model_has_no_card(cohort, change):
    change(cohort / "record.json", model=None)
    assert write_card(read_run_files(cohort)) == []
