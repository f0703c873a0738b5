"""Every file under conf/ composes with every experiment, fits the code and takes a step."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from medvision.errors import MedvisionError
from medvision.tasks import find_task
from medvision.tasks.task import OF_THE_NET
from medvision.training.build import build_task
from medvision.training.config import conf_folder, register_resolvers
from medvision.training.validate import check_settings

CONF = conf_folder()
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
FILES = {group: sorted(p.stem for p in (CONF / group).glob("*.yaml")) for group in GROUPS}
EXPERIMENTS = FILES["experiment"]
CHOICES = [(group, name) for group in GROUPS if group != "experiment" for name in FILES[group]]
TASKS = ("classification.task.Classifier", "regression.task.Regressor",
         "regression.ordinal.task.OrdinalRegressor")  # fmt: skip
CONSUMED = {f"medvision.tasks.{task}": {*OF_THE_NET} for task in TASKS}
GENERATORS = [name for name in FILES["model"] if name.startswith("dcgan")]
GANS = [name for name in EXPERIMENTS if name.startswith("dcgan")]
OF_SERIES = ("rnn", "rnn_torchvision", "mean_pool", "max_pool", "regression_rnn")


@pytest.fixture(scope="module", autouse=True)
def hydra_here():
    register_resolvers()


@pytest.fixture
def composed():
    """`composed("model=keras_cnn")` → the configuration."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield lambda *words: compose("train", ["name=tested", *words])


def nodes(config: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every mapping with a `_target_`, with its dotted place."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield place, config
        for key, value in config.items():
            yield from nodes(value, f"{place}.{key}".strip("."))


def arguments_of(target: str) -> set[str] | None:
    """The keyword arguments of a function or class, `**others` followed; None = any."""
    built = get_object(target)
    chain = [c for c in built.__mro__ if "__init__" in vars(c)] if inspect.isclass(built) else []
    known: set[str] = set()
    for step in chain or [built]:
        parameters = inspect.signature(step).parameters.values()
        known |= {p.name for p in parameters}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return known
    return None


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_every_file_composes_with_every_experiment(experiment, every, composed):
    groups = [group for group in GROUPS if group != "experiment"]
    longest = max(len(FILES[group]) for group in groups)
    first = EXPERIMENTS.index(experiment) % every  # so that every file is composed with some
    for n in range(first, longest, every):  # one file of each group at a time
        words = [f"{group}={FILES[group][n % len(FILES[group])]}" for group in groups]
        config = composed(f"experiment={experiment}", *words)
        plain = OmegaConf.to_container(config, resolve=True)
        assert plain["data"]["augment"] == plain["augment"], words
        assert set(plain) >= {"seed", "monitor", "test", "data", "model", "trainer", "callbacks"}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_passes_the_first_checks(experiment, composed, tmp_path):
    check_settings(composed(f"experiment={experiment}"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data.unit=series"], "gives batches of series, and this model takes single images; take"),
        (["data.unit=series", "model=torchvision"], "and this model takes single images; take"),
        (["model=rnn"], "this model reads series, and data.unit=image gives single images; say"),
        (
            ["model=rnn", "data.unit=series", "+model.mixup=0.2"],
            "data.unit=series gives series;",
        ),
        (["operating_point=best"], "operating_point=best is not a rule; take one of youden, f1"),
        (["judge=default"], "judge= is for a generator, and this model makes no images; leave it"),
        (["monitor=val/dice"], "monitor=val/dice does not exist; use val/ with one of loss, auroc"),
        (
            ["monitor=train/auroc"],
            "measured on the val part; choose val/auroc or another val/…",
        ),
        (
            ["model=rnn", "data.unit=series", "model.cache_features=true", "augment=ct"],
            "keeps one answer a slice, but: the encoder learns (model.frozen_epochs=-1 lets it "
            "rest for good); images change (augment=none). Change these keys",
        ),
        (
            ["judge=default", "data.unit=series"],
            "this cannot be trained: data.unit=series gives batches of series, and this model "
            "takes single images; take a model of series (model=…rnn), or say data.unit=image to "
            "train on slices; judge= is",
        ),
    ],
)
def test_what_a_task_cannot_do_is_told_before_anything_is_read(words, told, composed):
    with pytest.raises(MedvisionError) as error:
        check_settings(composed(*words))
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("words", "monitor"),
    [([], "val/auroc"), (["experiment=dcgan_phantom"], "val/gate_score"),
     (["experiment=rnn_phantom"], "val/auroc"), (["monitor=val/loss"], "val/loss"),
     (["experiment=regression_phantom"], "val/mae"), (["model=ordinal"], "val/kappa")],
)  # fmt: skip
def test_each_task_has_a_score_of_its_own_that_picks_the_epoch(words, monitor, composed):
    config = composed(*words)
    assert config.monitor == monitor
    if "early_stopping" in (config.callbacks or {}) and config.callbacks.early_stopping:
        assert config.callbacks.early_stopping.monitor == monitor


@pytest.mark.parametrize(("group", "name"), [*CHOICES, *(("experiment", e) for e in EXPERIMENTS)])
def test_every_key_is_an_argument_of_its_target(group, name, composed):
    plain = OmegaConf.to_container(composed(f"{group}={name}"), resolve=True)
    found = dict(nodes(plain))
    nets = {"model.generator", "model.critic"} if "model.critic" in found else {"model.net"}
    assert {"data", "data.reader", "augment", "model", "trainer"} | nets <= set(found)
    for place, node in found.items():
        known = arguments_of(node["_target_"])
        keys = {key for key in node if not key.startswith("_")} - CONSUMED.get(
            node["_target_"], set()
        )
        assert known is None or keys <= known, (place, keys - known)


