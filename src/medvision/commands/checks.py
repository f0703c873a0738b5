"""What is refused before the first batch."""

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

import medvision.files as files
from medvision.augment.draw import Augment
from medvision.commands.compilation import check_compile
from medvision.commands.ranges import check_ranges
from medvision.commands.ranks import takes_several
from medvision.data.datamodule import ImageDataModule
from medvision.data.samples import Samples
from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.evaluation.calibration import parse_rule
from medvision.evaluation.metrics import METRICS, undefined_metrics
from medvision.model import Seen, is_model_file, load_model, read_model_file, refuse_generator
from medvision.runs import Run, find_run

JUDGED = ("gate_score", "coverage")
"""What a generator can be chosen by, without `val/`."""


def makes_images(config: DictConfig) -> bool:
    """Tell a generator against its critic from what is supervised."""
    return "critic" in config.model


def find_weights(weights: str | None) -> str | None:
    """Find a weight file: as typed, under `MEDVISION_DATA`, or the model of a run."""
    if weights is None:
        return None
    if Path(weights).is_file():
        return str(Path(weights).resolve())
    with suppress(MedvisionError):
        found = files.find_input(weights)
        if found.is_file():  # a folder is a run
            return str(found)
    try:
        return str(find_run(weights).model)
    except MedvisionError as error:
        raise MedvisionError(f"model.weights={weights} is no file, and no run: {error}") from error


def check_pretraining(weights: str | None, data: ImageDataModule) -> Seen:
    """Refuse to start from a model that has met the patients or images it will be judged on.

    Returns:
        what that model has seen, which the new one inherits; nothing for foreign weights.
    """
    if weights is None or not is_model_file(Path(weights)):
        return Seen()
    samples, key = data.ready, data.card.key if data.card else None
    content = read_model_file(Path(weights))
    refuse_generator(content, f"model.weights={weights}")
    seen = Seen(**content["seen"])
    for part in ("val", "test"):
        patients, images = samples.seen(part)
        # On the same split the earlier val part may choose once more; nothing may meet test.
        met, shared = seen.meet(patients, images, key, train=part == "val")
        if met or shared:
            raise MedvisionError(
                f"model.weights={weights} has seen {len(met)} patients and {len(shared)} images of "
                f"the {part} part, so a score there would prove nothing; start from another model, "
                "or keep its split (data.split_seed, data.fold)"
            )
    return seen


def find_judge(config: DictConfig, data: ImageDataModule) -> Run | None:
    """Find the classifier in whose eyes a generator is judged as well.

    Raises:
        MedvisionError: it answers another question, reads images otherwise, or has learned from
            images that are to judge.
    """
    if config.judge.run is None:
        return None
    run = find_run(config.judge.run)
    model, samples = load_model(run.model), data.ready
    key = data.card.key if data.card else None
    met = [len(set().union(*model.seen.meet(*samples.seen(part), key, train=part == "val")))
           for part in ("val", "test")]  # fmt: skip
    problems = {
        f"its classes are {model.classes}, not {samples.classes.names}":
            model.classes != samples.classes.names,
        "it reads series": model.series is not None,
        f"it reads images as {model.contract}, which data.reader does not":
            model.contract != data.reader.contract(),
        f"it has met patients or images of val ({met[0]}) or test ({met[1]})": any(met),
    }  # fmt: skip
    if found := [problem for problem, there in problems.items() if there]:
        way_out = "Train a classifier on this manifest, split and size, and name it"
        raise collect(f"judge.run={config.judge.run} cannot judge", found, way_out)
    return run


def find_inception(place: str) -> Path:
    """Find Inception's weights before an hour of training.

    Raises:
        MedvisionError: no such file, or no package to read it with.
    """
    path = files.find_input(place)
    if find_spec("torch_fidelity") is None:
        raise MedvisionError(
            "judge.inception needs torch-fidelity; add it with: pip install 'medvision[gan]'"
        )
    return path


def check_labels(data: ImageDataModule) -> None:
    """Refuse labels that no generator can be told."""
    if data.ready.classes.kind == "multilabel":
        raise MedvisionError(
            "images with several labels each cannot be asked of a generator, which is told one "
            "class; give data.columns.label=… with one class an image"
        )


def check_generators(data: ImageDataModule) -> list[Seen]:
    """Refuse generated images whose generator has met the patients or images of val or test.

    Returns:
        what each generator has seen, which a model that trains on its images inherits.
    """
    samples, key = data.ready, data.card.key if data.card else None
    met = []
    for made in samples.generated:
        seen = Seen(**made.seen, key=made.key)
        for part in ("val", "test"):
            # On the same split the generator's val part may choose once more, as in pretraining.
            patients, images = seen.meet(*samples.seen(part), key, train=part == "val")
            if patients or images:
                raise MedvisionError(
                    f"the generator of data.extra ({made.run}) has seen {len(patients)} patients "
                    f"and {len(images)} images of the {part} part, so a score there would prove "
                    "nothing; train a generator on this split (data.split_seed, data.fold)"
                )
        met.append(seen)
    return met


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
    label = samples.label[samples.rows("val")]
    if len(label) and monitor.removeprefix("val/") in JUDGED:
        return
    if len(label) == 0:
        raise MedvisionError(
            "the val part is empty, so no epoch can be chosen; give some rows split=val, "
            "or let medvision cut it with data.mode=patient"
        )
    reasons = undefined_metrics(label, samples.classes.kind)
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
    counts = {name: count_labels(samples, name) for name in ("train", part)}
    problems = [
        f"{name!r} ({found} rows)"
        for name, found, learned in zip(
            samples.classes.names, counts[part], counts["train"], strict=True
        )
        if found and not learned
    ]
    if problems:
        raise collect(
            f"labels of the {part} part that no training row has", problems,
            "Give some of their rows to train, or map them with data.rename.THEIRS=OURS",
        )  # fmt: skip


def count_labels(samples: Samples, part: str) -> list[int]:
    """Count the rows of each class in a part."""
    label = samples.label[samples.rows(part)]
    if label.ndim == 1:
        return [int((label == k).sum()) for k in range(len(samples.classes.names))]
    return [int((label[:, k] == 1).sum()) for k in range(label.shape[1])]
