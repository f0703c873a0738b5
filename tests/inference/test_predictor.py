import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from medvision.augment import device as augment_on_device
from medvision.augment.draw import Augment
from medvision.data.batches.samples import Samples, as_image
from medvision.data.store.store import Store
from medvision.data.units.series import add_difference, pad_series
from medvision.data.units.series_form import SeriesForm
from medvision.evaluation import predictions
from medvision.evaluation.predictions import write_predictions
from medvision.inference import predictor
from medvision.inference.predictor import change, open_model_evaluator, predict_samples, run_net
from medvision.model import Model
from medvision.nets.convnet import ConvNet
from medvision.tasks.classes import Classes

AUGMENT = {"_target_": "medvision.augment.draw.Augment", "rotate_degrees": 30.0, "contrast": 0.5}


def model(kind="binary", classes=("a", "b"), **facts):
    torch.manual_seed(0)
    net = ConvNet(len(classes), 1, widths=(4, 8))
    net(torch.rand(16, 1, 10, 10))  # statistics that are not those of a new net
    target = {"classes": list(classes), "kind": kind, "negative": None, "rename": {}}
    inputs = {"reader": {}, "unit": facts.pop("series", None), "tabular": None}
    decision = {name: facts.pop(name) for name in ("temperature", "threshold") if name in facts}
    return Model(net.eval(), {}, "classification", target, inputs, {"threshold": 0.5} | decision,
                 **{"augment": AUGMENT, "seed": 3} | facts)  # fmt: skip


def samples(labels, kind="binary", names=("a", "b"), negative=None):
    rows = range(len(labels))
    pixels = np.random.default_rng(0).integers(0, 255, (len(labels), 10, 10, 1), dtype=np.uint8)
    digests = [str(row) for row in rows]
    table = pd.DataFrame({
        "dataset": "toy", "path": [f"/data/{n}, 1.png" for n in rows], "frame": 0,
        "patient": [f"00{n // 2}" for n in rows], "series": "", "label": labels, "split": "test",
    })  # fmt: skip
    classes = Classes(list(names), kind, negative)
    where = np.stack([np.zeros(len(labels), int), np.arange(len(labels))], 1)
    store = Store(pixels, digests, Path(), {})
    return Samples(table, classes, classes.encode(table), digests, [store], where)


@pytest.mark.parametrize("tta", [0, 2])
def test_predictions_do_not_depend_on_the_batch_size(monkeypatch, tta):
    made, rows = samples(["a", "b"] * 20), np.arange(40)
    several = []
    for size in (128, 7, 1):
        monkeypatch.setattr(predictor, "BATCH", size)
        several.append(logits_of(predict_samples(model(tta=tta), made, rows)))
    for other in several[1:]:
        torch.testing.assert_close(other, several[0], rtol=0, atol=1e-6)


def test_logits_follow_the_rows_and_are_the_nets():
    made, rows = samples(["a", "b"] * 5), np.array([7, 0, 3])
    logits = logits_of(predict_samples(model(), made, rows))
    with torch.inference_mode():
        expected = model().net(as_image(torch.from_numpy(made.gather(rows))))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


def test_views_are_averaged_and_always_the_same():
    made, rows = samples(["a", "b"] * 5), np.arange(10)
    logits = logits_of(predict_samples(model(tta=4), made, rows))
    assert torch.equal(logits_of(predict_samples(model(tta=4), made, rows)), logits)
    image, augment = (
        as_image(torch.from_numpy(made.gather(rows))),
        Augment(rotate_degrees=30.0, contrast=0.5),
    )
    with torch.inference_mode():
        net = model().net
        views = [net(image)]
        for view in range(4):
            draws = augment.draw(3, 1_000_000 + view, rows, (10, 10))
            views.append(net(augment_on_device.augment(image, draws)))
    torch.testing.assert_close(logits, torch.stack(views).mean(0), rtol=0, atol=1e-6)
    assert not torch.allclose(logits, views[0], atol=1e-3)
    other = logits_of(predict_samples(model(tta=4, seed=4), made, rows))
    assert not torch.allclose(logits, other, atol=1e-4)


def test_views_follow_the_row_and_not_its_place():
    made = samples(["a", "b"] * 5)
    whole = logits_of(predict_samples(model(tta=3), made, np.arange(10)))
    some = logits_of(predict_samples(model(tta=3), made, np.array([8, 2])))
    torch.testing.assert_close(some, whole[[8, 2]], rtol=0, atol=1e-6)


