from functools import partial
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.callbacks import (
    Callback,
    Checkpoint,
    EMAWeightAveraging,
    ModelCheckpoint,
)
from torch.optim import SGD, AdamW, Optimizer, lr_scheduler
from torch.utils.data import DataLoader

from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import direction
from medvision.losses import cross_entropy
from medvision.nets.convnet import ConvNet
from medvision.nets.encoder import find_head
from medvision.nets.transfer import layer_groups
from medvision.tasks.classification.calibration import fit_temperature
from medvision.tasks.classification.metrics import score
from medvision.tasks.classification.task import Classifier
from medvision.tasks.task import concatenate, gather_ranks
from medvision.training.fit import best_score


def batches(rows, size, seed):
    """Labelled noise, a little brighter where the label is 1; the last batch is smaller."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(rows) % 2
    image = torch.rand(rows, 1, 8, 8, generator=draw) * 0.8 + 0.1 * label[:, None, None, None]
    parts = torch.arange(rows).split(size)
    return [{"image": image[part], "label": label[part], "index": part} for part in parts]


TRAIN, VAL = batches(22, 8, 0), batches(19, 8, 1)


def task(optimizer=None, net=None, **options):
    torch.manual_seed(0)
    net = net or ConvNet(2, 1, widths=(4, 8), dropout=0.0)
    options = {"loss": cross_entropy} | options
    return Classifier(net, optimizer=optimizer or partial(AdamW, lr=0.01, weight_decay=0.1),
                      **options)  # fmt: skip


def open_trainer(tmp_path, epochs, callbacks, **options):
    return Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, num_sanity_val_steps=0,
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in callbacks),
        callbacks=list(callbacks), **options,
    )  # fmt: skip


def fit(made, tmp_path, epochs=3, callbacks=(), train=TRAIN, val=VAL, **options):
    trainer = open_trainer(tmp_path, epochs, callbacks, **options)
    loaders = [DataLoader(part, batch_size=None) for part in (train, val)]
    trainer.fit(made, *loaders)
    return trainer


class Watch(Checkpoint):
    """Keeps a copy of the net after each epoch, what was logged, and the rates of each step."""

    def __init__(self):
        self.states, self.rates, self.metrics = [], [], []

    def keep(self, pl_module):
        state = pl_module.net.state_dict()
        self.states.append({name: value.clone() for name, value in state.items()})

    def on_train_start(self, trainer, pl_module):
        self.keep(pl_module)

    def on_train_batch_start(self, trainer, pl_module, *_):
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_train_epoch_end(self, trainer, pl_module):
        self.keep(pl_module)
        self.metrics.append({name: float(v) for name, v in trainer.callback_metrics.items()})


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("frozen_epochs", [1, 2, -1])
def test_a_frozen_body_rests_weights_and_statistics_and_then_thaws(tmp_path, frozen_epochs):
    made, watch = task(frozen_epochs=frozen_epochs), Watch()
    head = {f"{find_head(made.net)[0]}.{name}" for name in ("weight", "bias")}
    fit(made, tmp_path, 4, [watch])
    for epoch in range(4):
        changed = moved(watch.states[epoch], watch.states[epoch + 1])
        if frozen_epochs < 0 or epoch < frozen_epochs:
            assert changed == head
        else:
            assert changed == set(watch.states[0])
            assert any(name.endswith("running_mean") for name in changed)


def test_a_body_that_is_not_frozen_moves_at_once(tmp_path):
    made, watch = task(), Watch()
    fit(made, tmp_path, 1, [watch])
    assert moved(*watch.states) == set(watch.states[0])


def test_the_rate_shrinks_with_each_layer_away_from_the_head(tmp_path):
    made = task(partial(SGD, lr=0.1, weight_decay=0.3), layer_decay=0.5)
    trainer = fit(made, tmp_path, 1)
    optimizer, layers = trainer.optimizers[0], layer_groups(made.net)
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    for steps, (_, parameters) in enumerate(reversed(layers)):
        assert {rate[id(p)] for p in parameters} == {0.1 * 0.5**steps}
    assert len(layers) > 2
    assert all(decay[id(p)] == (0.3 if p.ndim > 1 else 0.0) for p in made.net.parameters())


def test_one_cycle_peaks_at_the_rate_of_each_group(tmp_path):
    made, watch = task(layer_decay=0.5, scheduler=lr_scheduler.OneCycleLR), Watch()
    trainer = fit(made, tmp_path, 4, [watch])
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    peaks = [group["max_lr"] for group in trainer.optimizers[0].param_groups]
    assert len(set(peaks)) > 2
    assert max(peaks) == 0.01
    highest = [max(rates) for rates in zip(*watch.rates, strict=True)]
    # The peak may fall between two of the twelve steps.
    assert highest == pytest.approx(peaks, rel=0.1)
    assert scheduler.total_steps == 12
    assert all(last < first / 100 for last, first in zip(watch.rates[-1], peaks, strict=True))


def test_cosine_falls_every_step_to_nothing_at_the_end(tmp_path):
    made, watch = task(scheduler=lr_scheduler.CosineAnnealingLR), Watch()
    fit(made, tmp_path, 2, [watch])
    rates = [max(rates) for rates in watch.rates]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 6
    assert rates[-1] < 1e-3


def test_other_schedulers_move_every_epoch(tmp_path):
    scheduler, watch = partial(lr_scheduler.StepLR, step_size=1, gamma=0.1), Watch()
    fit(task(scheduler=scheduler), tmp_path, 3, [watch])
    rates = [max(rates) for rates in watch.rates]
    assert rates == pytest.approx([0.01] * 3 + [0.001] * 3 + [0.0001] * 3)


def test_what_the_user_says_to_a_scheduler_is_kept(tmp_path):
    scheduler, watch = partial(lr_scheduler.OneCycleLR, max_lr=0.5, total_steps=200), Watch()
    trainer = fit(task(scheduler=scheduler), tmp_path, 1, [watch])
    config = trainer.lr_scheduler_configs[0]
    assert config.scheduler.total_steps == 200
    assert {g["max_lr"] for g in trainer.optimizers[0].param_groups} == {0.5}


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("val/loss", "min"), ("val/brier", "min"), ("val/ece", "min"), ("val/auroc", "max")],
)
def test_a_plateau_knows_which_way_its_monitor_improves(tmp_path, monitor, mode):
    made = task(scheduler=lr_scheduler.ReduceLROnPlateau, monitor=monitor)
    trainer = fit(made, tmp_path, 1)
    assert trainer.lr_scheduler_configs[0].scheduler.mode == mode == direction(monitor)
    told = partial(lr_scheduler.ReduceLROnPlateau, mode="min", patience=0)
    trainer = fit(task(scheduler=told, monitor=monitor), tmp_path, 1)
    assert trainer.lr_scheduler_configs[0].scheduler.mode == "min"


def test_a_plateau_lowers_the_rate_when_the_monitor_stops_improving(tmp_path):
    scheduler = partial(lr_scheduler.ReduceLROnPlateau, patience=0, threshold=1e9)
    made, watch = task(scheduler=scheduler, monitor="val/loss"), Watch()
    fit(made, tmp_path, 3, [watch])
    rates = [max(rates) for rates in watch.rates]
    assert rates[0] == 0.01
    assert rates[-1] < 0.01


def test_rates_the_config_leaves_out_are_the_optimizers_own(tmp_path):
    optimizer = fit(task(AdamW), tmp_path, 1).optimizers[0]
    assert {g["lr"] for g in optimizer.param_groups} == {0.001}
    assert {g["weight_decay"] for g in optimizer.param_groups} == {0.01, 0.0}


def test_without_a_scheduler_the_rate_stays(tmp_path):
    watch = Watch()
    fit(task(), tmp_path, 2, [watch])
    assert {rate for rates in watch.rates for rate in rates} == {0.01}


def alone(made):
    """A task outside of a trainer."""
    made.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    return made.train()


def test_l1_adds_the_sum_of_absolute_weights_to_what_is_minimised():
    plain = alone(task()).training_step(TRAIN[0], 0)
    made = alone(task(l1=0.25))
    expected = sum(float(p.abs().sum()) for p in made.net.parameters() if p.ndim > 1)
    made.training_step(TRAIN[0], 0)
    assert expected > 1
    loss = made.training_step(TRAIN[0], 0)
    assert float(loss - plain) == pytest.approx(0.25 * expected, rel=1e-5)
    loss.backward()
    kept = made._outputs["train"][0]["loss"]
    assert float(kept[0]) == pytest.approx(float(plain))  # curves compare with and without it


def predicted(made, part):
    made.eval()
    with torch.inference_mode():
        return torch.cat([made(batch["image"]) for batch in part])


@pytest.mark.parametrize("ema", [False, True])
def test_the_best_epochs_logged_scores_are_those_of_its_checkpoint(tmp_path, ema):
    """Train and val share no buffer, the last smaller batch counts by its rows, EMA is saved."""
    best = ModelCheckpoint(tmp_path, "best", "val/auroc", mode="max")
    last = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True)
    watch = Watch()
    averaging = [EMAWeightAveraging(decay=0.7)] if ema else []
    made = task()
    trainer = fit(made, tmp_path, 4, [*averaging, watch, best, last])
    labels = torch.cat([batch["label"] for batch in VAL])
    for saved in ("best", "last"):
        checkpoint = torch.load(tmp_path / f"{saved}.ckpt", weights_only=True)
        fresh = task()
        fresh.load_state_dict(checkpoint["state_dict"])
        logits = predicted(fresh, VAL)
        logged = watch.metrics[checkpoint["epoch"]]
        temperature = fit_temperature(logits, labels, "binary")
        for name, value in score((logits / temperature).softmax(1), labels, "binary").items():
            assert logged[f"val/{name}"] == pytest.approx(value, abs=1e-6), name
        losses = [cross_entropy(x, y) * len(x) for x, y in
                  zip(logits.split(8), labels.split(8), strict=True)]  # fmt: skip
        assert logged["val/loss"] == pytest.approx(float(sum(losses)) / 19, rel=1e-5)
        if ema:
            current = checkpoint["current_model_state"]
            assert moved(current, checkpoint["state_dict"])
    assert best_score(trainer, "val/auroc") == max(m["val/auroc"] for m in watch.metrics)
    if ema:
        final = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
        assert not moved(final, made.state_dict())


def test_averaged_weights_are_the_exponential_mean_of_the_steps(tmp_path):
    class Steps(Callback):
        def __init__(self):
            self.weights = []

        def on_train_batch_end(self, trainer, pl_module, *_):
            self.weights.append(find_head(pl_module.net)[1].weight.detach().clone())

    steps, best = Steps(), ModelCheckpoint(tmp_path, "best", "val/auroc", mode="max")
    fit(task(), tmp_path, 1, [EMAWeightAveraging(decay=0.7), steps, best])
    mean = steps.weights[0]
    for weight in steps.weights[1:]:
        mean = 0.7 * mean + 0.3 * weight
    state = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    name = f"net.{find_head(task().net)[0]}.weight"
    torch.testing.assert_close(state[name], mean)


def test_train_scores_are_those_of_the_training_steps(tmp_path):
    made, seen = task(), []
    original = made.training_step

    def watched(batch, batch_idx):
        loss = original(batch, batch_idx)
        seen.append({k: v.clone() for k, v in made._outputs["train"][-1].items()})
        return loss

    made.training_step = watched
    watch = Watch()
    fit(made, tmp_path, 1, [watch])
    outputs = concatenate(seen)
    assert len(outputs["logits"]) == 22
    expected = score(outputs["logits"].softmax(1), outputs["label"], "binary")
    for name, value in expected.items():
        assert watch.metrics[0][f"train/{name}"] == pytest.approx(value, abs=1e-6)
    assert watch.metrics[0]["train/loss"] == pytest.approx(float(outputs["loss"].mean()))


def test_scores_are_logged_over_epochs(tmp_path):
    watch = Watch()
    fit(task(), tmp_path, 2, [watch])
    assert [metrics["step"] for metrics in watch.metrics] == [0.0, 1.0]


class Explode(Optimizer):
    """An optimiser that makes every weight nan."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.fill_(torch.nan)
        return loss


