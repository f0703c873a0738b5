import json

import numpy as np
import pandas as pd
from torch import nn

from medvision.data.batches.assemble import assemble_foreign
from medvision.data.manifest.manifest import read_manifest
from medvision.data.store.reader import Reader
from medvision.data.units.series import Series
from medvision.inference.cases import draw_cases
from medvision.inference.predictor import open_model_evaluator, predict_samples
from medvision.model import Model
from medvision.tasks.classes import Classes


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
    unit, classes = Series(), Classes(["a", "b"], "binary", None)
    manifest = read_manifest(tmp_path / "manifest.csv")
    samples = assemble_foreign(manifest, Reader(size=(16, 16)), classes, "stop", "test", unit)
    inputs = {"reader": {}, "unit": unit.plain(), "tabular": None}
    asked = Model(Bare().eval(), {}, "classification", classes.plain(), inputs)
    index = samples.rows("test")
    said = predict_samples(asked, samples, index)
    assert list(said) == ["logits"]
    tables = open_model_evaluator(asked).tabulate(said, samples.tables_for(index))
    assert list(tables) == [""]  # nothing was said of slices
    found = draw_cases(tmp_path, asked, samples, index, tables)
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
