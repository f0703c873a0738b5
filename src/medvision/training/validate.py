"""What is refused before the first batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.batches.mixing import RULE, is_ratio
from medvision.data.batches.samples import Samples
from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.evaluation.report.run_files import check_prevalence
from medvision.moved import current
from medvision.ranges import OneOf, Real, Rule, Switch, Whole, rules_of
from medvision.target import take
from medvision.tasks import find_task
from medvision.tasks.trainable import Trainable
from medvision.training.keys import check_keys, check_logger
from medvision.training.machine import check_compile


def check_settings(config: DictConfig) -> None:
    """Refuse what cannot work before anything is read."""
    check_keys(config)
    check_ranges(config)
    check_prevalence(config.get("report", {}).get("prevalence"))
    task = find_task(current(str(config.model._target_)))
    _check_watched(task, str(config.monitor))
    problems = list(task.check(config))
    if config.tta and not task.averages_views:
        problems.append(f"tta={config.tta} asks for the mean of several views, which means nothing "
                        "for what this model answers; leave it out")  # fmt: skip
    if config.keep == "last" and not task.predicts:
        problems.append("keep=last is for models that answer for patients, and a generator is at "
                        "its best before it ends; leave it out")  # fmt: skip
    if len(problems) == 1:
        raise MedvisionError(problems[0])
    if problems:
        raise collect("this cannot be trained", problems, "Mend all of it and run again")
    wanted = str(config.trainer.accelerator)
    if wanted in ("gpu", "cuda") and not torch.cuda.is_available():
        raise MedvisionError(
            f"trainer.accelerator={wanted} but torch sees no GPU; say trainer.accelerator=auto"
        )
    check_compile(config, task)
    check_logger(config)


def _check_watched(task: type[Trainable], monitor: str) -> None:
    """Refuse a monitor that is no score of the task on its val part."""
    part, _, name = monitor.partition("/")
    known = task.watched()
    if part != "val":
        raise MedvisionError(
            f"monitor={monitor} is not measured on the val part; choose {task.monitor} or another "
            "val/…"
        )
    if name not in known:
        raise MedvisionError(
            f"monitor={monitor} does not exist{did_you_mean(name, known)}; "
            f"use val/ with one of {', '.join(known)}"
        )


def check_monitor(task: type[Trainable], monitor: str, data: ImageDataModule) -> None:
    """Refuse a monitor that the val part cannot define, before the first batch."""
    samples = data.ready
    rows = samples.rows("val")
    if len(rows) == 0:
        raise MedvisionError(
            "the val part is empty, so no epoch can be chosen; give some rows split=val, "
            "or let medvision cut it with data.mode=patient"
        )
    reasons = task.undefined(samples.target, take(samples.targets, rows))
    name = monitor.removeprefix("val/")
    if name in reasons:
        raise MedvisionError(
            f"monitor={monitor} is undefined on the val part ({reasons[name]}); "
            "choose monitor=val/loss, or a split whose val part has every class"
        )


def check_parts(config: DictConfig, data: ImageDataModule) -> None:
    """Refuse an empty train part, or a test that was asked for and is not there."""
    if len(data.train_rows()) == 0:
        columns = ", ".join(("split", *data.ready.target.columns))
        raise MedvisionError(
            f"the train part has no labelled row; check the columns {columns} of the manifest"
        )
    if config.test and len(data.ready.rows("test")) == 0:
        raise MedvisionError(
            "test=true but the manifest has no test rows; say test=false, or give some split=test"
        )
    for part in ("val", "test") if config.test else ("val",):
        _check_learned(data.ready, part)


def _check_learned(samples: Samples, part: str) -> None:
    """Refuse a part that holds a label no training row has: it cannot have been learned."""
    learned, held = (
        samples.count(samples.rows(name)).get("per_class") or {} for name in ("train", part)
    )
    problems = [
        f"{name!r} ({found} rows)" for name, found in held.items() if found and not learned[name]
    ]
    if problems:
        raise collect(
            f"labels of the {part} part that no training row has", problems,
            "Give some of their rows to train, or map them with data.rename.THEIRS=OURS",
        )  # fmt: skip


@dataclass(frozen=True)
class _Ratio:
    """What `data.extra_ratio` may be."""

    def broken(self, value: Any) -> str | None:
        return None if value is None or is_ratio(value) else RULE


RULES: dict[str, Rule] = {
    "seed": Whole(0), "tta": Whole(0), "threads": Whole(1, null=True), "test": Switch(),
    "rerun": Switch(), "log_graph": Switch(), "keep": OneOf(("auto", "best", "last")),
    "allocator": OneOf(("keep", "system")),
    "compile": OneOf(("auto", True, False, "reduce-overhead")),
    "data.batch_size": Whole(1), "data.fold": Whole(0, null=True), "data.folds": Whole(2),
    "data.split_seed": Whole(0), "data.workers": Whole(1, null=True),
    "data.epoch_size": Whole(1, null=True), "data.min_steps": Whole(1),
    "data.on_leak": OneOf(("error", "drop")),
    "data.on_unreadable": OneOf(("stop", "exclude")), "data.balance": Switch(),
    "data.residency": OneOf(("auto", "disk", "host", "device")),
    "data.backend": OneOf(("auto", "host", "device")), "data.extra_ratio": _Ratio(),
    "model.optimizer.lr": Real(0.0), "model.optimizer.weight_decay": Real(0.0),
    "model.critic_optimizer.lr": Real(0.0), "trainer.max_epochs": Whole(1),
    "trainer.log_every_n_steps": Whole(0),
    "trainer.accumulate_grad_batches": Whole(1), "trainer.gradient_clip_val": Real(0.0, null=True),
    "callbacks.early_stopping.patience": Whole(0), "judge.patience": Whole(0), "judge.k": Whole(1),
    "judge.grace": Real(0.0, 1.0),
}  # fmt: skip
"""Of keys that no constructor of ours takes; what those take, they say themselves."""


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
    for key, rule in (RULES | dict(_find_rules(config))).items():
        parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
        if not isinstance(parent, DictConfig) or key.rpartition(".")[2] not in parent:
            continue
        value = OmegaConf.select(config, key)
        if (expected := rule.broken(value)) is not None:
            yield f"{key}={'null' if value is None else value} must be {expected}"


def _find_rules(config: DictConfig, place: str = "") -> Iterator[tuple[str, Rule]]:
    """Yield dotted key and rule of all that the constructors in a configuration declare."""
    for name, node in config.items_ex(resolve=False):
        if isinstance(node, DictConfig):
            yield from _find_rules(node, f"{place}{name!s}.")
    for argument, rule in _declared(config).items():
        yield f"{place}{argument}", rule


def _declared(node: DictConfig) -> dict[str, Rule]:
    if "_target_" not in node:
        return {}
    try:
        return rules_of(get_object(current(str(node["_target_"]))))
    except Exception:  # what cannot be found, or says nothing of itself, is told when it is built
        return {}