@pytest.mark.parametrize("monitor", ["val/auroc", "val/loss"])
def test_a_training_that_diverges_is_a_sentence(tmp_path, monitor):
    mode = "min" if monitor == "val/loss" else "max"
    best = ModelCheckpoint(tmp_path, "best", monitor, mode=mode)
    trainer = fit(task(Explode), tmp_path, 2, [best])
    told = rf"training diverged: {monitor} was not a number .*lower model\.optimizer\.lr"
    with pytest.raises(MedvisionError, match=told):
        best_score(trainer, monitor)


def test_weights_of_another_training_are_a_start(tmp_path):
    source = task()
    fit(source, tmp_path, 1)
    torch.save(source.net.state_dict(), tmp_path / "weights.pth")
    made = task(weights=str(tmp_path / "weights.pth"))
    changed = moved(source.net.state_dict(), made.net.state_dict())
    assert all(name.endswith("num_batches_tracked") for name in changed)  # a counter, no weight
    assert made.loaded.missing == []
    assert task().loaded is None


def test_channels_last_is_only_a_memory_format():
    first, second = task(channels_last=True), task(channels_last=False)
    weights = [m.net.state_dict() for m in (first, second)]
    assert not moved(*weights)
    image = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(first.eval()(image), second.eval()(image))


