"""Grades: their order, their scores, and a training of them."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk

from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import HIT, open_evaluator
from medvision.losses.ordinal import cumulative_logits
from medvision.tasks.regression.ordinal.metrics import METRICS, decide, read_answer, score
from medvision.tasks.regression.ordinal.target import Grades

CARD = {"classes": ["none", "small", "large"], "facts": {}}
RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 4, 200)
ANSWER = RNG.normal(0, 2, (200, 3)).astype(np.float32)
GRADES = [*"abcd"]


def table(label=LABEL, answer=ANSWER):
    evaluator = open_evaluator("regression.ordinal", {"classes": GRADES})
    facts = pd.DataFrame({
        "index": range(len(label)), "dataset": "d",
        "patient": [f"p{k // 2}" for k in range(len(label))],
        "label": [GRADES[k] if k >= 0 else "" for k in label],
    })  # fmt: skip
    return evaluator, evaluator.tabulate({"logits": answer}, {"": facts})


def test_an_order_is_given_or_a_matter_of_size():
    rows = pd.DataFrame({"label": ["large", "", "none", "small"]})
    assert Grades.resolve(rows, CARD, classes=["none", "small", "large"]).names[1] == "small"
    with pytest.raises(
        MedvisionError, match=r"labels \(large, none, small\) do not tell it; say d"
    ):
        Grades.resolve(rows, CARD)
    sizes = Grades.resolve(pd.DataFrame({"label": ["10", "2", "-1", ""]}), CARD)
    assert sizes.names == ["-1", "2", "10"]
    assert sizes.encode(pd.DataFrame({"label": ["2", "", "10"]}))["label"].tolist() == [1, -1, 2]
    assert Grades.from_plain(sizes.plain()) == sizes
    renamed = Grades.resolve(rows, CARD, rename={"none": "0", "small": "1", "large": "2"})
    assert renamed.names == ["0", "1", "2"]
    with pytest.raises(MedvisionError, match=r"'big' \(1 rows\)"):
        Grades.resolve(pd.DataFrame({"label": ["big", "none"]}), CARD, classes=["none", "small"])
    with pytest.raises(MedvisionError, match=r"a row has one grade, and labels hold '\|'"):
        Grades.resolve(pd.DataFrame({"label": ["1|2", "3"]}), CARD)


def test_probabilities_are_those_the_loss_trained():
    above = cumulative_logits(torch.from_numpy(ANSWER).double()).sigmoid().numpy()
    probs = read_answer(ANSWER)
    np.testing.assert_allclose(1 - probs.cumsum(axis=1)[:, :-1], above, atol=1e-9)
    assert (probs > 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    np.testing.assert_array_equal(decide(probs), (above > 0.5).sum(axis=1))


def test_scores_are_those_of_scikit_learn():
    evaluator, tables = table()
    scored, once = evaluator.read(tables), np.ones((1, len(LABEL)))
    preds = decide(read_answer(ANSWER))
    found = {name: one.compute(scored, once)[0] for name, one in evaluator.metrics.items()}
    assert found == pytest.approx({
        "kappa": sk.cohen_kappa_score(LABEL, preds, weights="quadratic"),
        "within_one": (np.abs(LABEL - preds) <= 1).mean(),
        "accuracy": sk.accuracy_score(LABEL, preds),
        "mae": sk.mean_absolute_error(LABEL, preds),
    })  # fmt: skip
    counts = evaluator.extras(scored, {})["confusion"]
    np.testing.assert_array_equal(counts, sk.confusion_matrix(LABEL, preds))


@pytest.mark.parametrize(
    "label", [LABEL, np.where(LABEL == 2, -1, LABEL), np.zeros(200, int), np.full(200, -1)]
)
def test_in_training_scores_are_those_of_the_stored_predictions(label):
    probs = read_answer(ANSWER)
    in_training = score(torch.from_numpy(probs).float(), torch.from_numpy(label))
    evaluator, tables = table(label)
    scored = evaluator.read(tables)
    for name in METRICS:
        stored = evaluator.metrics[name].compute(scored, np.ones((1, len(scored))))[0]
        if in_training[name] is None:
            assert np.isnan(stored), name
            assert evaluator.metrics[name].needs(scored), name
        else:
            assert stored == pytest.approx(in_training[name], abs=1e-6), name


def test_a_diverged_net_has_no_score():
    nan = torch.full((4, 3), torch.nan)
    assert set(score(nan, torch.arange(4) % 3).values()) == {None}


def test_the_furthest_misses_come_first():
    answer = np.array([[9, -9, -9], [-9, 0, 0], [9, 9, 9], [-9, 0, 0]], np.float32)
    evaluator, tables = table(np.array([0, 3, 0, 0]), answer)
    assert tables[""]["pred"].tolist() == ["d", "a", "b", "a"]
    scored = evaluator.read(tables)
    cases = list(evaluator.cases(scored))
    assert [(case.row, case.kind) for case in cases] == [
        (1, "3 too low"), (0, "3 too high"), (2, "1 too high"), (3, HIT)
    ]  # fmt: skip
    assert cases[1].text.startswith("a, said d ")
    assert evaluator.kinds(scored)[3] == HIT


def test_grades_are_trained_told_and_predicted(tiny, places, medvision, tmp_path):
    words = ("model=ordinal", "model.net.widths=[8,16]", "model.net.stem_stride=1", "name=graded",
             "data.rename.healthy=none", "data.rename.lesion=some", "data.classes=[none,some,much]",
             "trainer.max_epochs=2")  # fmt: skip
    done = medvision(*tiny, *words)
    assert done.status == 0, done.err
    (run,) = (path for path in (places / "runs" / "graded").iterdir() if path.is_dir())
    record, metrics = (
        json.loads((run / f"{name}.json").read_text()) for name in ("record", "metrics")
    )
    assert (record["task"], record["monitor"]) == ("regression.ordinal", "val/kappa")
    assert record["objective"] == pytest.approx(metrics["val"]["kappa"]["value"], abs=1e-6)
    table = pd.read_csv(run / "predictions" / "test.csv", keep_default_na=False)
    probs = table[["prob_none", "prob_some", "prob_much"]]
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert np.shape(metrics["confusion"]["test"]) == (3, 3)
    page = (run / "report.html").read_text()
    assert "true some" in page
    assert "Grades, from the lowest: none, some, much." in page
    shown = re.sub(
        r"<[^>]+>", " ", re.sub(r"data:image[^\"]*", "", page.partition("checklists")[0])
    )
    assert re.findall(r"(?i)auroc|threshold|operating point|positive", shown + done.out) == []
    done = medvision("predict", f"run={run}", f"input={run}/predictions/test.csv",
                     f"output={tmp_path}/out.csv")  # fmt: skip
    assert done.status == 0, done.err
    found = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert found["pred"].tolist() == table["pred"].tolist()
    assert medvision("report", f"run={run}").status == 0
