from functools import partial
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Trainer
from torch.nn.functional import cross_entropy as torch_cross_entropy
from torch.optim import AdamW
from torch.utils.data import DataLoader

from medvision.losses import cross_entropy
from medvision.nets.convnet import ConvNet
from medvision.nets.slice_rnn import SliceRNN
from medvision.tasks.classification.task import Classifier

LENGTH = torch.tensor([3, 1, 2])


def task(classes=2, kind="binary", net=None, **options):
    torch.manual_seed(0)
    net = {"encoder": partial(ConvNet, widths=(4, 6), dropout=0.0), "hidden": 5, "dropout": 0.0,
           "multilabel": kind == "multilabel"} | (net or {})  # fmt: skip
    options = {"loss": cross_entropy, "optimizer": partial(AdamW, lr=0.01)} | options
    return Classifier(SliceRNN(classes, 1, **net), kind, **options)


def batch(slice_label=None):
    draw = torch.Generator().manual_seed(1)
    none = torch.full((3, 3), -1)
    return {
        "image": torch.rand(3, 3, 1, 8, 8, generator=draw), "length": LENGTH,
        "step": torch.ones(3, 3), "label": torch.tensor([0, 1, 1]), "index": torch.arange(3),
        "slice_label": none if slice_label is None else torch.tensor(slice_label),
    }  # fmt: skip


def fit(made, steps, tmp_path, datamodule=None, epochs=1):
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
        num_sanity_val_steps=0,
    )  # fmt: skip
    loader = DataLoader(steps, batch_size=None)
    if datamodule is None:
        trainer.fit(made, loader, loader)
    else:
        trainer.fit(made, datamodule=datamodule)
    return trainer


def test_without_slice_labels_the_loss_is_that_of_the_series():
    made, given = task(class_weights=torch.tensor([0.5, 2.0])), batch()
    answer = made(given)
    logits, loss = answer["logits"], made.loss(answer, given)
    expected = torch_cross_entropy(logits, given["label"], weight=torch.tensor([0.5, 2.0]))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_labelled_slices_are_supervised_beside_their_series(weight):
    given = batch([[0, 1, -1], [1, 1, 0], [-1, 0, 1]])  # some stand in the padding
    made = task(slice_weight=weight)
    answer = made(given)
    own = answer["slice_logits"]
    slices = torch.stack([own[0, 0], own[0, 1], own[1, 0], own[2, 1]])
    expected = torch_cross_entropy(answer["logits"], given["label"])
    expected = expected + weight * torch_cross_entropy(slices, torch.tensor([0, 1, 1, 0]))
    torch.testing.assert_close(made.loss(answer, given), expected)


def test_a_loss_of_torch_sees_labelled_slices_alone():
    ours, theirs = task(), task(loss=torch_cross_entropy)
    for slice_label in ([[0, 1, -1], [1, 1, 0], [-1, 0, 1]], [[-1] * 3] * 3):
        given = batch(slice_label)
        answer = ours(given)
        torch.testing.assert_close(theirs.loss(answer, given), ours.loss(answer, given))


def test_several_findings_a_series():
    made = task(classes=3, kind="multilabel", net={"aggregation": "noisy_or"})
    given = batch() | {"label": torch.tensor([[0.0, 1, 1], [1, 0, 0], [torch.nan, 1, 0]]),
                       "slice_label": torch.full((3, 3, 3), torch.nan)}  # fmt: skip
    answer = made(given)
    loss = made.loss(answer, given)
    assert answer["logits"].shape == (3, 3)
    assert torch.isfinite(loss)
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())


def test_it_learns_and_says_how_large_the_gradients_were(tmp_path):
    made = task()
    trainer = fit(made, [batch()] * 4, tmp_path, epochs=15)
    logged = trainer.callback_metrics
    assert logged["train/loss"] < 0.3
    assert logged["val/accuracy"] == 1
    assert logged["train/grad_norm"] > 0


def test_a_resting_encoder_keeps_weights_and_statistics_and_then_learns(tmp_path):
    made = task(frozen_epochs=1)
    before = {name: value.clone() for name, value in made.net.state_dict().items()}
    fit(made, [batch()] * 2, tmp_path, epochs=1)
    after = made.net.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert not any(name.startswith("encoder.") for name in moved)
    assert {name.split(".")[0] for name in moved} >= {"cell", "head"}
    made = task(frozen_epochs=1)
    fit(made, [batch()] * 2, tmp_path, epochs=2)
    after = made.net.state_dict()
    assert any(n.startswith("encoder.") and not torch.equal(v, before[n]) for n, v in after.items())


def test_kept_features_give_the_same_answers_as_images():
    made, given = task(frozen_epochs=-1, cache_features=True).eval(), batch()
    made.freeze_body(True)
    kept = []
    made._trainer = SimpleNamespace(
        precision_plugin=SimpleNamespace(val_step_context=torch.no_grad),
        datamodule=SimpleNamespace(keep_features=lambda encode: kept.append(encode)),
    )
    made.on_fit_start()
    slices = given["image"][torch.arange(3) < LENGTH[:, None]]
    features = kept[0](slices)
    assert features.shape == (6, 6)
    assert not features.is_inference()
    fresh, cached = made(given), made(given | {"features": features})
    for name, value in fresh.items():
        torch.testing.assert_close(cached[name], value, msg=name)