def test_ranks_of_different_length_are_joined_without_padding():
    ranks = [torch.arange(6.0).reshape(3, 2), torch.arange(2.0).reshape(1, 2) + 10]

    class Gather:
        """What `all_gather` gives to rank 0 of two."""

        def all_gather(self, value):
            if value.ndim == 0:
                return torch.tensor([len(rank) for rank in ranks])
            return torch.stack([value, torch.cat([ranks[1], value.new_zeros(2, 2)])])

    assert torch.equal(gather_ranks(Gather(), ranks[0]), torch.cat(ranks))


def test_steps_are_joined_along_the_batch():
    assert concatenate([]) == {}
    joined = concatenate([{"a": torch.ones(2, 3)}, {"a": torch.zeros(1, 3)}])
    assert joined["a"].tolist() == [[1] * 3, [1] * 3, [0] * 3]


class Gradients(Callback):
    """Keeps all gradients of each step as they were used."""

    def __init__(self):
        self.held = []

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        grads = [p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]
        self.held += [torch.cat(grads).float().clone()] if grads else []


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("clip", [None, 1e-3])
def test_gradients_are_clipped_beside_a_fused_optimizer_and_their_norm_is_logged(
    tmp_path, precision, clip
):
    """Lightning refuses this pair under bf16, where nothing speaks against it."""
    used, made = Gradients(), task(partial(AdamW, lr=0.01, fused=True))
    trainer = fit(made, tmp_path, epochs=1, callbacks=[used], precision=precision,
                  gradient_clip_val=clip)  # fmt: skip
    norms = [float(held.norm()) for held in used.held]
    logged = float(trainer.callback_metrics["train/grad_norm"])  # of three steps, before clipping
    assert logged > 0.01
    assert len(norms) >= 2
    if clip:
        assert norms == pytest.approx([clip] * len(norms), rel=1e-2)
    else:
        assert min(norms) < logged * 1.5
        assert max(norms) > logged * 0.5


