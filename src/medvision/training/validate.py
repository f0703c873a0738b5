"""What is refused before the first batch."""

from collections.abc import Iterator
from math import inf
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from medvision.augment.draw import Augment
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.batches.mixing import RULE, is_ratio
from medvision.data.batches.samples import Samples
from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.tasks.classification.calibration import parse_rule
from medvision.tasks.classification.metrics import METRICS, undefined_metrics
from medvision.training.distributed import takes_several
from medvision.training.machine import check_compile

JUDGED = ("gate_score", "coverage")
"""What a generator can be chosen by, without `val/`."""


def makes_images(config: DictConfig) -> bool:
    """Tell a generator against its critic from what is supervised."""
    return "critic" in config.model


def check_labels(data: ImageDataModule) -> None:
    """Refuse labels that no generator can be told."""
    if data.ready.target.plain()["kind"] == "multilabel":
        raise MedvisionError(
            "images with several labels each cannot be asked of a generator, which is told one "
            "class; give data.columns.label=… with one class an image"
        )


def check_settings(config: DictConfig) -> None:
    """Refuse what cannot work before anything is read."""
    check_ranges(config)
    parse_rule(str(config.operating_point))
    monitor = str(config.monitor)
    part, _, name = monitor.partition("/")
    known = JUDGED if makes_images(config) else ("loss", *METRICS)
    if part != "val":
        raise MedvisionError(
            f"monitor={monitor} is not measured on the val part; choose val/auroc or another val/…"
        )
    if name not in known:
        raise MedvisionError(
            f"monitor={monitor} does not exist{did_you_mean(name, known)}; "
            f"use val/ with one of {', '.join(known)}"
        )
    check_unit(config)
    if makes_images(config):
        check_adversary(config)
    elif config.get("judge") is not None:
        raise MedvisionError(
            "judge= is for a generator, and this model classifies; leave it out, or take "
            "experiment=dcgan_phantom"
        )
    wanted = str(config.trainer.accelerator)
    if wanted in ("gpu", "cuda") and not torch.cuda.is_available():
        raise MedvisionError(
            f"trainer.accelerator={wanted} but torch sees no GPU; say trainer.accelerator=auto"
        )
    check_compile(config)


def check_adversary(config: DictConfig) -> None:
    """Refuse what a generator against its critic cannot be trained with."""
    trainer = config.trainer
    problems = {
        "judge=default is missing: without it no epoch can be chosen": config.get("judge") is None,
        "test=true, and a generator never opens the test part (test=false)": config.test,
        "trainer.gradient_clip_val clips no GAN (null; model.clip=… does)":
            trainer.gradient_clip_val is not None,
        "trainer.accumulate_grad_batches must be 1": trainer.accumulate_grad_batches != 1,
        "float16 cannot hold the penalties (trainer.precision=bf16-mixed or 32-true)":
            str(trainer.precision).startswith("16"),
        "a GAN trains on one device (trainer.devices=1)": takes_several(config),
        "data.unit=series (image)": config.data.get("unit") == "series",
        "generated images teach no generator (data.extra_ratio=null)":
            config.data.get("extra_ratio") is not None,
        "callbacks.ema beside the average it has already (callbacks=default)":
            config.callbacks.get("ema") is not None,
    }  # fmt: skip
    if found := [problem for problem, there in problems.items() if there]:
        raise collect("this model makes images, and", found, "Start from experiment=dcgan_phantom")


def check_unit(config: DictConfig) -> None:
    """Refuse series for a model of images, images for one of series, and features that change."""
    series, target = config.data.get("unit") == "series", str(config.model._target_)
    takes_series = target.endswith("SequenceClassifier")
    if series and not takes_series and target.startswith("medvision."):
        raise MedvisionError(
            "data.unit=series gives batches of series, and this model takes single images; "
            "say model=rnn, or data.unit=image to train on slices"
        )
    if takes_series and not series:
        raise MedvisionError(
            "this model reads series, and data.unit=image gives single images; say data.unit=series"
        )
    if not config.model.get("cache_features"):
        return
    problems = {
        "the encoder learns (model.frozen_epochs=-1 lets it rest for good)":
            config.model.frozen_epochs >= 0,
        "images change (augment=none)": instantiate(config.augment) != Augment(),
        "neighbours change places where series are reversed (data.sequence.reverse=false)":
            config.data.neighbours > 0 and config.data.sequence.reverse,
    }  # fmt: skip
    if found := [problem for problem, there in problems.items() if there]:
        raise collect("model.cache_features=true keeps one answer a slice, but", found,
                      "Change these keys, or say model.cache_features=false")  # fmt: skip


def check_monitor(monitor: str, data: ImageDataModule) -> None:
    """Refuse a monitor that the val part cannot define, before the first batch."""
    samples = data.ready
    label = np.asarray(samples.targets["label"])[samples.rows("val")]
    if len(label) and monitor.removeprefix("val/") in JUDGED:
        return
    if len(label) == 0:
        raise MedvisionError(
            "the val part is empty, so no epoch can be chosen; give some rows split=val, "
            "or let medvision cut it with data.mode=patient"
        )
    reasons = undefined_metrics(label, samples.target.plain()["kind"])
    name = monitor.removeprefix("val/")
    if name in reasons:
        raise MedvisionError(
            f"monitor={monitor} is undefined on the val part ({reasons[name]}); "
            "choose monitor=val/loss, or a split whose val part has every class"
        )


