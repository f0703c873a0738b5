from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torchmetrics.functional.classification
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.optim import AdamW

from medvision.errors import MedvisionError
from medvision.losses import cross_entropy
from medvision.nets.convnet import ConvNet
from medvision.tasks.classes import Classes
from medvision.tasks.classification.calibration import fit_temperature
from medvision.tasks.classification.evaluator import ClassificationEvaluator
from medvision.tasks.classification.metrics import score
from medvision.tasks.classification.task import Classifier, mix


def task(kind="binary", classes=2, **options):
    torch.manual_seed(0)
    net = ConvNet(classes, 1, widths=(4, 8), dropout=0.0)
    return Classifier(net, kind, optimizer=AdamW, loss=options.pop("loss", cross_entropy),
                      **options)  # fmt: skip


def batch(classes=2, rows=8, multilabel=False):
    torch.manual_seed(1)
    label = torch.arange(rows) % classes
    if multilabel:
        label = torch.randint(0, 2, (rows, classes)).float()
    return {"image": torch.rand(rows, 1, 8, 8), "label": label, "index": torch.arange(rows)}


def test_the_loss_is_torchs_cross_entropy_with_class_weights():
    weights, given = torch.tensor([0.5, 1.5]), batch()
    made = task(class_weights=weights)
    logits = made(given["image"])
    expected = torch_cross_entropy(logits, given["label"], weight=weights)
    torch.testing.assert_close(made.loss(logits, given), expected)
    assert not torch.allclose(task().loss(logits, given), expected)


def test_several_labels_are_compared_one_by_one():
    made, given = task("multilabel", 3), batch(3, multilabel=True)
    logits = made(given["image"])
    expected = binary_cross_entropy_with_logits(logits, given["label"])
    torch.testing.assert_close(made.loss(logits, given), expected)


def test_partial_losses_keep_their_settings():
    given = batch()
    smoothed = task(loss=partial(cross_entropy, label_smoothing=0.2))
    logits = smoothed(given["image"])
    expected = torch_cross_entropy(logits, given["label"], label_smoothing=0.2)
    torch.testing.assert_close(smoothed.loss(logits, given), expected)


@pytest.mark.parametrize("loss", [torch_cross_entropy, nn.CrossEntropyLoss()])
def test_a_loss_of_torch_is_called_with_what_it_takes(loss):
    given = batch() | {"label": torch.tensor([0, 1, -1, 1, 0, -1, 1, 1])}  # some are not labelled
    made, known = task(loss=loss), given["label"] >= 0
    logits = made(given["image"])
    expected = torch_cross_entropy(logits[known], given["label"][known])
    torch.testing.assert_close(made.loss(logits, given), expected)
    nothing = made.loss(logits, given | {"label": torch.full((8,), -1)})
    nothing.backward()
    assert nothing.item() == 0


def test_a_loss_of_torch_takes_class_weights_or_says_that_it_cannot():
    weights, given = torch.tensor([0.5, 1.5]), batch()
    made = task(loss=torch_cross_entropy, class_weights=weights)
    logits = made(given["image"])
    expected = torch_cross_entropy(logits, given["label"], weight=weights)
    torch.testing.assert_close(made.loss(logits, given), expected)
    several = batch(2, multilabel=True)
    made = task("multilabel", loss=binary_cross_entropy_with_logits, class_weights=weights)
    expected = binary_cross_entropy_with_logits(logits, several["label"], pos_weight=weights)
    torch.testing.assert_close(made.loss(logits, several), expected)
    with pytest.raises(MedvisionError, match=r"CrossEntropyLoss takes no class weights; say"):
        task(loss=nn.CrossEntropyLoss(), class_weights=weights)


def test_class_weights_follow_the_device_and_stay_out_of_the_checkpoint():
    made = task(class_weights=torch.tensor([0.5, 1.5]))
    assert "class_weights" not in made.state_dict()
    assert made.to(torch.float64).class_weights.dtype == torch.float64
    assert task().class_weights is None


@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 3)])
def test_scores_are_those_of_the_probabilities(kind, classes):
    several = kind == "multilabel"
    made, given = task(kind, classes), batch(classes, 24, several)
    logits = made(given["image"]).detach()
    probs = logits.sigmoid() if several else logits.softmax(1)
    assert made.score({"logits": logits} | given) == score(probs, given["label"], kind)