def logits_of(outputs):
    return torch.from_numpy(outputs["logits"])


def tabulate(asked, facts, logits):
    return open_model_evaluator(asked).tabulate({"logits": logits.numpy()}, {"": facts})[""]


def read_predictions(path):
    return predictions.read_predictions(path, open_model_evaluator(model()).tables[""])


def test_no_rows_are_no_logits():
    assert run_net(model(), iter(()), np.arange(0), "predicting") == {}


def test_the_table_holds_logits_calibrated_probabilities_and_decisions():
    made, rows = samples(["a", "b", ""]), np.array([2, 0])
    logits = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    table = tabulate(model(temperature=2.0), made.facts_for(rows), logits)
    assert list(table) == [
        "index", "dataset", "path", "frame", "patient", "series", "label",
        "logit_a", "logit_b", "prob_a", "prob_b", "pred",
    ]  # fmt: skip
    assert table["index"].tolist() == [2, 0]
    assert table["label"].tolist() == ["", "a"]
    assert table["prob_b"][0] == pytest.approx(1 / (1 + math.exp(-1)))
    assert table["pred"].tolist() == ["b", "a"]
    strict = tabulate(model(threshold=0.9), made.facts_for(rows), logits)
    assert strict["pred"].tolist() == ["a", "a"]


def test_predictions_read_back_as_they_were(tmp_path):
    made, rows = samples(["a", "b"] * 3), np.arange(6)
    logits = logits_of(predict_samples(model(), made, rows))
    table = tabulate(model(temperature=1.7), made.facts_for(rows), logits)
    back = read_predictions(write_predictions(tmp_path / "test.csv", table))
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert back["patient"].tolist() == ["000", "000", "001", "001", "002", "002"]


def test_several_labels_come_back_from_the_stored_table(tmp_path):
    labels = ["a|b", "none", "b", "", "a"]
    made = samples(labels, "multilabel", negative="none")
    several = model("multilabel", threshold=[0.5, 0.5])
    logits = torch.tensor([[5.0, 5.0], [-5.0, -5.0], [-5.0, 5.0], [5.0, -5.0], [5.0, -5.0]])
    table = tabulate(several, made.facts_for(range(5)), logits)
    assert table["pred"].tolist() == ["a|b", "", "b", "a", "a"]
    back = read_predictions(write_predictions(tmp_path / "test.csv", table))
    scored = open_model_evaluator(several).read({"": back})
    assert scored.arrays["label"].tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    assert scored.left_out == 1
    assert scored.arrays["probs"][0].tolist() == pytest.approx([1 / (1 + math.exp(-5))] * 2)


def test_the_net_is_left_in_evaluation_mode():
    class Strict(nn.Module):
        def forward(self, image):
            assert not self.training
            assert not torch.is_grad_enabled()
            return image.mean((2, 3)).repeat(1, 2)

    asked = replace(model(), net=Strict().eval())
    assert logits_of(predict_samples(asked, samples(["a", "b"]), np.arange(2))).shape == (2, 2)


@pytest.mark.parametrize("difference", [True, False])
def test_views_of_series_are_drawn_as_in_training(difference):
    """Slices move alike, and the difference of two channels is taken after they changed."""
    form = SeriesForm(channels=("a", "b"), difference=difference)
    asked = model(series=form.contract())
    length = torch.tensor([3, 2])
    plain = torch.rand(5, 2, 10, 10)
    image = pad_series(add_difference(plain, form), torch.tensor([0, 1, 2, 3, 4]), (2, 3))
    augment = Augment(rotate_degrees=30.0, contrast=0.5, brightness=0.2, noise=0.1)
    batch = {"image": image, "length": length, "step": torch.ones(2, 3)}
    seen = change(batch, asked, augment, 7, np.array([4, 9]))["image"]
    draws = augment.draw(asked.seed, 7, np.array([4, 4, 4, 9, 9]), (10, 10))
    draws = draws.with_own_noise(np.array([0, 1, 2, 0, 1]))
    expected = augment_on_device.augment(plain, draws)
    valid = torch.arange(3) < length[:, None]
    torch.testing.assert_close(seen[valid][:, :2], expected)
    assert not torch.allclose(expected, plain, atol=0.05)
    assert (seen[~valid] == 0).all()
    if difference:
        torch.testing.assert_close(seen[:, :, 2], (seen[:, :, 0] - seen[:, :, 1]).abs())
