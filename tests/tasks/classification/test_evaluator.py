"""`metrics.json` from stored predictions: its shape, its truth, and what it refuses."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from medvision.errors import MedvisionError
from medvision.evaluation import predictions
from medvision.evaluation.covariates import NEEDED
from medvision.evaluation.evaluator import open_evaluator
from medvision.evaluation.predictions import write_predictions
from medvision.evaluation.scoring import prepare_parts, score_parts
from medvision.tasks.classification.calibration import choose_thresholds
from medvision.tasks.classification.evaluator import decide_labels, encode_labels
from medvision.tasks.classification.metrics import METRICS

CLASSES = {
    "binary": ["normal", "lesion"],
    "multiclass": ["a", "b", "c"],
    "multilabel": ["mass", "fluid", "none"],
}


def build_metrics(parts, classes, kind, temperature, rule, threshold=None, **options):
    """The content of `metrics.json` of a run whose manifest tells no subgroups."""
    decision = {"temperature": temperature, "rule": rule, "threshold": threshold}
    target = {"classes": classes, "kind": kind}
    evaluator = open_evaluator("classification", target, decision)
    scored = prepare_parts({part: {"": table} for part, table in parts.items()}, evaluator)
    return score_parts(scored, evaluator, pd.DataFrame(columns=list(NEEDED)), **options)


def read_predictions(path):
    return predictions.read_predictions(path, open_evaluator("classification").tables[""])


def evaluate_part(table, classes, kind, threshold=None, **options):
    """The block of one part alone."""
    found = build_metrics({"test": table}, classes, kind, 1.0, "youden", threshold, **options)
    return found["test"]


def predict(kind, seed=0, n=120, threshold=None):
    """A table of predictions in single precision, three images a patient, from two data sets."""
    rng, classes = np.random.default_rng(seed), CLASSES[kind]
    if kind == "multilabel":
        truth = rng.integers(2, size=(n, 3))
        truth[truth.sum(1) == 0, 2] = 1
        label = ["|".join(np.array(classes)[row == 1]) for row in truth]
    else:
        truth = np.eye(len(classes), dtype=int)[rng.integers(len(classes), size=n)]
        label = [classes[k] for k in truth.argmax(1)]
    logits = (rng.normal(size=truth.shape) + 1.5 * truth).astype(np.float32)
    probs = 1 / (1 + np.exp(-logits)) if kind == "multilabel" else softmax(logits, axis=1)
    table = pd.DataFrame(
        {
            "index": np.arange(n) + 7,
            "dataset": np.where(np.arange(n) < n // 2, "one", "two"),
            "path": [f"images/{i}.png" for i in range(n)],
            "frame": 0,
            "patient": [f"{i // 3 % 20:03d}" for i in range(n)],
            "series": "",
            "label": label,
        }
    )
    for prefix, values in (("logit", logits), ("prob", probs)):
        for k, name in enumerate(classes):
            table[f"{prefix}_{name}"] = values[:, k]
    table["pred"] = decide_labels(probs, classes, kind, threshold)
    return table


def build(kind="binary", threshold=None, parts=None, **options):
    parts = {"val": predict(kind, 1), "test": predict(kind, 2)} if parts is None else parts
    return build_metrics(
        parts, CLASSES[kind], kind, 1.5, "youden", threshold, **{"resamples": 50, **options}
    )


def test_predictive_values_follow_from_the_decisions():
    found = build(threshold=0.4)
    (tn, _), (fn, tp) = found["confusion"]["test"]
    values = found["predictive_values"]["test"]
    assert values["prevalence"] == (tp + fn) / 120
    assert values["ppv"] == found["test"]["precision"]
    assert values["npv"]["value"] == pytest.approx(tn / (tn + fn))
    assert 0 < values["npv"]["low"] < values["npv"]["value"] < values["npv"]["high"] < 1
    nobody = build(threshold=0.0)["predictive_values"]["test"]["npv"]
    assert nobody == {"value": None, "low": None, "high": None}  # all are decided positive


def test_the_file_has_the_parts_the_design_names():
    found = build(threshold=0.4)
    assert list(found) == [
        *("task", "test", "test_argmax", "val", "operating_point", "temperature"),
        *("n", "confusion", "predictive_values", "per_class"),
    ]
    assert set(found["test"]) == set(METRICS)
    assert set(found["val"]) == {*METRICS, "fitted_on"}
    assert found["val"]["fitted_on"] == "val"
    assert set(found["test"]["auroc"]) == {"value", "low", "high"}
    assert found["operating_point"] == {"rule": "youden", "threshold": 0.4}
    assert found["temperature"] == 1.5
    assert set(found["per_class"]) == {"test"}
    table = predict("binary", 2)
    counts = table["label"].value_counts()
    people = table.groupby("label")[["dataset", "patient"]].apply(
        lambda own: len(own.value_counts())
    )
    assert found["n"]["test"] == {
        "images": 120,
        "patients": 40,  # twenty ids in each of two data sets
        "per_class": {"normal": counts["normal"], "lesion": counts["lesion"]},
        "patients_per_class": {"normal": people["normal"], "lesion": people["lesion"]},
    }


@pytest.mark.parametrize("kind", list(CLASSES))
def test_the_file_is_strict_json_and_deterministic(kind):
    found = build(kind, [0.3, 0.4, 0.5] if kind == "multilabel" else None)
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    again = build(kind, [0.3, 0.4, 0.5] if kind == "multilabel" else None)
    assert json.dumps(again) == text


def test_scores_agree_with_scikit_learn_on_the_stored_table(tmp_path):
    val, test = predict("binary", 1), predict("binary", 2, threshold=0.4)
    write_predictions(tmp_path / "test.csv", test)
    found = build(threshold=0.4, parts={"val": val, "test": test})
    stored = pd.read_csv(tmp_path / "test.csv")
    truth, probs = stored["label"] == "lesion", stored["prob_lesion"]
    called = stored["pred"] == "lesion"
    expected = {
        "auroc": sk.roc_auc_score(truth, probs),
        "average_precision": sk.average_precision_score(truth, probs),
        "accuracy": sk.accuracy_score(truth, called),
        "precision": sk.precision_score(truth, called),
        "recall": sk.recall_score(truth, called),
        "specificity": sk.recall_score(~truth, ~called),
        "f1": sk.f1_score(truth, called),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, called),
        "mcc": sk.matthews_corrcoef(truth, called),
        "brier": sk.brier_score_loss(truth, probs),
    }
    assert {k: found["test"][k]["value"] for k in expected} == pytest.approx(expected, abs=1e-12)
    assert found["confusion"]["test"] == sk.confusion_matrix(truth, called).tolist()
    plain = sk.accuracy_score(truth, probs >= 0.5)
    assert found["test_argmax"]["accuracy"]["value"] == pytest.approx(plain)
    reread = build(
        threshold=0.4, parts={"val": val, "test": read_predictions(tmp_path / "test.csv")}
    )
    assert reread == found


def test_confusions_have_true_rows_and_predicted_columns():
    table = predict("multiclass", 2)
    found = build("multiclass", parts={"test": table})
    expected = sk.confusion_matrix(table["label"], table["pred"], labels=CLASSES["multiclass"])
    assert found["confusion"]["test"] == expected.tolist()
    assert found["operating_point"] == {"rule": "argmax", "threshold": None}
    table = predict("multilabel", 2)
    found = build("multilabel", [0.5] * 3, parts={"test": table})
    said, true = (table[c].str.split("|").map(lambda x: "mass" in x) for c in ("pred", "label"))
    assert found["confusion"]["test"]["mass"] == sk.confusion_matrix(true, said).tolist()


def test_an_external_part_needs_no_validation():
    found = build(threshold=0.4, parts={"test": predict("binary", 2)})
    assert "val" not in found
    assert set(found["n"]) == {"test"}
    only_val = build(threshold=0.4, parts={"val": predict("binary", 1)})
    assert "test" not in only_val
    assert set(only_val["per_class"]) == {"val"}


def test_unlabelled_rows_are_counted_and_not_scored():
    table = predict("binary", 2)
    expected = evaluate_part(table.iloc[10:], CLASSES["binary"], "binary", resamples=20)
    table.loc[:9, "label"] = ""
    found = build(parts={"test": table}, resamples=20)
    assert found["test"] == expected
    assert found["n"]["test"]["images"] == 110
    assert found["n"]["test"]["unlabelled"] == 10


def test_one_class_is_null_and_never_nan():
    table = predict("binary", 2)
    table["label"] = "lesion"
    found = build(threshold=0.4, parts={"test": table})
    assert found["test"]["auroc"] == {"value": None, "low": None, "high": None}
    assert found["test"]["recall"]["value"] is not None
    json.dumps(found, allow_nan=False)


def test_equal_ids_of_two_data_sets_are_two_patients():
    table = predict("binary", 2)
    apart = evaluate_part(table, CLASSES["binary"], "binary", resamples=200)
    together = evaluate_part(
        table.assign(dataset="one"), CLASSES["binary"], "binary", resamples=200
    )
    assert apart["auroc"]["value"] == together["auroc"]["value"]
    assert apart["auroc"]["low"] != together["auroc"]["low"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_float_reads_back_the_same(tmp_path, dtype):
    table = predict("binary")
    rng = np.random.default_rng(5)
    table["prob_lesion"] = (rng.random(120) ** 20).astype(dtype)
    table.loc[0, "logit_lesion"] = np.nan
    table.loc[1, "path"] = 'odd, "name" 胸部.png'
    table.loc[2, ["series", "patient"]] = "NA"
    back = read_predictions(write_predictions(tmp_path / "deep" / "val.csv", table))
    assert list(back) == list(table)
    assert (back["prob_lesion"].astype(dtype) == table["prob_lesion"]).all()
    assert math.isnan(back.loc[0, "logit_lesion"])
    for column in ("path", "patient", "series", "label", "pred", "index", "frame"):
        assert back[column].tolist() == table[column].tolist()
    assert back.loc[3, "patient"] == "001"


def test_the_stored_decision_is_the_one_scored():
    table = predict("multilabel")
    cuts = [0.3, 0.5, 0.7]
    probs = table[[f"prob_{c}" for c in CLASSES["multilabel"]]].to_numpy()
    said = encode_labels(
        decide_labels(probs, CLASSES["multilabel"], "multilabel", cuts),
        CLASSES["multilabel"],
        "multilabel",
    )
    called = (said == 1).any(1)
    assert (said[called] == (probs >= cuts)[called]).all()


def test_the_threshold_of_the_validation_part_serves_the_test_part():
    val = predict("binary", 1)
    label = encode_labels(val["label"].tolist(), CLASSES["binary"], "binary")
    probs = val[["prob_normal", "prob_lesion"]].to_numpy()
    cut = choose_thresholds(probs, label, "binary", "sensitivity>=0.9")
    found = build(threshold=cut, parts={"val": val, "test": predict("binary", 2)})
    assert found["val"]["recall"]["value"] >= 0.9


def refusal(call, *arguments, **options):
    with pytest.raises(MedvisionError) as error:
        call(*arguments, **options)
    return str(error.value)


def test_an_unknown_label_is_named():
    table = predict("binary")
    table.loc[3, "label"] = "lesoin"
    text = refusal(evaluate_part, table, CLASSES["binary"], "binary")
    assert text == (
        "unknown labels in the predictions: 'lesoin' (did you mean 'lesion'?). "
        "The classes are normal, lesion; rename with data.rename"
    )


def test_repeated_rows_are_refused():
    table = pd.concat([predict("binary"), predict("binary").head(2)])
    text = refusal(evaluate_part, table, CLASSES["binary"], "binary")
    assert "hold 2 rows twice" in text


def test_a_missing_or_foreign_table_is_refused(tmp_path):
    path = tmp_path / "val.csv"
    assert refusal(read_predictions, path) == f"{path} does not exist; check the path"
    path.write_text("")
    assert "is not a table of predictions" in refusal(read_predictions, path)
    path.write_text("index,patient,label\n1,a,b\n")
    assert "no column prob_<class>" in refusal(read_predictions, path)
    path.write_text("index,patient,label,prob_a\n1,a,b,high\n")
    assert "medvision evaluate" in refusal(read_predictions, path)
    table = predict("binary").drop(columns="prob_normal")
    text = refusal(evaluate_part, table, CLASSES["binary"], "binary")
    assert "lack columns: prob_normal" in text


def series_of(labels, probs, patients):
    """Predictions of series, two classes; probabilities are those of the second."""
    n = len(labels)
    table = pd.DataFrame({
        "index": range(n), "dataset": "d", "path": [f"{k}.png" for k in range(n)], "frame": 0,
        "patient": patients, "series": [f"s{k}" for k in range(n)], "label": labels,
    })  # fmt: skip
    both = np.array([[1 - p, p] for p in probs])
    for k, name in enumerate(CLASSES["binary"]):
        table[f"logit_{name}"], table[f"prob_{name}"] = np.log(both[:, k]), both[:, k]
    return table.assign(pred=decide_labels(both, CLASSES["binary"], "binary", 0.5))


def test_patients_are_judged_by_the_mean_of_their_series_beside_the_series():
    labels = ["lesion", "lesion", "normal", "normal", "lesion", "normal", "lesion"]
    table = series_of(labels, [0.9, 0.2, 0.6, 0.1, 0.8, 0.3, 0.4],
                      ["a", "a", "b", "b", "c", "d", "d"])  # fmt: skip
    found = build_metrics(
        {"test": table}, CLASSES["binary"], "binary", 1.0, "youden", 0.5, unit="series"
    )
    assert found["n"]["test"]["series"] == 7
    assert found["n"]["test_patients"] == {
        "patients": 3, "per_class": {"normal": 1, "lesion": 2}, "unlabelled": 1,
        "patients_per_class": {"normal": 1, "lesion": 2},
    }  # fmt: skip
    # Means .55, .35 and .8 of a, b and c; the series of d differ in label.
    assert found["test"]["accuracy"]["value"] == pytest.approx(4 / 7)
    assert found["test_patients"]["accuracy"]["value"] == 1
    assert found["test_patients"]["brier"]["value"] == pytest.approx(
        np.mean([0.45**2, 0.35**2, 0.2**2])
    )


def test_one_series_a_patient_has_one_score():
    table = series_of(["lesion", "normal"] * 2, [0.9, 0.2, 0.6, 0.1], list("abcd"))
    classes = CLASSES["binary"]
    found = build_metrics({"test": table}, classes, "binary", 1.0, "youden", 0.5, unit="series")
    assert "test_patients" not in found
    plain = build_metrics({"test": table}, classes, "binary", 1.0, "youden", 0.5)
    assert plain["test"] == found["test"]
    assert (plain["n"]["test"]["images"], found["n"]["test"]["series"]) == (4, 4)


def test_few_patients_of_a_class_are_named_and_have_an_interval_where_all_is_right():
    labels = ["lesion"] * 6 + ["normal"] * 24
    table = series_of(labels, [0.9] * 6 + [0.1] * 24, [f"p{n}" for n in range(30)])
    found = build_metrics({"test": table}, CLASSES["binary"], "binary", 1.0, "youden", 0.5)
    for name in ("auroc", "recall", "specificity", "accuracy", "f1", "balanced_accuracy"):
        score = found["test"][name]
        assert score["value"] == score["high"] == 1, name
        assert 0.4 < score["low"] < 0.95, name
    assert found["test"]["mcc"]["low"] is None  # no resample differs
    notes = [*open_evaluator("classification").notes(found, {"test": found["test"]})]
    assert any("Few patients: test holds 6 of lesion. With fewer" in note for note in notes)


def doubts_of(positive, labels, temperature=1.0, threshold=0.5):
    table = series_of(labels, positive, [f"p{n}" for n in range(len(labels))])
    classes = CLASSES["binary"]
    return build_metrics({"test": table}, classes, "binary", temperature, "youden", threshold).get(
        "doubts", {}
    )


@pytest.mark.parametrize(("flipped", "told"), [(14, True), (2, False)])
def test_a_gap_between_val_and_test_beyond_chance_is_named(flipped, told):
    """Of 40 lesions and 40 normals so many are ranked wrongly on test, none on val."""
    labels = ["lesion", "normal"] * 40
    right = np.where(np.array(labels) == "lesion", 0.9, 0.1) + np.linspace(0, 0.05, 80)
    wrong = np.where(np.arange(80) < 2 * flipped, 1 - right, right)
    parts = {part: series_of(labels, probs, [f"{part}{n}" for n in range(80)])
             for part, probs in (("test", wrong), ("val", right))}  # fmt: skip
    found = build_metrics(parts, CLASSES["binary"], "binary", 1.0, "youden", 0.5)
    doubts = found.get("doubts", {}).get("test", [])
    assert [doubt.startswith("AUROC is 1.000 on val, further") for doubt in doubts] == [True] * told


def test_outputs_that_say_nothing_are_named():
    labels = ["lesion", "normal"] * 15
    alike = np.where(np.array(labels) == "lesion", 0.4984, 0.4982)
    (nothing, always) = doubts_of(alike, labels)["test"]
    assert nothing.startswith("all probabilities of lesion lie between 0.4982 and 0.4984")
    assert always.startswith("every image is decided as normal")
    (hot,) = doubts_of(np.linspace(0, 1, 30), labels, temperature=20.0)["test"]
    assert hot.startswith("the temperature is 20, the end of its range")
    assert doubts_of(np.linspace(0, 1, 30), labels) == {}
    assert doubts_of([0.9] * 15 + [0.1] * 15, ["lesion"] * 30) == {}  # one class is another matter
