import io

import pytest
from rich.console import Console

from medvision.tasks.generation.tables import list_tables, phrase_gate, print_fidelity

SCORES = {"coverage": 0.6, "density": 0.9, "precision": 0.8, "recall": 0.7, "diversity": 1.1}
METRICS = {
    "fidelity": {
        "coverage": {"relative": 0.65, "class": "sick", "space": "untrained"},
        "label_agreement": {"relative": 0.9, "class": "well"},
        "copying": {"copied": 0.02, "rate": 0.5, "null": 0.48, "space": "classifier"},
        "critic": {"auc": 0.62, "overfit_ratio": None}, "near_duplicates": 0.01,
        "spaces": {"untrained": {"classes": {"sick": SCORES | {"fd": 0.4, "kid": 0.1}}}},
    },
    "floor": {
        "asked": {"coverage": 0.5, "agreement": 0.75, "copied": 0.2},
        "spaces": {"untrained": {"classes": {"sick": SCORES | {"coverage": 0.92}}}},
        "ladder": {
            "blur": {"coverage": {"untrained": 0.7}, "agreement": None, "copied": 0.0,
                     "flagged": []},
            "noise": {"coverage": {"untrained": 0.1}, "agreement": 0.5, "copied": 0.0,
                      "flagged": ["coverage", "agreement"]},
        },
        "blind": ["the gate is blind to blur"],
    },
    "gate": {"passed": True, "score": 0.65, "spaces": ["untrained"], "reasons": ["one space"]},
    "n": {"train": {"images": 80, "patients": 40}, "generated": {"images": 500}},
}  # fmt: skip


def read(metrics):
    return dict(list_tables(metrics))


def test_verdict_is_one_sentence():
    assert phrase_gate(METRICS) == "Gate passed (score .650, seen by untrained): one space."
    failed = METRICS | {"gate": METRICS["gate"] | {"passed": False, "reasons": []}}
    assert phrase_gate(failed) == "Gate failed (score .650, seen by untrained)."
    assert phrase_gate({"test": {}}) == ""


def test_tables_say_found_asked_and_real():
    tables = read(METRICS)
    gate = tables["What the gate asks"]
    assert gate.rows[0] == ["coverage, share of real", ".650", "≥ .500", "sick, untrained"]
    assert gate.rows[2] == ["copies of training images", ".020", "≤ .200", "classifier"]
    assert "of unseen real images .480" in gate.notes[0]
    assert "AUROC .620" in gate.notes[0]
    assert "overfit ratio" not in gate.notes[0]
    generated, real = tables["Generated beside real images"].rows
    assert generated[:2] == ["sick, untrained, generated", ".600"]
    assert (real[1], real[-1]) == (".920", "–")
    ladder = tables["What the gate can see: real images, spoilt"]
    assert ladder.rows[0] == ["blur", ".700", "–", ".000", "not noticed"]
    assert ladder.rows[1][-1] == "coverage, agreement"
    assert ladder.notes[0] == "The gate is blind to blur."


def test_without_a_classifier_agreement_is_a_dash():
    blind = METRICS | {"fidelity": METRICS["fidelity"] | {"label_agreement": None}}
    assert read(blind)["What the gate asks"].rows[1][1] == "–"


@pytest.mark.parametrize("metrics", [{}, {"test": {"auroc": {"value": 1.0}}}])
def test_of_a_classifier_there_are_none(metrics):
    assert read(metrics) == {}


def test_printed_table_ends_with_the_verdict():
    out = io.StringIO()
    print_fidelity(METRICS, Console(file=out, width=200))
    assert (
        out.getvalue().strip().endswith("Gate passed (score .650, seen by untrained): one space.")
    )
