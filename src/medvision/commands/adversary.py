"""What a training of a generator has of its own: its nets and its budget."""

from collections.abc import Mapping
from typing import Any, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from medvision.data.datamodule import ImageDataModule
from medvision.errors import MedvisionError
from medvision.tasks.adversarial import Adversarial

TUNED = 32  # pixels a side at which the presets' penalties were chosen


def build_adversary(config: DictConfig, data: ImageDataModule) -> Adversarial:
    """Build both nets for the data's size, channels and classes, and the task around them."""
    facts = describe_data(data)
    if facts["size"] > TUNED and (config.model.r1 or config.model.r2):
        print(f"note: model.r1 and model.r2 were chosen at {TUNED} pixels a side and grow with its "
              f"square: try {(facts['size'] / TUNED) ** 2:g} times as much")  # fmt: skip
    sides = {side: {**config.model[side], **facts} for side in ("generator", "critic")}
    node = {k: v for k, v in config.model.items() if k not in sides}
    nets = {side: instantiate(OmegaConf.create(leave_partial(net))) for side, net in sides.items()}
    task: Adversarial = instantiate(OmegaConf.create(node), **nets, seed=config.seed)
    return task


def describe_data(data: ImageDataModule) -> dict[str, int]:
    """Return what the nets must be told of the data."""
    height, width = data.ready.stores[0].array.shape[1:3]
    if height != width:
        raise MedvisionError(
            f"images of {height}x{width} are not square; set data.reader.size to [32,32], "
            "[64,64], [128,128] or [256,256]"
        )
    classes = len(data.ready.classes.names)
    return {"size": height, "in_channels": data.ready.channels, "num_classes": classes}


def leave_partial(net: Mapping[str, Any]) -> dict[str, Any]:
    """Return a net's description as one that is built at once."""
    return {k: v for k, v in net.items() if k != "_partial_"}


def describe_generator(config: DictConfig, data: ImageDataModule) -> dict[str, Any]:
    """Describe the generator as text that rebuilds it."""
    net = cast(dict[str, Any], OmegaConf.to_container(config.model.generator, resolve=True))
    return leave_partial(net) | describe_data(data)


def count_epochs(config: DictConfig, data: ImageDataModule) -> int:
    """Return the epochs that the budget takes."""
    steps, limit = len(data.train_dataloader()), config.trainer.limit_train_batches
    steps = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
    return max(round(1000 * float(config.model.kimg) / (max(steps, 1) * data.batch_size)), 1)