def test_a_key_that_is_no_argument_is_noticed():
    assert "no_such_key" not in (
        arguments_of("medvision.tasks.classification.task.Classifier") or set()
    )
    assert "frozen_epochs" in (
        arguments_of("medvision.tasks.classification.task.Classifier") or set()
    )


def tiny_data(phantom, experiment="random_labels"):
    weights = [] if experiment in GANS else ["model.weights=null"]
    classes = "[healthy,lesion]" if experiment.startswith("ordinal") else "null"
    return (
        f"experiment={experiment}", *weights, f"data.manifest='{phantom}'", "data.source=null",
        f"data.classes={classes}", "data.reader.window=[-100,200]", "data.batch_size=8",
        "data.workers=1", "trainer=debug", "data.channels=null",
        "data.difference=false", "data.stratify=null",
    )  # fmt: skip


def take_step(config, folder):
    """Build all parts and take one step; return how far the weights moved."""
    lightning.seed_everything(0, verbose=False)
    data = instantiate(config.data)
    data.target = find_task(config.model._target_).target
    data.setup()
    task = build_task(config, data, None)
    net = task.net if task.predicts else task.generator
    before = {name: value.clone() for name, value in net.named_parameters()}
    trainer = lightning.Trainer(
        max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=1, num_sanity_val_steps=0,
        default_root_dir=folder, accelerator="cpu", use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(task, data)
    assert trainer.global_step == (1 if task.predicts else 2)  # of both sides
    assert all(torch.isfinite(value).all() for value in net.parameters())
    return {n for n, value in net.named_parameters() if not torch.equal(value, before[n])}


@pytest.mark.parametrize("augment", FILES["augment"])
def test_every_augment_takes_a_step(augment, composed, phantom, tmp_path):
    words = (*tiny_data(phantom), f"augment={augment}", "model.net.widths=[4,8]")
    assert take_step(composed(*words, "data.reader.size=[32,32]"), tmp_path)


@pytest.mark.parametrize("model", sorted({*FILES["model"]} - {*GENERATORS}))
def test_every_model_takes_a_step(model, composed, phantom, tmp_path):
    unit = "series" if model in OF_SERIES else "image"
    words = [f"model={model}", "data.reader.channels=3", "data.reader.size=[64,64]",
             f"data.unit={unit}"]  # fmt: skip
    plain = tiny_data(phantom, "cnn_pneumoniamnist")
    asked = {"ordinal": ["data.classes=[healthy,lesion]"],
             "regression_rnn": ["+data.annotation.targets=[volume_ml]"]}  # fmt: skip
    words += ["data.columns=null", *asked.get(model, [])]
    assert take_step(composed(*plain, *words), tmp_path)


@pytest.mark.parametrize("model", GENERATORS)
@pytest.mark.parametrize(("size", "channels"), [(32, 1), (64, 3)])
def test_every_generator_takes_a_step(model, size, channels, composed, phantom, tmp_path):
    words = [f"model={model}", f"data.reader.channels={channels}",
             f"data.reader.size=[{size},{size}]"]  # fmt: skip
    moved = take_step(composed(*tiny_data(phantom, "dcgan_phantom"), *words), tmp_path)
    assert {name.partition(".")[0] for name in moved} == {"embed", "layers"}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_takes_a_step(experiment, composed, phantom, tmp_path):
    config = composed(*tiny_data(phantom, experiment), "data.reader.size=[64,64]")
    moved = take_step(config, tmp_path)
    series = config.data.unit == "series"  # of those the encoder alone may rest
    if experiment in GANS:
        assert moved
        return
    heads = ("head", "classifier", "fc", *(["cell", "aggregation", "slice_head"] if series else []))
    body = [name for name in moved if not name.startswith(heads)]
    assert moved
    assert bool(body) == (config.model.frozen_epochs == 0)


@pytest.mark.slow  # generators need more images to be judged by: tests/commands/test_judging.py
@pytest.mark.parametrize("experiment", sorted({*EXPERIMENTS} - {*GANS}))
def test_every_experiment_runs_from_end_to_end(experiment, phantom, apart, medvision):
    words = [word.replace("'", "") for word in tiny_data(phantom, experiment)]
    done = medvision("train", *words, "data.reader.size=[64,64]")
    assert done.status == 0, done.err
    assert len(list(apart.glob(f"{experiment}/*/report.html"))) == 1


def test_debug_takes_two_batches_through_every_step(composed):
    trainer = composed("trainer=debug").trainer
    assert (trainer.max_steps, trainer.limit_train_batches, trainer.limit_val_batches) == (2, 2, 2)


def test_a_profile_takes_the_steps_it_needs_and_opens_no_test_part(composed):
    config = composed("trainer=profile", "experiment=cnn_phantom")
    profile, trainer = config.callbacks.profile, config.trainer
    needed = profile.warmup + profile.timed + 1 + profile.traced  # one in which tracing starts
    assert (trainer.max_steps, trainer.limit_train_batches) == (needed, needed)
    assert trainer.precision == "auto"  # all else is as in any run
    assert config.callbacks.early_stopping is not None
    assert config.test is False
