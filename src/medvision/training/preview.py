"""What the net sees: training images, plain and augmented; what was done to them, in a line."""

from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningModule, Trainer

from medvision.augment import host as augment_on_host
from medvision.augment.draw import Augment
from medvision.callbacks.event_files import EventFiles
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.batches.samples import Samples
from medvision.files import conf_folder
from medvision.target import take
from medvision.training.job import Job
from medvision.training.tensorboard import PREVIEW, add_figure


class Preview(Callback):
    """Draws them before the first step, into the run folder and TensorBoard."""

    def __init__(self, data: ImageDataModule, folder: Path) -> None:
        self.data, self.path = data, folder / f"{PREVIEW}.png"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            _draw_preview(self.data, self.path)
            for logger in trainer.loggers:
                if isinstance(logger, EventFiles):
                    add_figure(logger.experiment, self.path, 0)


def _draw_preview(data: ImageDataModule, path: Path, images: int = 8, views: int = 3) -> Path:
    """Draw a row of training images over rows of augmented views of the same images, if any.

    Of samples that hold several images they are those of one: they change alike.
    """
    from medvision.evaluation.figures.common import draw_grid
    from medvision.evaluation.figures.style import save_figure

    samples = data.ready
    rows = samples.rows("train")
    chosen, keys, texts = samples.unit.preview(rows, images)
    labels = _caption(samples, keys)
    captions = [text or label for text, label in zip(texts, labels, strict=True)]
    plain = samples.gather(chosen)
    size = (plain.shape[1], plain.shape[2])
    options = data.options
    views = 0 if options.augment == Augment() else views
    augmented = [
        augment_on_host.augment(plain, options.augment.draw(options.seed, view, keys, size))
        for view in range(views)
    ]
    grid = np.concatenate([plain, *augmented])
    if grid.dtype == np.uint16:
        grid = (grid >> 8).astype(np.uint8)
    return save_figure(
        draw_grid(grid, captions + ["augmented"] * len(chosen) * views, columns=len(chosen)), path
    )


def _caption(samples: Samples, index: np.ndarray) -> list[str]:
    """Return the truth of each sample in words, of several columns with their names."""
    told = samples.target.decode(take(samples.targets, index))
    words = {name: ["" if cell is None else cell for cell in cells] for name, cells in told.items()}
    if len(words) == 1:
        return [str(cell) for column in words.values() for cell in column]
    rows = [", ".join(f"{n} {cell}" for n, cell in zip(words, row, strict=True))
            for row in zip(*words.values(), strict=True)]  # fmt: skip
    return rows or [""] * len(index)


def describe_pixels(job: Job) -> str:
    """Write `read as 128×128, 1 channel (files: 300×400, colour), augment=ct`."""
    samples = job.data.ready
    reader = job.data.options.reader
    facts = samples.file_facts(samples.unit.rows(samples.rows("train")))
    height, width = samples.stores[0].array.shape[1:3]
    told = f"read as {height}×{width}, {reader.channels} channel{'s' * (reader.channels > 1)}"
    if facts:
        sizes = Counter((fact.height, fact.width) for fact in facts)
        (first, second), _ = sizes.most_common(1)[0]
        coloured = sum(fact.colour for fact in facts)
        colour = "colour" if coloured == len(facts) else "some in colour" if coloured else "grey"
        more = f" and {len(sizes) - 1} other sizes" if len(sizes) > 1 else ""
        told += f" (files: {first}×{second}{more}, {colour})"
    return f"{told}, augment={_name_preset(job.config)}" if job.task.predicts else told


def _name_preset(config: DictConfig) -> str:
    """Name the file of `conf/augment` that says the same; another policy is the user's own."""
    asked = _without_target(config.augment)
    for path in sorted((conf_folder() / "augment").glob("*.yaml")):
        if _without_target(OmegaConf.load(path)) == asked:
            return path.stem
    return "as you set it"


def _without_target(node: Any) -> dict[str, Any]:
    held = cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))
    return {key: value for key, value in held.items() if key != "_target_"}
