"""What a reader sees of a comparison: the figure's points, the table's cells, the sentences."""

from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from medvision.evaluation.comparison import text as texts
from medvision.evaluation.comparison.figures import draw_differences
from medvision.evaluation.comparison.text import Difference, list_notes, show_difference, show_p
from medvision.evaluation.evaluator import open_evaluator
from medvision.evaluation.figures.style import PALETTE

EVALUATOR = open_evaluator("classification", {"classes": ["no", "yes"], "kind": "binary"})
SCORES = ("auroc", "accuracy", "balanced_accuracy", "recall", "specificity", "brier")


def score(value, reach=0.02):
    return {"value": value, "low": value - reach, "high": value + reach}


def make_pair(first, second, difference, p, **more):
    tests = {"score": {"test": "DeLong", "p": p, "p_holm": p},
             "decisions": {"test": "exact McNemar", "p": 0.5, "p_holm": 0.5}}  # fmt: skip
    scores = dict.fromkeys(SCORES, score(difference)) | {"brier": score(-difference)}
    return {"first": first, "second": second, "scores": scores, "tests": tests, "seeds": None,
            "undefined": 0.0, "smallest_difference": 0.06} | more  # fmt: skip


def make(*pairs, **more):
    values = {"A": 0.87, "B": 0.88, "C": 0.95, "D": 0.9}
    arms = [{"name": n, "runs": [f"runs/{n}"], "scores": dict.fromkeys(SCORES, score(v))}
            for n, v in values.items()]  # fmt: skip
    return {
        "part": "test", "metric": "auroc", "resamples": 2000, "stamps": [], "arms": arms,
        "n": {"images": 90, "patients": 45}, "trainings": 1, "folds": 0, "pairs": list(pairs),
    } | more  # fmt: skip


ALIKE, APART = make_pair("A", "B", 0.01, 0.41), make_pair("A", "C", 0.08, 0.0004)


def test_the_plot_holds_each_value_and_interval_and_colours_what_lies_apart():
    rows = [Difference("AUROC", "B − A", 0.01, -0.01, 0.03),
            Difference("accuracy", "B − A", 0.05, 0.02, 0.08)]  # fmt: skip
    axes = draw_differences(rows).axes[0]
    intervals = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_ydata()[0]
                 == line.get_ydata()[1]]  # fmt: skip
    assert [tuple(line.get_xdata()) for line in intervals] == [(-0.01, 0.03), (0.02, 0.08)]
    assert [line.get_color() == PALETTE[0] for line in intervals] == [False, True]
    points = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
    assert points == [0.01, 0.05]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["AUROC", "accuracy"]
    assert axes.get_xlabel() == "B − A"
    assert "+.010 (-.010, +.030)" in [text.get_text() for text in axes.texts]


def test_several_pairs_are_grouped_by_score():
    rows = texts.list_differences(make(ALIKE, APART), EVALUATOR)
    assert [row.score for row in rows[:3]] == ["AUROC", "AUROC", "accuracy"]
    assert rows[-1].score == "Brier score (low is good)"
    axes = draw_differences(rows).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()][:2] == ["B − A", "C − A"]
    assert {"AUROC", "specificity"} <= {text.get_text() for text in axes.texts}
    assert len(set(axes.get_yticks())) == len(rows) == 12


def test_an_undefined_score_has_no_line_and_a_missing_interval_a_point():
    pair = make_pair("A", "B", 0.01, 0.4)
    pair["scores"] |= {"recall": dict.fromkeys(("value", "low", "high")),
                       "specificity": {"value": 0.1, "low": None, "high": None}}  # fmt: skip
    rows = texts.list_differences(make(pair), EVALUATOR)
    assert "recall (sens.)" not in [row.score for row in rows]
    figure = draw_differences(rows)
    assert "+.100 (–)" in [text.get_text() for text in figure.axes[0].texts]


def test_many_pairs_show_what_is_tested():
    pairs = [make_pair("A", "B", 0.01 * n, 0.4) for n in range(1, 6)]
    rows = texts.list_differences(make(*pairs), EVALUATOR)
    assert {row.score for row in rows} == {"AUROC", "accuracy"}
    assert len(texts.comparison_table(make(*pairs), EVALUATOR).rows) == 10
    assert texts.write_page(make(*pairs), EVALUATOR).count("balanced accuracy") == 5


def test_the_table_of_a_pair_names_the_tests_and_needs_no_holm():
    grid = texts.comparison_table(make(ALIKE), EVALUATOR)
    assert grid.head == ["score", "A", "B", "second − first", "p", "test"]
    assert grid.rows[0] == ["AUROC", ".870 (.850–.890)", ".880 (.860–.900)",
                            "+.010 (-.010, +.030)", ".410", "DeLong"]  # fmt: skip
    assert grid.rows[1][-2:] == [".500", "exact McNemar"]
    assert grid.rows[2][-2:] == ["", ""]
    assert "Holm" in texts.comparison_table(make(ALIKE, APART), EVALUATOR).head


