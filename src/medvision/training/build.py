"""From a composed configuration to the task and Lightning's own Trainer."""

from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as lightning
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from medvision.callbacks.checkpoints import Checkpoints, CurvesFirst
from medvision.callbacks.curves import Curves
from medvision.callbacks.ending import Ending
from medvision.callbacks.history import History
from medvision.callbacks.kept import BestCheckpoint
from medvision.callbacks.progress import choose_progress
from medvision.callbacks.replay import Replay
from medvision.data.batches.datamodule import ImageDataModule
from medvision.evaluation.evaluator import direction
from medvision.provenance import is_interactive
from medvision.runs import Run
from medvision.tasks import find_task, short_name
from medvision.tasks.trainable import Facts, Trainable
from medvision.training.machine import choose_precision
from medvision.training.tensorboard import open_loggers


def build_task(config: DictConfig, data: ImageDataModule, weights: str | None) -> Trainable:
    """Build the net or the nets for what is asked of the data, and the task around them."""
    task = find_task(config.model._target_).build(
        config.model, gather_facts(config, data), seed=config.seed, weights=weights,
        monitor=config.monitor,
    )  # fmt: skip
    if getattr(task, "loaded", None) is not None:
        print(f"weights from {weights}: {task.loaded}")
    return task


def gather_facts(config: DictConfig, data: ImageDataModule) -> Facts:
    """Gather what a task and its nets must know of the data."""
    samples = data.ready
    height, width = samples.stores[0].array.shape[1:3]
    return Facts(
        target=samples.target,
        in_channels=samples.channels,
        size=(height, width),
        slice_labels=bool(samples.row_targets),
        balanced=config.data.balance or config.data.get("extra_ratio") in ("balance", "only"),
        weights=data.class_weights,
    )


def build_trainer(
    run: Run,
    config: DictConfig,
    data: ImageDataModule,
    task: Trainable,
    more: Sequence[Callback] = (),
) -> lightning.Trainer:
    """Give Lightning's own Trainer the callbacks every run has, the config's own, and `more`."""
    bar = config.trainer.enable_progress_bar and is_interactive()
    chosen = [instantiate(c) for c in config.callbacks.values() if c is not None]
    folder = run.folder / "checkpoints"
    way = direction(config.monitor, short_name(type(task)))
    best = BestCheckpoint(folder, config.monitor, way)
    last = ModelCheckpoint(
        folder, "last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    callbacks: list[Callback] = [
        Curves(), CurvesFirst(), Replay(config.seed), Ending(), *chosen,
        *choose_progress(config.monitor, bar), History(run.folder / "history.csv"), best, last,
        *more,
    ]  # fmt: skip
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    settings = dict(config.trainer) | {"precision": precision, "enable_progress_bar": bar}
    settings |= task.limits(
        _count_batches(config, data), data.options.batch_size, config.trainer.max_steps
    )
    trainer: lightning.Trainer = instantiate(
        settings,
        callbacks=callbacks,
        plugins=[Checkpoints()],
        logger=open_loggers(run, config),
        default_root_dir=str(run.folder),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    return trainer


def read_progress(checkpoint: Path, task: type[Trainable]) -> int:
    """Return where the curves of a task end at a checkpoint, on their axis."""
    return task.read_progress(torch.load(checkpoint, map_location="cpu", weights_only=True))


def _count_batches(config: DictConfig, data: ImageDataModule) -> int:
    """Count the training batches of an epoch."""
    batches, limit = len(data.train_dataloader()), config.trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)
