"""What one training is made of, settled before its first batch."""

from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import medvision.files as files
from medvision.data.batches.datamodule import ImageDataModule
from medvision.devices import limit_threads
from medvision.runs import Run
from medvision.seen import Seen
from medvision.tasks import find_task
from medvision.tasks.trainable import Trainable
from medvision.training.config import follow_moves
from medvision.training.machine import choose_compile, quieten, set_allocator
from medvision.training.prior import (
    check_generators,
    check_pretraining,
    find_inception,
    find_judge,
    find_weights,
)
from medvision.training.validate import check_monitor, check_parts, check_settings


@dataclass(frozen=True)
class Job:
    """What one training is made of.

    Attributes:
        config: composed; `plain` is the same, resolved, as plain containers, `compile` settled.
        task: the class that `model._target_` names.
        weights: the file to start from.
        earlier: what the model behind that file has seen, the generators of images that train, and
            the judge.
        judge: the classifier in whose eyes a generator is judged as well.
        inception: the file of Inception's weights, for scores as papers report them.
    """

    config: DictConfig
    plain: dict[str, Any]
    task: type[Trainable]
    data: ImageDataModule
    weights: str | None
    earlier: list[Seen]
    judge: Run | None = None
    inception: Path | None = None

    @cached_property
    def seen(self) -> Seen:
        """What the model will have seen, with all that it inherits."""
        samples = self.data.ready
        seen = Seen.of(samples.shown("train"), samples.shown("val")).stamped(samples.unchecked)
        return reduce(Seen.join, self.earlier, seen)

    def identity(self) -> list[str]:
        """Return digests of all that is read: what the run's name depends on."""
        models = [Path(self.weights)] if self.weights else []
        models += [self.judge.model] if self.judge else []
        models += [self.inception] if self.inception else []
        return self.data.identity() + [files.digest_file(path) for path in models]


def prepare_job(config: DictConfig) -> Job:
    """Set the machine and the data up, and refuse whatever cannot work."""
    quieten()
    follow_moves(config)
    task = find_task(config.model._target_)
    check_settings(config)
    set_allocator(config.allocator)
    limit_threads(config.threads)
    weights = find_weights(config.model.get("weights"))
    data: ImageDataModule = instantiate(config.data)
    data.target = task.target
    data.setup()
    check_monitor(task, config.monitor, data)
    check_parts(config, data)
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    plain["compile"] = choose_compile(config.compile, config.trainer.accelerator)
    earlier = [check_pretraining(weights, data), *check_generators(data)]
    task.accept(data.ready.target)
    judged = config.get("judge") or {}
    inception = judged.get("inception") and find_inception(judged["inception"])
    judge, seen_by_judge = find_judge(judged.get("run"), data)
    earlier.append(seen_by_judge)
    return Job(config, plain, task, data, weights, earlier, judge, inception)
