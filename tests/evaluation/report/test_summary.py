import re

import pytest

from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import open_evaluator
from medvision.evaluation.report.page import read_sentences
from medvision.evaluation.report.run_files import read_run_files
from medvision.evaluation.report.summary import Sentences

FORMS = ("checklist", "summary", "classification", "generation")  # of all runs, of a task


WORDS = {
    "category": "Deep learning: ConvNet, binary classification.",
    "disjoint": "By patient, and by image: copies of an image count as one patient. Measured again "
    "in the result: no patient and no image in two parts.",
    "exclusions": "By the program: 3 other files beside them; left out: 1 image, all of 1 patient, "
    "unreadable or broken.",
    "guards": "`medvision predict` refuses unreadable images and those unlike the training images "
    "in modality, colour, size, spacing or values, unless told otherwise.",
    "imbalance": "Class weights in the loss (balanced). Logits are then divided by a temperature "
    "fitted on val.",
    "missing": "Unreadable images: exclude; not annotated, and left out of training and scores: "
    "1. Nothing was imputed.",
    "model": "ConvNet with widths 8, 16. 32 × 32 pixels. Layer by layer in the code (digest c0de).",
    "output": "Probabilities, cut at probability .500: youden on val, then frozen.",
    "partitions": "Parts are made at random by patient, alike in what is annotated, split seed 0: "
    "train 20 patients, val 20 patients, test 20 patients.",
    "preprocessing": "Images are read with size 32, 32, fit pad, center 1.0. Training images are "
    "changed at random: gamma 0.1.",
    "sources": "clinic (60 patients), read by source=folder.",
    "training": "AdamW with lr 0.01, batches of 8, 3 epochs, 9 s on a CPU.",
}


def said(run, name):
    return Sentences(read_run_files(run)).lines(name)


def templates_of(form):
    if form in FORMS[:2]:
        return read_sentences(f"{form}.toml")
    return open_evaluator(form).sentences()


def test_a_task_writes_sentences_that_are_asked_for():
    shared = templates_of("checklist") | templates_of("summary")
    for task in ("classification", "generation"):
        told = shared | templates_of(task)
        asked = {name for text in told.values() for name in re.findall(r'include "(\w+)"', text)}
        assert asked <= set(told)
        assert set(templates_of(task)) <= set(shared) | asked


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "generator", None])
def test_every_sentence_can_be_written_of_a_whole_run_and_of_an_empty_folder(
    cohort, change, tmp_path, kind
):
    change(cohort / "record.json", kind=kind)
    if kind == "generator":
        change(cohort / "metrics.json", task="generation")
    for run in (cohort, tmp_path / "nothing"):
        told = Sentences(read_run_files(run))
        for name in {name for form in FORMS for name in templates_of(form)} - {"best", "threshold"}:
            if name in told.templates.list_templates():
                assert all("None" not in line for line in told.lines(name))


@pytest.mark.parametrize("name", WORDS)
def test_a_sentence_is_written_word_for_word(cohort, name):
    assert said(cohort, name) == [WORDS[name]]


def test_limits_are_those_that_the_files_show(cohort, change):
    limits = said(cohort, "limits")
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
    more = said(cohort, "limits")
    assert "70 generated images joined the training part." in more
    assert "The test part was opened 2 times: only the first look is untouched." in more
    assert any(one.startswith("Each image counts as a patient") for one in more)
    assert "Patients are given as they stand in the manifest, not hashed." in more


def test_a_file_that_holds_something_else_names_the_sentence(cohort, change):
    change(cohort / "audit.json", dropped={"copies_rows": 3}, overlaps=["patients"])
    with pytest.raises(MedvisionError, match="the sentence 'data' of the report"):
        said(cohort, "data")


def test_a_text_of_the_user_is_one_line_and_no_template(cohort, change):
    change(cohort / "audit.json", notes=["first\n{{ run.folder }}"], mode=None)
    change(cohort / "record.json", patient_rule="a\nb")
    assert said(cohort, "data")[0] == "Patients: a b"
    assert said(cohort, "data")[-1] == "first {{ run.folder }}"


def test_a_generator_says_whether_its_images_may_be_used(tmp_path, cohort, change):
    gate = {"passed": False, "score": 0.2, "spaces": ["untrained"], "reasons": ["few modes"]}
    change(cohort / "metrics.json", task="generation", gate=gate, test=None)
    change(cohort / "record.json", kind="generator")
    assert said(cohort, "verdict") == ["Gate failed (score .200, seen by untrained): few modes."]
    assert not any("threshold" in line or "Operating" in line for line in said(cohort, "choices"))
    assert not any("Scored only on val" in line for line in said(cohort, "limits"))
