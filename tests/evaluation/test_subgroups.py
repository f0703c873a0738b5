import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from medvision.evaluation import subgroups
from medvision.evaluation.covariates import NEEDED
from medvision.evaluation.evaluator import open_evaluator
from medvision.evaluation.subgroups import NOTHING, TOO_FEW, subgroup_table


def score_subgroups(part, said, rows, classes, kind, threshold, **options):
    target, decision = {"classes": classes, "kind": kind}, {"threshold": threshold}
    evaluator = open_evaluator("classification", target, decision)
    scored = evaluator.read({"": said})
    return subgroups.score_subgroups(part, scored, evaluator, rows, **options)


def make(n=200, K=2, seed=0):
    """Return rows of a manifest, two a patient, and predictions of the second half, `test`."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame("", range(n), list(NEEDED))
    rows["patient"] = [f"p{k // 2}" for k in range(n)]
    rows["split"], rows["origin"] = ["train"] * (n // 2) + ["test"] * (n // 2), "real"
    test = np.arange(n // 2, n)
    truth = rng.integers(0, K, len(test))
    logits = rng.normal(size=(len(test), K)) + 1.2 * np.eye(K)[truth]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = "abc"[:K]
    said = pd.DataFrame({"index": test, "dataset": "", "patient": rows["patient"][test]})
    said["label"] = [names[k] for k in truth]
    for k, name in enumerate(names):
        said[f"prob_{name}"] = probs[:, k]
    return rows, said.reset_index(drop=True)


def test_a_group_is_scored_as_it_would_be_alone():
    rows, said = make()
    rows["site"] = ["A", "A", "B", "B"] * 50
    found = score_subgroups("test", said, rows, ["a", "b"], "binary", 0.6)
    assert found["part"] == "test"
    assert set(found["by"]) == {"site"}
    for site, scores in found["by"]["site"].items():
        own = said[(rows.loc[said["index"], "site"] == site).to_numpy()]
        truth = own["label"] == "b"
        assert scores["n"]["images"] == len(own) == 50
        assert scores["n"]["patients"] == 25
        assert scores["n"]["per_class"]["b"] == truth.sum()
        assert scores["auroc"]["value"] == pytest.approx(roc_auc_score(truth, own["prob_b"]))
        hit = (own["prob_b"] >= 0.6) & truth
        assert scores["recall"]["value"] == pytest.approx(hit.sum() / truth.sum())
        assert scores["auroc"]["low"] < scores["auroc"]["value"] < scores["auroc"]["high"]
        assert "why" not in scores


def test_numbers_are_cut_at_the_median_of_train_alone():
    rows, said = make()
    rows["x_age"] = [str(k) for k in [*range(100), *range(30, 130)]]
    found = score_subgroups("test", said, rows, ["a", "b"], "binary", 0.5)
    groups = found["by"]["x_age"]
    assert list(groups) == ["≤ 49.5", "> 49.5"]
    assert [one["n"]["images"] for one in groups.values()] == [20, 80]


def test_where_most_have_the_largest_number_it_is_a_group():
    rows, said = make()
    rows["x_depth"] = [str(k) for k in [-5, -4, -3, -2, -1, 0, 0, 0, 0, 0, 0, 0, 0] * 15 + [0] * 5]
    found = score_subgroups("test", said, rows, ["a", "b"], "binary", 0.5)
    assert list(found["by"]["x_depth"]) == ["< 0", "≥ 0"]


def test_undefined_scores_say_why_and_small_groups_are_not_scored():
    rows, said = make()
    rows["x_kind"] = "most"
    rows.loc[said["index"][:4], "x_kind"] = "few"  # two patients
    said["label"] = np.where(rows.loc[said["index"], "patient"].isin(["p55", "p56"]), "a",
                             said["label"])  # fmt: skip
    rows["x_tells"] = ["no"] * 100 + [{"a": "no", "b": "yes"}[label] for label in said["label"]]
    by = score_subgroups("test", said, rows, ["a", "b"], "binary", 0.5)["by"]
    few = by["x_kind"]["few"]
    assert few["n"]["patients"] == 2
    assert few["auroc"] == few["recall"] == NOTHING
    assert set(few["why"].values()) == {TOO_FEW}
    yes = by["x_tells"]["yes"]
    assert yes["auroc"] == NOTHING
    assert "two classes" in yes["why"]["auroc"]
    assert yes["recall"]["value"] is not None
    assert "negative class" in yes["why"]["specificity"]
    evaluator = open_evaluator("classification")
    table = subgroup_table({"subgroups": {"part": "test", "by": by}}, evaluator)
    cells = {(title, row[0]): row[1:] for title, rows in table.blocks for row in rows}
    assert cells["kind", "few"][:3] == [2, 4, few["n"]["per_class"]["b"]]
    letter = cells["kind", "few"][3].removeprefix("\N{EN DASH} ")
    assert f"{letter}: {TOO_FEW}." in table.notes
    assert table.head[3] == "n b"


def test_missing_values_are_a_group_and_rare_levels_are_put_together():
    rows, said = make(400)
    rows["site"] = [f"s{k // 2 % 11}" for k in range(400)]
    rows.loc[rows["site"] == "s3", "site"] = ""
    groups = score_subgroups("test", said, rows, ["a", "b"], "binary", 0.5)["by"]["site"]
    assert sum(one["n"]["images"] for one in groups.values()) == 200
    assert {"other", "not recorded"} < set(groups)
    assert len(groups) == 10


@pytest.mark.parametrize(("K", "kind"), [(3, "multiclass"), (3, "multilabel")])
def test_several_classes_are_scored_by_their_means(K, kind):
    rows, said = make(K=K)
    rows["site"] = ["A", "A", "B", "B"] * 50
    threshold = [0.5] * 3 if kind == "multilabel" else None
    one = score_subgroups("test", said, rows, list("abc"), kind, threshold)["by"]["site"]["A"]
    expected = {
        "multiclass": {"auroc", "accuracy"},
        "multilabel": {"auroc", "recall", "specificity"},
    }
    assert set(one) - {"n", "why"} == expected[kind]
    assert one["auroc"]["value"] is not None


def test_series_take_what_their_rows_say():
    rows, said = make()
    rows["series"] = rows["patient"]
    rows["site"] = ["A", "A", "B", "B"] * 50
    rows["x_z"] = [str(k % 97) for k in range(200)]  # differs within a series: its mean
    first = said.iloc[::2].reset_index(drop=True)
    by = score_subgroups("test", first, rows, ["a", "b"], "binary", 0.5, unit="series")["by"]
    assert by["site"]["A"]["n"]["series"] == 25
    assert sum(one["n"]["series"] for one in by["x_z"].values()) == 50


def test_one_site_no_manifest_and_unlabelled_rows_have_no_subgroups():
    rows, said = make()
    args = (["a", "b"], "binary", 0.5)
    assert score_subgroups("test", said, rows.assign(site="A"), *args) == {}
    assert score_subgroups("test", said, rows.iloc[:0], *args) == {}
    rows["site"] = ["A", "A", "B", "B"] * 50
    assert score_subgroups("test", said.assign(label=""), rows, *args) == {}
    assert subgroup_table({}, open_evaluator("classification")) is None