def test_gradients_can_be_clipped_one_by_one(tmp_path):
    used = Gradients()
    fit(task(), tmp_path, epochs=1, callbacks=[used], gradient_clip_val=1e-4,
        gradient_clip_algorithm="value")  # fmt: skip
    assert max(float(held.abs().max()) for held in used.held) == pytest.approx(1e-4)


PAIRS = [[(batch["image"], batch["label"]) for batch in part] for part in (TRAIN, VAL)]


def test_pairs_of_images_and_labels_are_batches_too(tmp_path):
    plain, paired = task(), task()
    logged = fit(plain, tmp_path, 2).callback_metrics
    told = fit(paired, tmp_path, 2, train=PAIRS[0], val=PAIRS[1]).callback_metrics
    assert not moved(plain.net.state_dict(), paired.net.state_dict())
    assert {k: float(v) for k, v in told.items()} == {k: float(v) for k, v in logged.items()}


def test_it_tests_and_predicts_as_lightning_does(tmp_path):
    made = task()
    trainer = fit(made, tmp_path, 1)
    loader = DataLoader(VAL, batch_size=None)
    (scores,) = trainer.test(made, loader, verbose=False)
    (again,) = trainer.validate(made, loader, verbose=False)
    assert scores["test/auroc"] == again["val/auroc"]
    answers = trainer.predict(made, DataLoader([b["image"] for b in VAL], batch_size=None))
    torch.testing.assert_close(
        torch.cat([answer["logits"] for answer in answers]), predicted(made, VAL)
    )


