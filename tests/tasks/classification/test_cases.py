import pandas as pd
import pytest

from medvision.evaluation.evaluator import HIT, open_evaluator
from medvision.tasks.classification.cases import choose_cases, choose_targets, name_kind


def table(label, pred, *probs, patients=None):
    names = "abc"[: len(probs)]
    whose = patients or [f"p{n}" for n in range(len(label))]
    return pd.DataFrame({"label": label, "pred": pred, "series": "", "dataset": "",
                         "patient": whose}
                        | {f"prob_{n}": p for n, p in zip(names, probs, strict=True)})  # fmt: skip


def choose(rows, misses, kind="binary", classes=("a", "b")):
    target = {"classes": classes, "kind": kind}
    evaluator = open_evaluator("classification", target, {"threshold": None})
    scored = evaluator.read({"": rows})
    targets, sureness = choose_targets(scored, classes), evaluator.confidence(scored)
    kinds = evaluator.kinds(scored)
    chosen = list(choose_cases(scored, kinds, targets, sureness, classes, misses))
    places = scored.table.index.to_numpy()
    return [(int(places[case.row]), case) for case in chosen]


SURE = [0.9, 0.8, 0.7, 0.6, 0.95, 0.55, 0.99, 0.97]
LABEL, PRED = list("aaaabbab"), list("aaaabbba")
PROB_A = [p if said == "a" else 1 - p for p, said in zip(SURE, PRED, strict=True)]


def test_the_surest_misses_come_first_and_then_hits_of_each_class_in_turn():
    cases = choose(table(LABEL, PRED, PROB_A, [1 - p for p in PROB_A]), 2)
    assert [row for row, _ in cases] == [6, 7, 4, 0, 1, 5]
    assert [case.target for _, case in cases] == [1, 0, 1, 0, 0, 1]
    assert [case.kind for _, case in cases[:3]] == ["false positive", "false negative", "hit"]
    assert cases[0][1].text == "a, said b .990"
    assert cases[2][1].text == "b .950"


def test_misses_of_each_kind_come_in_turn_and_unlabelled_samples_are_left_out():
    prob_b = [0.9, 0.8, 0.7, 0.6, 0.1]
    rows = table([*list("aaab"), ""], list("bbbaa"), [1 - p for p in prob_b], prob_b)
    rows.loc[3, ["prob_a", "prob_b"]] = 0.6, 0.4
    assert [row for row, _ in choose(rows, 3)] == [0, 3, 1]
    assert choose(rows[:0], 3) == []


def test_a_patient_is_shown_once_of_a_kind():
    rows = table(list("aaab"), list("bbbb"), [0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.7, 0.6],
                 patients=["x", "x", "y", "x"])  # fmt: skip
    assert [row for row, _ in choose(rows, 9)] == [0, 2, 3]


def test_several_labels_are_judged_together_and_explained_by_the_likeliest():
    rows = table(["a|b", "-", "c"], ["a|b", "", ""], [0.9, 0.1, 0.2], [0.8, 0.3, 0.1],
                 [0.2, 0.2, 0.4])  # fmt: skip
    cases = choose(rows, 4, "multilabel", list("abc"))
    assert [(row, case.target) for row, case in cases] == [(2, 2), (0, 0), (1, 1)]
    assert cases[0][1].text == "c, said none .400"
    assert cases[2][1].text == "none .300"


def test_a_hyphen_in_a_name_is_no_missing_label():
    rows = pd.DataFrame({"label": ["COVID-19", "-"], "pred": ["COVID-19", ""], "series": "",
                         "dataset": "", "patient": ["p", "q"],
                         "prob_COVID-19": [0.9, 0.2], "prob_b": [0.1, 0.3]})  # fmt: skip
    cases = choose(rows, 4, "multilabel", ["COVID-19", "b"])
    assert [case.text for _, case in cases] == ["COVID-19 .900", "none .300"]


@pytest.mark.parametrize(
    ("label", "pred", "question", "kind"),
    [
        ("a", "b", "binary", "false positive"),
        ("b", "a", "binary", "false negative"),
        ("a", "a", "binary", HIT),
        ("", "a", "binary", ""),
        ("a", "c", "multiclass", "a → c"),
        ("a", "a|b", "multilabel", "too much"),
        ("a|b", "", "multilabel", "too little"),
        ("a", "b", "multilabel", "something else"),
        ("-", "", "multilabel", HIT),
        ("-", "a", "multilabel", "too much"),
    ],
)
def test_kinds_of_misses(label, pred, question, kind):
    assert name_kind(label, pred, ["a", "b"], question) == kind