def check_parts(config: DictConfig, data: ImageDataModule) -> None:
    """Refuse an empty train part, or a test that was asked for and is not there."""
    if len(data.train_rows()) == 0:
        raise MedvisionError("the train part has no labelled row; check split and label columns")
    if config.test and len(data.ready.rows("test")) == 0:
        raise MedvisionError(
            "test=true but the manifest has no test rows; say test=false, or give some split=test"
        )
    for part in ("val", "test") if config.test else ("val",):
        check_learned(data.ready, part)


def check_learned(samples: Samples, part: str) -> None:
    """Refuse a part that holds a label no training row has: it cannot have been learned."""
    learned, held = (samples.count(samples.rows(name))["per_class"] for name in ("train", part))
    problems = [
        f"{name!r} ({found} rows)" for name, found in held.items() if found and not learned[name]
    ]
    if problems:
        raise collect(
            f"labels of the {part} part that no training row has", problems,
            "Give some of their rows to train, or map them with data.rename.THEIRS=OURS",
        )  # fmt: skip


MAY_BE_NULL = (
    "threads", "data.fold", "data.workers", "data.epoch_size", "data.extra_ratio",
    "trainer.gradient_clip_val", "model.clip",
)  # fmt: skip
WHOLE = {
    "seed": 0, "tta": 0, "threads": 1, "data.batch_size": 1, "data.fold": 0, "data.folds": 2,
    "data.split_seed": 0, "data.workers": 1, "model.frozen_epochs": -1, "trainer.max_epochs": 1,
    "trainer.accumulate_grad_batches": 1, "callbacks.early_stopping.patience": 0,
    "data.epoch_size": 1, "model.generator.latent": 1, "model.generator.embedding": 0,
    "model.penalty_every": 1, "judge.patience": 0, "judge.k": 1,
}  # fmt: skip
"""Key → the lowest whole number it may be."""
REAL = {
    "model.optimizer.lr": (0.0, inf), "model.optimizer.weight_decay": (0.0, inf),
    "model.layer_decay": (0.0, 1.0), "model.mixup": (0.0, inf), "model.l1": (0.0, inf),
    "model.loss.label_smoothing": (0.0, 1.0), "model.slice_weight": (0.0, inf),
    "trainer.gradient_clip_val": (0.0, inf), "model.critic_optimizer.lr": (0.0, inf),
    "model.kimg": (0.001, inf), "model.ema_kimg": (0.0, inf), "model.policy_kimg": (0.0, inf),
    "model.warmup_kimg": (0.0, inf), "model.r1": (0.0, inf), "model.r2": (0.0, inf),
    "model.gradient_penalty": (0.0, inf), "model.clip": (0.0, inf), "model.final_lr": (0.0, 1.0),
    "judge.grace": (0.0, 1.0),
}  # fmt: skip
"""Key → the lowest and the highest number it may be."""
CHOICES: dict[str, tuple[str | bool | None, ...]] = {
    "allocator": ("keep", "system"),
    "compile": ("auto", True, False, "reduce-overhead"),
    "data.on_leak": ("error", "drop"),
    "data.on_unreadable": ("stop", "exclude"),
    "data.residency": ("auto", "disk", "host", "device"),
    "data.backend": ("auto", "host", "device"),
    "model.class_weights": ("balanced", None),
}
WORDS: dict[str | bool | None, str] = {None: "null", True: "true", False: "false"}
RATIO = "data.extra_ratio"
SWITCHES = ("test", "rerun", "data.balance", "model.channels_last", "model.cache_features")


def check_ranges(config: DictConfig) -> None:
    """Refuse values out of range, all of them at once.

    Raises:
        MedvisionError: naming each key with what it may be.
    """
    problems = list(find_problems(config))
    if problems:
        raise collect("values that cannot be", problems, "Mend them and run again")


def find_problems(config: DictConfig) -> Iterator[str]:
    """Yield a sentence for each key whose value cannot be; keys a config lacks are no problem."""
    for key in (*WHOLE, *REAL, *CHOICES, *SWITCHES, RATIO):
        parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
        if not isinstance(parent, DictConfig) or key.rpartition(".")[2] not in parent:
            continue
        value = OmegaConf.select(config, key)
        if value is None and key in MAY_BE_NULL:
            continue
        if (rule := _broken_rule(key, value)) is not None:
            yield f"{key}={'null' if value is None else value} must be {rule}"


def _broken_rule(key: str, value: Any) -> str | None:
    if key in CHOICES:
        shown = [WORDS.get(choice, str(choice)) for choice in CHOICES[key]]
        near = did_you_mean(str(value), shown)
        # 1 is no true.
        fits = any(value == choice and type(value) is type(choice) for choice in CHOICES[key])
        return None if fits else f"{' or '.join(shown)}{near}"
    if key == RATIO:
        return None if is_ratio(value) else RULE
    if key in SWITCHES:
        return None if isinstance(value, bool) else "true or false"
    if key in WHOLE:
        fits = type(value) is int and value >= WHOLE[key]
        return None if fits else f"a whole number, {WHOLE[key]} or more"
    low, high = REAL[key]
    fits = type(value) in (int, float) and low <= value <= high
    return None if fits else f"a number from {low:g}" + ("" if high == inf else f" to {high:g}")