class Noted(torch.Tensor):
    """A tensor that carries facts along, as MONAI's does."""


def test_what_is_kept_of_an_epoch_is_of_torchs_own_class(tmp_path):
    noted = [batch | {"image": batch["image"].as_subclass(Noted),
                      "label": batch["label"].as_subclass(Noted)} for batch in TRAIN]  # fmt: skip
    made, plain = alone(task()), alone(task())
    for batch, usual in zip(noted, TRAIN, strict=True):
        made.training_step(batch, 0)
        plain.training_step(usual, 0)
    assert isinstance(made(noted[0]["image"]), Noted)
    for kept, usual in zip(made._outputs["train"], plain._outputs["train"], strict=True):
        assert {type(value) for value in kept.values()} == {torch.Tensor}
        assert all(torch.equal(kept[name], usual[name]) for name in usual)


class Naming(torch.nn.Module):
    """Reads what it names of a batch, and answers with a dictionary."""

    def __init__(self):
        super().__init__()
        self.body = ConvNet(2, 1, widths=(4, 8), dropout=0.0)

    def forward(self, image, index):
        return {"logits": self.body(image) + 0 * index[:, None], "index": index}


def test_a_net_is_given_what_it_names_and_may_answer_with_a_dictionary(tmp_path):
    torch.manual_seed(0)
    made = task(net=Naming())
    fit(made, tmp_path, 1)
    answer = made(VAL[0])
    assert torch.equal(answer["index"], VAL[0]["index"])
    assert made.infer(made.net.eval(), VAL[0], {})["logits"].shape == (8, 2)


def test_a_checkpoint_says_what_it_wants_or_what_to_take_instead(tmp_path):
    best = ModelCheckpoint(tmp_path, "best", "val/auroc", mode="max")
    made = task()
    fit(made, tmp_path, 1, [best])
    with pytest.raises(MedvisionError, match=r"with medvision\.load, or give net=… as well"):
        Classifier.load_from_checkpoint(tmp_path / "best.ckpt")
    net = ConvNet(2, 1, widths=(4, 8), dropout=0.0)
    loaded = Classifier.load_from_checkpoint(tmp_path / "best.ckpt", net=net, loss=cross_entropy)
    assert not moved(loaded.net.state_dict(), made.net.state_dict())


