"""A task of a user's that is no classification, by its dotted path: from training to the report."""

import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from medvision.model import load_model

MODEL = """
_target_: planted.outline.Outline
net: {_target_: planted.outline.Pixels, _partial_: true}
optimizer: {_target_: torch.optim.AdamW, _partial_: true, lr: 0.1}
"""
WORDS = (
    "data=manifest", "data.reader.size=null", "data.batch_size=4", "data.workers=1", "threads=1",
    "trainer.max_epochs=12", "augment.rotate_degrees=10", "augment.flip_horizontal=true",
)  # fmt: skip
SIZE = (16, 20)


def draw(number):
    """A bright rectangle, outlined, and its box as a cell; every sixth image has none."""
    random = np.random.default_rng(number)
    image = random.integers(0, 40, SIZE).astype(np.uint8)
    if number % 6 == 5:
        return image, np.zeros(SIZE, np.uint8), ""
    y, x = random.integers(2, 7), random.integers(2, 9)
    h, w = random.integers(4, 7), random.integers(4, 8)
    mask = np.zeros(SIZE, np.uint8)
    mask[y : y + h, x : x + w] = 1
    image[mask == 1] = 200
    return image, mask, f"{x} {y} {x + w} {y + h} 1"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Images with outlines and boxes, a package with a task for them, and its configuration."""
    top = tmp_path_factory.mktemp("outlines")
    for name in ("images", "masks", "conf/model", "planted"):
        (top / name).mkdir(parents=True)
    rows = []
    for n in range(40):
        image, mask, boxes = draw(n)
        cv2.imwrite(str(top / f"images/{n}.png"), image)
        cv2.imwrite(str(top / f"masks/{n}.png"), mask)
        rows.append({"path": f"images/{n}.png", "mask": f"masks/{n}.png", "boxes": boxes,
                     "patient": f"p{n // 2}", "site": "AB"[n % 2]})  # fmt: skip
    pd.DataFrame(rows).to_csv(top / "manifest.csv", index=False)
    (top / "conf/model/outline.yaml").write_text(MODEL)
    (top / "planted/__init__.py").touch()
    shutil.copy(Path(__file__).parents[1] / "planted" / "outline.py", top / "planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(top)
        yield top
    for name in [name for name in sys.modules if name.partition(".")[0] == "planted"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def runs(study, places, medvision):
    """Two arms of it."""
    folders = []
    for rate in (0.1, 0.08):
        done = medvision("train", "--config-dir", study / "conf", "model=outline", *WORDS,
                         f"data.manifest={study / 'manifest.csv'}", f"model.optimizer.lr={rate}",
                         "name=outline")  # fmt: skip
        assert done.status == 0, done.err
        folders = sorted((p for p in (places / "runs" / "outline").iterdir() if p.is_dir()),
                         key=lambda p: p.stat().st_mtime)  # fmt: skip
    return folders


def test_it_trains_and_is_scored_by_its_own_metrics(runs):
    for folder in runs:
        record, metrics = (
            json.loads((folder / name).read_text()) for name in ("record.json", "metrics.json")
        )
        assert record["task"] == metrics["task"] == "planted.outline.Outline"
        history = pd.read_csv(folder / "history.csv")
        assert record["objective"] == pytest.approx(history["val/dice"].iloc[-1], abs=1e-6)
        table = pd.read_csv(folder / "predictions" / "test.csv")
        boxes = pd.read_csv(folder / "predictions" / "test_boxes.csv")
        each = (2 * table["tp"] + 1e-6) / (2 * table["tp"] + table["fp"] + table["fn"] + 1e-6)
        assert metrics["test"]["dice"]["value"] == pytest.approx(each.mean(), abs=1e-6)
        assert metrics["test"]["dice"]["value"] > 0.9
        assert metrics["test"]["boxes"]["value"] == pytest.approx(len(boxes) / len(table))
        assert load_model(folder / "model.pt").decision["passes"] == 4  # over val, in `finish`


def test_an_edited_prediction_is_noticed(runs, medvision):
    table = runs[0] / "predictions" / "test.csv"
    whole = table.read_text()
    assert medvision("evaluate", f"run={runs[0]}").status == 0
    assert table.read_text() == whole


def test_two_arms_are_compared(runs, medvision):
    done = medvision("compare", f'runs=["{runs[0]}","{runs[1]}"]')
    assert done.status == 0, done.err
    assert "Dice" in done.out


def test_new_images_are_predicted_with_their_boxes_and_files(runs, study, medvision, tmp_path):
    words = (f"input={study / 'images'}", f"output={tmp_path / 'new.csv'}")
    done = medvision("predict", f"run={runs[0]}", *words)
    assert done.status == 0, done.err
    table, boxes = pd.read_csv(tmp_path / "new.csv"), pd.read_csv(tmp_path / "new_boxes.csv")
    assert not {"tp", "fp", "fn"} & set(table)
    stored = pd.read_csv(runs[0] / "predictions" / "test.csv")
    for path, area in zip(stored["path"], stored["area"], strict=True):
        (row,) = np.flatnonzero(table["path"] == Path(path).name)
        assert table["area"][row] == area
        outline = cv2.imread(str(tmp_path / "new_files" / f"{Path(path).stem}_mask.png"), 0) == 255
        assert outline.sum() == area
        own = boxes[boxes["row"] == row]
        y, x = np.nonzero(outline)
        assert own[["x0", "y0", "x1", "y1"]].to_numpy().tolist() == (
            [[x.min(), y.min(), x.max() + 1, y.max() + 1]] if len(x) else []
        )


def test_its_report_speaks_of_its_own_scores(runs, medvision):
    done = medvision("report", f"run={runs[0]}")
    assert done.status == 0, done.err
    page = (runs[0] / "report.html").read_text().partition("<body")[2]
    text = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert "Dice" in text
    for word in ("auroc", "operating point", "confusion"):
        assert word not in text.lower(), text[max(0, text.lower().index(word) - 200) :][:300]
    assert medvision("report", f"run={runs[0].parent}").status == 0


def test_views_of_it_cannot_be_averaged(study, medvision):
    done = medvision("train", "--config-dir", study / "conf", "model=outline", *WORDS, "tta=2",
                     f"data.manifest={study / 'manifest.csv'}")  # fmt: skip
    assert done.status == 2
    assert "tta=2 asks for the mean of several views, which means nothing" in done.err


def test_what_a_task_lacks_is_named_before_anything_is_read(study, medvision):
    (study / "planted" / "half.py").write_text(
        "from medvision.tasks.task import Task\n\n\nclass Half(Task):\n"
        "    def loss(self, answer, batch):\n        return answer.sum()\n"
    )
    done = medvision("train", "--config-dir", study / "conf", "model=outline",
                     "model._target_=planted.half.Half", "data.manifest=nowhere.csv")  # fmt: skip
    assert done.status == 2
    assert (
        "planted.half.Half is no whole task: it lacks keep, net_facts, score, watched;" in done.err
    )


def test_a_target_that_finds_no_column_says_so(study, medvision, tmp_path):
    table = pd.read_csv(study / "manifest.csv").drop(columns=["mask", "boxes"])
    table["path"] = [str(study / path) for path in table["path"]]
    table.to_csv(tmp_path / "bare.csv", index=False)
    done = medvision("train", "--config-dir", study / "conf", "model=outline", *WORDS,
                     f"data.manifest={tmp_path / 'bare.csv'}")  # fmt: skip
    assert done.status == 2
    assert "bare.csv has none of the columns mask, boxes, scribble_, which this" in done.err
