"""What one training is made of, settled before its first batch."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from medvision.commands.checks import (
    check_generators,
    check_monitor,
    check_parts,
    check_pretraining,
    check_settings,
    find_weights,
)
from medvision.commands.settings import quieten, set_allocator
from medvision.data.datamodule import ImageDataModule
from medvision.model import Seen


@dataclass(frozen=True)
class Job:
    """What one training is made of.

    Attributes:
        config: composed; `plain` is the same, resolved, as plain containers.
        weights: the file to start from.
        earlier: what the model behind that file has seen, and the generators of images that train.
    """

    config: DictConfig
    plain: dict[str, Any]
    data: ImageDataModule
    weights: str | None
    earlier: list[Seen]


def prepare_job(config: DictConfig) -> Job:
    """Set the machine and the data up, and refuse whatever cannot work."""
    check_settings(config)
    quieten()
    set_allocator(config.allocator)
    if config.threads:
        torch.set_num_threads(config.threads)
    weights = find_weights(config.model.weights)
    data: ImageDataModule = instantiate(config.data)
    data.setup()
    check_monitor(config.monitor, data)
    check_parts(config, data)
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    earlier = [check_pretraining(weights, data), *check_generators(data)]
    return Job(config, plain, data, weights, earlier)