def test_a_net_is_all_that_a_task_must_be_given(tmp_path):
    made = Classifier(ConvNet(2, 1, widths=(4, 8)))
    trainer = fit(made, tmp_path, 1)
    assert made.monitor == Classifier.monitor == "val/auroc"
    assert isinstance(trainer.optimizers[0], AdamW)


def given_alone(size):
    """Return what `prepare` reads of a run: batches of one image, 8 x 8 pixels."""
    rows = SimpleNamespace(of=lambda part: [4, 7], batches=lambda index: iter(TRAIN_OF_ONE))
    return SimpleNamespace(
        config=SimpleNamespace(data=SimpleNamespace(batch_size=size)), rows=rows
    )  # fmt: skip


TRAIN_OF_ONE = batches(1, 1, 0)


def test_a_batch_of_one_is_refused_where_a_norm_gets_one_number():
    """Eight pixels are one after three halvings, and one number has no spread."""
    deep = ConvNet(2, 1, widths=(4, 4, 4, 4), dropout=0.0)
    made = task(net=deep)
    state = {name: value.clone() for name, value in made.net.state_dict().items()}
    with pytest.raises(MedvisionError, match=r"data.batch_size=1 leaves .* ConvNet.*; say data"):
        made.prepare(given_alone(1))
    assert not moved(state, made.net.state_dict())
    assert made.prepare(given_alone(2)) == ()
    assert task().prepare(given_alone(1)) == ()
    frozen = task(net=ConvNet(2, 1, widths=(4, 4, 4, 4), dropout=0.0), frozen_epochs=-1)
    assert frozen.prepare(given_alone(1)) == ()


class Statistics(Callback):
    """Keeps the running mean of the first norm, and what its own features' mean is."""

    def on_validation_epoch_end(self, trainer, pl_module):
        norm = pl_module.net.stem[1]
        self.kept = norm.running_mean.clone()
        with torch.no_grad():
            features = [pl_module.net.stem[0](batch["image"]) for batch in TRAIN[:2]]
        self.own = torch.stack([f.mean((0, 2, 3)) for f in features]).mean(0)


@pytest.mark.parametrize("averaged", [False, True])
def test_batch_norm_is_validated_with_the_statistics_of_its_own_weights(tmp_path, averaged):
    seen = Statistics()
    callbacks = [seen, EMAWeightAveraging(decay=0.9)] if averaged else [seen]
    fit(task(partial(SGD, lr=0.5)), tmp_path, 2, callbacks, train=TRAIN[:2])
    torch.testing.assert_close(seen.kept, seen.own, rtol=1e-4, atol=1e-5)


class Darkened(LightningDataModule):
    """Trains on images that are darker than they are, as augmentation makes them."""

    def __init__(self, more):
        super().__init__()
        self.more = more

    def train_dataloader(self):
        dark = [{**batch, "image": batch["image"] / 4, "index": torch.tensor([n]), **self.more}
                for n, batch in enumerate(TRAIN[:2])]  # fmt: skip
        return DataLoader(dark, batch_size=None)

    def val_dataloader(self):
        return DataLoader(TRAIN[:1], batch_size=None)

    def serve_unchanged(self, indices):
        return [TRAIN[int(index)] for index in indices]


@pytest.mark.parametrize(("more", "share"), [({"length": torch.ones(8)}, 1.0), ({}, 0.25)])
def test_of_series_the_statistics_are_of_images_as_val_shows_them(tmp_path, more, share):
    """Those of augmented ones called nearly all unseen series one class."""
    seen = Statistics()
    trainer = open_trainer(tmp_path, 2, [seen])
    trainer.fit(task(partial(SGD, lr=0.5)), Darkened(more))
    torch.testing.assert_close(seen.kept, share * seen.own, rtol=1e-4, atol=1e-5)
