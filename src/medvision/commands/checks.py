"""What is refused before the first batch."""

from pathlib import Path

import torch
from omegaconf import DictConfig

import medvision.files as files
from medvision.data.datamodule import ImageDataModule
from medvision.errors import MedvisionError, did_you_mean
from medvision.evaluation.metrics import METRICS, undefined_metrics
from medvision.runs import find_run


def find_weights(weights: str | None) -> str | None:
    """Find a weight file: as typed, under `MEDVISION_DATA`, or the model of a run."""
    if weights is None:
        return None
    if Path(weights).is_file():
        return str(Path(weights).resolve())
    try:
        return str(files.find_input(weights))
    except MedvisionError:
        return str(find_run(weights).model)


def check_settings(config: DictConfig) -> None:
    """Refuse what cannot work before anything is read."""
    monitor = str(config.monitor)
    part, _, name = monitor.partition("/")
    known = ("loss", *METRICS)
    if part != "val":
        raise MedvisionError(
            f"monitor={monitor} is not measured on the val part; choose val/auroc or another val/…"
        )
    if name not in known:
        raise MedvisionError(
            f"monitor={monitor} does not exist{did_you_mean(name, known)}; "
            f"use val/ with one of {', '.join(known)}"
        )
    wanted = str(config.trainer.accelerator)
    if wanted in ("gpu", "cuda") and not torch.cuda.is_available():
        raise MedvisionError(
            f"trainer.accelerator={wanted} but torch sees no GPU; say trainer.accelerator=auto"
        )


def check_monitor(monitor: str, data: ImageDataModule) -> None:
    """Refuse a monitor that the val part cannot define, before the first batch."""
    samples = data.ready
    label = samples.label[samples.rows("val")]
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
