"""From a composed configuration to the net, the task and Lightning's own Trainer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as lightning
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import nn

from medvision.callbacks.checkpoints import Checkpoints
from medvision.callbacks.history import History
from medvision.callbacks.progress import choose_progress
from medvision.callbacks.replay import Replay
from medvision.data.batches.datamodule import ImageDataModule
from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import direction
from medvision.provenance import is_interactive
from medvision.runs import Run
from medvision.tasks.generation.task import Adversarial
from medvision.tasks.task import Supervised
from medvision.training.machine import choose_precision
from medvision.training.tensorboard import open_board
from medvision.training.validate import makes_images

Task = Supervised | Adversarial


def build_task(config: DictConfig, data: ImageDataModule, weights: str | None) -> Task:
    """Build the net or both nets for the data's classes and channels, and the task around them."""
    if makes_images(config):
        return build_adversary(config, data)
    return build_supervised(config, data, weights)


def build_supervised(config: DictConfig, data: ImageDataModule, weights: str | None) -> Supervised:
    """Build the net, and the task that compares what it says with labels."""
    # Drawing classes equally often and weighting them too would correct the same thing twice.
    drawn = config.data.balance or config.data.get("extra_ratio") in ("balance", "only")
    balanced = config.model.class_weights == "balanced" and not drawn
    node = OmegaConf.create(
        {k: v for k, v in config.model.items() if k not in ("net", "init", "normalise")}
    )
    task: Supervised = instantiate(
        node,
        net=build(net_config(config, data)),
        kind=data.ready.target.plain()["kind"],
        class_weights=data.class_weights() if balanced else None,
        weights=weights,
        monitor=config.monitor,
    )
    if task.loaded is not None:
        print(f"weights from {weights}: {task.loaded}")
    return task


def net_config(config: DictConfig, data: ImageDataModule, trained: bool = False) -> dict[str, Any]:
    """Describe the net as text that rebuilds it; a trained one needs no weights to start from."""
    net = OmegaConf.to_container(config.model.net, resolve=True)
    assert isinstance(net, dict)
    if trained:
        net = leave_weights_out(cast(dict[str, Any], net))
    samples, target = data.ready, data.ready.target.plain()
    if "slice_head" in net and net["slice_head"] is None:
        # A head that nothing supervises would answer for slices with noise.
        labelled = bool(samples.row_targets)
        net["slice_head"] = labelled or net.get("aggregation") == "noisy_or"
    return {
        "_target_": "medvision.nets.build.build_net",
        "net": net,
        "num_classes": len(target["classes"]),
        "in_channels": samples.channels,
        "init": None if trained else config.model.init,
        "normalise": config.model.normalise,
        "multilabel": target["kind"] == "multilabel",
    }


def leave_weights_out(net: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a net, and of the nets in it, without weights to start from."""
    kept = {key: value for key, value in net.items() if key not in ("weights", "pretrained")}
    return {k: leave_weights_out(v) if isinstance(v, dict) else v for k, v in kept.items()}


def build(description: dict[str, Any]) -> nn.Module:
    """Build a net from its description."""
    net: nn.Module = instantiate(description)
    return net


def build_trainer(
    run: Run,
    config: DictConfig,
    data: ImageDataModule,
    resume: bool,
    more: Sequence[Callback] = (),
) -> lightning.Trainer:
    """Give Lightning's own Trainer the callbacks every run has, the config's own, and `more`."""
    bar = config.trainer.enable_progress_bar and is_interactive()
    chosen = [instantiate(c) for c in config.callbacks.values() if c is not None]
    folder = run.folder / "checkpoints"
    best = ModelCheckpoint(
        folder, "best", config.monitor, mode=direction(config.monitor), enable_version_counter=False
    )
    last = ModelCheckpoint(
        folder, "last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    callbacks: list[Callback] = [
        Replay(config.seed), *chosen, *choose_progress(config.monitor, bar),
        History(run.folder / "history.csv"), best, last, *more,
    ]  # fmt: skip
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    settings = dict(config.trainer) | {"precision": precision, "enable_progress_bar": bar}
    if makes_images(config):
        # Lightning counts the steps of both sides.
        steps = config.trainer.max_steps
        settings |= {"max_epochs": count_epochs(config, data), "max_steps": max(2 * steps, -1)}
    purged = read_progress(run.last_checkpoint) if resume else 0
    trainer: lightning.Trainer = instantiate(
        settings,
        callbacks=callbacks,
        plugins=[Checkpoints()],
        logger=open_board(run, purged),
        default_root_dir=str(run.folder),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    return trainer


def read_progress(checkpoint: Path) -> int:
    """Return where TensorBoard goes on: the epochs behind a checkpoint, or thousands of images."""
    held = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if "counters" in held:
        return int(held["counters"]["seen"] / 1000) + 1
    return int(held["epoch"]) + 1


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
    classes = len(data.ready.target.plain()["classes"])
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
    return max(
        round(1000 * float(config.model.kimg) / (max(steps, 1) * data.options.batch_size)), 1
    )