def test_an_epoch_is_chosen_by_the_order_that_is_reported():
    """A temperature changes the AUROC of several classes: here by ranking the sure ones last."""
    made, given = task("multiclass", 3), batch(3, 60)
    logits = 8 * torch.randn(60, 3) + torch.nn.functional.one_hot(given["label"], 3)
    kept = {"logits": logits, "label": given["label"]}
    temperature = fit_temperature(logits, given["label"], "multiclass")
    reported = score((logits / temperature).softmax(1), given["label"], "multiclass")
    plain = made.score(kept)
    assert made.eval().score(kept)["auroc"] == pytest.approx(reported["auroc"], abs=1e-6)
    assert abs(plain["auroc"] - reported["auroc"]) > 1e-3


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("multiclass", 4), ("multilabel", 3)])
def test_torchmetrics_scores_where_the_tensors_are_and_the_host_agrees(
    kind, classes, device, monkeypatch
):
    asked = {}
    for name in (
        "binary_auroc", "binary_average_precision", "multiclass_confusion_matrix",
        "multilabel_confusion_matrix",
    ):  # fmt: skip
        whole = getattr(torchmetrics.functional.classification, name)

        def spied(*given, name=name, whole=whole, **options):
            asked[name] = {x.device.type for x in given if isinstance(x, torch.Tensor)}
            return whole(*given, **options)

        monkeypatch.setattr(torchmetrics.functional.classification, name, spied)
    several, names = kind == "multilabel", [f"c{k}" for k in range(classes)]
    given = batch(classes, 60, several)
    logits = 2 * torch.randn(60, classes)
    made = task(kind, classes).to(device)
    kept = made.keep(logits.to(device), {"label": given["label"].to(device)})
    scores = made.score(kept)
    counted = "multilabel_confusion_matrix" if several else "multiclass_confusion_matrix"
    assert asked == {
        name: {device} for name in ("binary_auroc", "binary_average_precision", counted)
    }

    threshold = {"binary": 0.5, "multiclass": None, "multilabel": [0.5] * classes}[kind]
    target = Classes(names, kind)
    evaluator = ClassificationEvaluator(target.plain(), {"threshold": threshold})
    facts = {"label": target.decode({"label": given["label"].numpy()})["label"], "patient": "p"}
    tables = evaluator.tabulate({"logits": logits.numpy()}, {"": pd.DataFrame(facts)})
    scored = evaluator.read(tables)
    for name in ("accuracy", "precision", "recall", "f1", "auroc"):
        (host,) = evaluator.metrics[name].compute(scored, np.ones((1, 60)))
        assert scores[name] == pytest.approx(host, abs=1e-6), name


def test_a_mixed_image_is_its_share_and_its_partners():
    given = batch(rows=64)
    mixed = mix(given, 0.4)
    share = mixed["share"]
    assert 0 < float(share) < 1
    assert all(torch.equal(mixed[key], given[key]) for key in ("label", "index"))
    shown = (mixed["image"] - share * given["image"]) / (1 - share)
    partner = torch.cdist(shown.flatten(1), given["image"].flatten(1)).argmin(1)
    assert sorted(partner.tolist()) == list(range(64))
    torch.testing.assert_close(
        share * given["image"] + (1 - share) * given["image"][partner], mixed["image"]
    )
    assert torch.equal(mixed["partner"], given["label"][partner])


def test_an_image_mixed_with_itself_stays():
    one = {"image": torch.rand(1, 1, 4, 4), "label": torch.tensor([1])}
    mixed = mix(one, 1.0)
    torch.testing.assert_close(mixed["image"], one["image"])
    assert mixed["partner"].tolist() == [1]


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_are_drawn_from_beta(alpha):
    torch.manual_seed(0)
    given = batch(rows=2)
    shares = torch.stack([mix(given, alpha)["share"] for _ in range(1000)])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.02)


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_the_mixed_loss_is_that_of_the_blended_target(kind):
    """Cross-entropy is linear in the target, so the two shares are one soft label."""
    several = kind == "multilabel"
    made, given = task(kind, 2, mixup=0.4), batch(2, 16, several)
    mixed = mix(given, 0.4)
    logits, share = made(mixed["image"]), mixed["share"]
    hot = [y if several else nn.functional.one_hot(y, 2).float()
           for y in (mixed["label"], mixed["partner"])]  # fmt: skip
    target = share * hot[0] + (1 - share) * hot[1]
    closed = binary_cross_entropy_with_logits if several else torch_cross_entropy
    torch.testing.assert_close(made.loss(logits, mixed), closed(logits, target))


def test_mixup_is_drawn_in_training_only():
    given = batch()
    seen = []
    for mixup, step in ((0.4, "training_step"), (0.4, "validation_step"), (0.0, "training_step")):
        made = task(mixup=mixup)
        made.net.register_forward_pre_hook(lambda _, images: seen.append(images[0]))
        getattr(made, step)(given, 0)
    assert [torch.equal(image, given["image"]) for image in seen] == [False, True, True]


def test_a_batch_can_be_learned_by_heart():
    torch.manual_seed(0)
    given, made = batch(), task(channels_last=False)
    optimizer = AdamW(made.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss = made.loss(made(given["image"]), given)
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.05
