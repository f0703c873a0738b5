import numpy as np
import pandas as pd
import torch
from torch import nn

from medvision.commands.cases import choose_cases, draw_cases
from medvision.commands.infer import predict_samples, tabulate, tabulate_slices
from medvision.data.assemble import assemble_foreign
from medvision.data.classes import Classes
from medvision.data.manifest import read_manifest
from medvision.data.readers import Reader
from medvision.data.series import SeriesForm
from medvision.model import Model


def model(kind="binary", classes=("a", "b")):
    return Model(nn.Linear(1, 1), {}, list(classes), kind, {})


def table(label, pred, *probs):
    names = "abc"[: len(probs)]
    return pd.DataFrame({"label": label, "pred": pred, "series": ""}
                        | {f"prob_{n}": p for n, p in zip(names, probs, strict=True)})  # fmt: skip


def test_the_surest_misses_come_first_and_then_hits_of_each_class_in_turn():
    sure = [0.9, 0.8, 0.7, 0.6, 0.95, 0.55, 0.99, 0.97]
    label, pred = list("aaaabbab"), list("aaaabbba")
    prob_a = [p if said == "a" else 1 - p for p, said in zip(sure, pred, strict=True)]
    rows = table(label, pred, prob_a, [1 - p for p in prob_a])
    index = torch.arange(8).numpy() + 100
    cases = list(choose_cases(model(), index, rows, 6))
    assert [case.sample - 100 for case in cases] == [6, 7, 4, 0, 1, 5]
    assert [case.target for case in cases] == [1, 0, 1, 0, 0, 1]
    assert cases[0].text == "a, said b .990"
    assert cases[2].text == "b .950"


def test_misses_take_up_to_half_and_unlabelled_samples_are_left_out():
    rows = table([*list("aaaa"), ""], list("bbbba"), [0.1, 0.2, 0.3, 0.4, 0.9],
                 [0.9, 0.8, 0.7, 0.6, 0.1])  # fmt: skip
    cases = list(choose_cases(model(), torch.arange(5).numpy(), rows, 6))
    assert [case.sample for case in cases] == [0, 1, 2]
    assert list(choose_cases(model(), torch.arange(0).numpy(), rows[:0], 6)) == []


def test_several_labels_are_judged_together_and_explained_by_the_likeliest():
    rows = table(["a|b", "-", "c"], ["a|b", "", ""], [0.9, 0.1, 0.2], [0.8, 0.3, 0.1],
                 [0.2, 0.2, 0.4])  # fmt: skip
    cases = list(choose_cases(model("multilabel", "abc"), torch.arange(3).numpy(), rows, 4))
    assert [(case.sample, case.target) for case in cases] == [(2, 2), (0, 0), (1, 1)]
    assert cases[0].text == "c, said none .400"
    assert cases[2].text == "none .300"


def test_a_hyphen_in_a_name_is_no_missing_label():
    rows = pd.DataFrame({"label": ["COVID-19", "-"], "pred": ["COVID-19", ""], "series": "",
                         "prob_COVID-19": [0.9, 0.2], "prob_b": [0.1, 0.3]})  # fmt: skip
    cases = list(choose_cases(model(classes=("COVID-19", "b")), torch.arange(2).numpy(), rows, 4))
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
    asked = Model(Bare().eval(), {}, ["a", "b"], "binary", {}, series=form.contract())
    index = samples.rows("test")
    said = predict_samples(asked, samples, index)
    assert said.slices == {}
    assert tabulate_slices(asked, samples, index, said) is None
    predictions = tabulate(asked, samples.facts_for(index), said.logits)
    found = draw_cases(tmp_path, asked, samples, index, predictions)
    assert [path.name for path in found] == ["case_1.png", "case_2.png"]


def test_a_run_of_images_shows_a_sheet(trained):
    assert (trained / "figures" / "cases.png").stat().st_size > 1000
    assert "The surest misses, then hits" in (trained / "report.html").read_text()