def test_not_significant_is_never_called_equal():
    (first, *_) = texts.list_conclusions(make(ALIKE), EVALUATOR)
    assert first == (
        "A and B cannot be told apart on 45 patients: AUROC .870 and .880; B − A is "
        "+.010 (-.010, +.030), p = .410 (DeLong); this n could show a difference of .060."
    )
    text = texts.write_page(make(ALIKE), EVALUATOR)
    assert "not significant does not mean equal" in text
    assert not any(word in text for word in ("are equal", "no difference", "the same performance"))


def test_what_lies_apart_names_the_better_arm():
    (first, *_) = texts.list_conclusions(make(APART), EVALUATOR)
    assert first == ("C is better than A on these 45 patients: AUROC .950 against .870; C − A is "
                     "+.080 (+.060, +.100), p < .001 (DeLong).")  # fmt: skip
    brier = make(make_pair("A", "C", 0.08, 0.01), metric="brier")
    (low, *_) = texts.list_conclusions(brier, EVALUATOR)
    assert low.startswith("C is better than A")
    (worse, *_) = texts.list_conclusions(make(make_pair("C", "A", -0.08, 0.01)), EVALUATOR)
    assert worse.startswith("C is better than A on these 45 patients: AUROC .950 against .870; A −")


def test_trainings_and_their_luck_are_told():
    folds = {"test": "corrected resampled t", "folds": 5, "p": 0.2, "p_holm": 0.2, **score(0.03)}
    pair = make_pair("A", "B", 0.01, 0.4)
    pair["tests"]["folds"] = folds
    told = texts.list_conclusions(make(pair), EVALUATOR)
    assert any(sentence.startswith("Over 5 folds, B − A is +.030") for sentence in told)
    assert texts.comparison_table(make(pair), EVALUATOR).rows[-1][0] == "AUROC, mean of 5 folds"
    seeds = {"differences": [0.01, 0.03], "mean": 0.02, "sd": 0.014}
    pair = make_pair("A", "B", 0.01, 0.4, seeds=seeds)
    sentences = list(texts.list_conclusions(make(pair, trainings=2), EVALUATOR))
    assert "Over 2 seeds, B − A is +.020 ± .014 (mean ± SD): this spread is the luck of training " \
           "alone, not of patients." in sentences  # fmt: skip
    assert not any("One training each" in sentence for sentence in sentences)
    alike = texts.list_conclusions(make(ALIKE), EVALUATOR)
    assert any("One training each" in sentence for sentence in alike)


def test_undefined_is_said():
    pair = make_pair("A", "B", 0.01, None)
    assert "p is undefined" in next(texts.list_conclusions(make(pair), EVALUATOR))
    pair["scores"]["auroc"] = dict.fromkeys(("value", "low", "high"))
    first = next(texts.list_conclusions(make(pair), EVALUATOR))
    assert first.endswith("AUROC is undefined on these rows.")


def test_no_conclusion_rests_on_one_patient():
    pair = make_pair("A", "C", 0.08, 0.0004, undefined=0.37)
    first = next(texts.list_conclusions(make(pair), EVALUATOR))
    assert first.startswith("C and A cannot be compared: AUROC is undefined in 37% of the resample")
    assert "better" not in first


def test_what_another_score_says_clearly_is_said_beside_the_tested_one():
    pair = make_pair("A", "C", 0.01, 0.4)
    pair["scores"] = pair["scores"] | {"brier": score(0.05), "recall": score(0.06)}
    told = list(texts.list_conclusions(make(pair), EVALUATOR))
    assert told[1] == (
        "Also of C (intervals, not adjusted): sensitivity of yes is better, +.060 (+.040, +.080); "
        "Brier score is worse, +.050 (+.030, +.070)."
    )
    assert not any("Also" in line for line in texts.list_conclusions(make(ALIKE), EVALUATOR))


def test_stamps_stand_first_among_the_notes():
    assert next(list_notes(make(ALIKE, stamps=["optimistic"]))) == "optimistic"


def test_a_log_keeps_its_sentences_whole():
    console = Console(width=60, record=True, file=StringIO())
    texts.print_comparison(make(ALIKE, APART), EVALUATOR, console)
    assert any(line.endswith("a difference of .060.") for line in console.export_text().split("\n"))


@pytest.mark.parametrize(("value", "text"), [
    (score(0.0, 0.01), ".000 (-.010, +.010)"),
    ({"value": -0.5, "low": None, "high": None}, "-.500 (–)"),
    (dict.fromkeys(("value", "low", "high")), "–"),
])  # fmt: skip
def test_differences_carry_their_sign(value, text):
    assert show_difference(value) == text


def test_p_is_never_0():
    assert [show_p(p) for p in (None, 0.0, 0.0009, 0.001, 1.0)] == [
        "–", "<.001", "<.001", ".001", "1.000",
    ]  # fmt: skip
    assert np.all([show_p(p) != "0.000" for p in np.logspace(-9, 0, 50)])
