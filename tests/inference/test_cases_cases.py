import json
from dataclasses import replace

import numpy as np
import pandas as pd
from torch import nn

from medvision.data.batches.assemble import assemble_foreign
from medvision.data.manifest.manifest import read_manifest
from medvision.data.store.reader import Reader
from medvision.data.units.series_form import SeriesForm
from medvision.inference.cases import choose_cases, draw_cases, tell_kinds
from medvision.inference.predictor import predict_samples, tabulate, tabulate_slices
from medvision.model import Model
from medvision.tasks.classification.target import Classes


def model(kind="binary", classes=("a", "b")):
    target = {"classes": list(classes), "kind": kind, "negative": None, "rename": {}}
    return Model(nn.Linear(1, 1), {}, "classification", target, {"reader": {}, "unit": None})


def table(label, pred, *probs, patients=None):
    names = "abc"[: len(probs)]
    whose = patients or [f"p{n}" for n in range(len(label))]
    return pd.DataFrame({"label": label, "pred": pred, "series": "", "dataset": "",
                         "patient": whose}
                        | {f"prob_{n}": p for n, p in zip(names, probs, strict=True)})  # fmt: skip


def choose(asked, rows, misses, hits=4):
    index = np.arange(len(rows)) + 100
    return list(choose_cases(asked, index, rows, tell_kinds(asked, rows), misses, hits))


SURE = [0.9, 0.8, 0.7, 0.6, 0.95, 0.55, 0.99, 0.97]
LABEL, PRED = list("aaaabbab"), list("aaaabbba")
PROB_A = [p if said == "a" else 1 - p for p, said in zip(SURE, PRED, strict=True)]


def test_the_surest_misses_come_first_and_then_hits_of_each_class_in_turn():
    cases = choose(model(), table(LABEL, PRED, PROB_A, [1 - p for p in PROB_A]), 2)
    assert [case.sample - 100 for case in cases] == [6, 7, 4, 0, 1, 5]
    assert [case.target for case in cases] == [1, 0, 1, 0, 0, 1]
    assert [case.kind for case in cases[:3]] == ["false positive", "false negative", "hit"]
    assert cases[0].text == "a, said b .990"
    assert cases[2].text == "b .950"


def test_misses_of_each_kind_come_in_turn_and_unlabelled_samples_are_left_out():
    prob_b = [0.9, 0.8, 0.7, 0.6, 0.1]
    rows = table([*list("aaab"), ""], list("bbbaa"), [1 - p for p in prob_b], prob_b)
    rows.loc[3, ["prob_a", "prob_b"]] = 0.6, 0.4
    assert [case.sample - 100 for case in choose(model(), rows, 3)] == [0, 3, 1]
    assert choose(model(), rows[:0], 3) == []


def test_a_patient_is_shown_once_of_a_kind():
    rows = table(list("aaab"), list("bbbb"), [0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.7, 0.6],
                 patients=["x", "x", "y", "x"])  # fmt: skip
    assert [case.sample - 100 for case in choose(model(), rows, 9)] == [0, 2, 3]


def test_several_labels_are_judged_together_and_explained_by_the_likeliest():
    rows = table(["a|b", "-", "c"], ["a|b", "", ""], [0.9, 0.1, 0.2], [0.8, 0.3, 0.1],
                 [0.2, 0.2, 0.4])  # fmt: skip
    cases = choose(model("multilabel", "abc"), rows, 4)
    assert [(case.sample - 100, case.target) for case in cases] == [(2, 2), (0, 0), (1, 1)]
    assert cases[0].text == "c, said none .400"
    assert cases[2].text == "none .300"


def test_a_hyphen_in_a_name_is_no_missing_label():
    rows = pd.DataFrame({"label": ["COVID-19", "-"], "pred": ["COVID-19", ""], "series": "",
                         "dataset": "", "patient": ["p", "q"],
                         "prob_COVID-19": [0.9, 0.2], "prob_b": [0.1, 0.3]})  # fmt: skip
    cases = choose(model(classes=("COVID-19", "b")), rows, 4)
    assert [case.text for case in cases] == ["COVID-19 .900", "none .300"]


class Bare(nn.Module):
    """A net of series that answers for the study alone and has no head to tell it by."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, image, length, step):
        return {"logits": self.maps(image.transpose(1, 2)).mean((2, 3, 4))}


def test_a_foreign_net_without_head_or_weights_is_drawn_without_heat(tmp_path):
    random = np.random.default_rng(0)
    np.save(tmp_path / "a.npy", random.integers(0, 255, (6, 16, 16), dtype=np.uint8))
    rows = pd.DataFrame({"path": "a.npy", "frame": range(6), "patient": list("aaabbb"),
                         "series": list("aaabbb"), "position": [0, 1, 2] * 2,
                         "label": list("aaabbb")})  # fmt: skip
    rows.to_csv(tmp_path / "manifest.csv", index=False)
    form, classes = SeriesForm(), Classes(["a", "b"], "binary", None)
    manifest = read_manifest(tmp_path / "manifest.csv")
    samples = assemble_foreign(manifest, Reader(size=(16, 16)), classes, "stop", "test", form)
    asked = replace(model(), net=Bare().eval(), inputs={"reader": {}, "unit": form.contract()})
    index = samples.rows("test")
    said = predict_samples(asked, samples, index)
    assert said.slices == {}
    assert tabulate_slices(asked, samples, index, said) is None
    predictions = tabulate(asked, samples.facts_for(index), said.logits)
    found = draw_cases(tmp_path, asked, samples, index, predictions)
    assert [path.name for path in found] == ["case_1.png", "case_2.png"]
    told = json.loads((tmp_path / "figures" / "cases" / "cases.json").read_text())
    assert [case["file"] for case in told["cases"]] == ["01.png", "02.png"]
    assert told["cases"][0]["positions"] == [0, 1, 2]
    assert told["cases"][0]["series"] == ""  # an id as given may name someone


def test_a_run_of_images_shows_a_sheet_and_a_gallery(trained):
    assert (trained / "figures" / "cases.png").stat().st_size > 1000
    told = json.loads((trained / "figures" / "cases" / "cases.json").read_text())
    predictions = pd.read_csv(trained / "predictions" / "test.csv")
    assert sum(told["counts"].values()) == len(predictions)
    assert told["counts"]["hit"] == (predictions["label"] == predictions["pred"]).sum()
    assert all(len(case["patient"]) == 7 and case["site"] for case in told["cases"])
    page = (trained / "report.html").read_text()
    assert "The surest misses, beside hits" in page
    assert page.count("data:image/png") >= len(told["cases"]) + 6
