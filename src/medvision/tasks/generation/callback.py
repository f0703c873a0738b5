"""Judges a generator after every epoch: what picks the best one, and what people look at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

import medvision.files as files
from medvision.tasks.generation.evaluator import FidelityEvaluator
from medvision.tasks.generation.fidelity import measure_membership
from medvision.tasks.generation.gate import is_collapsed

COLUMNS, ROWS = 10, 2  # of the images of a class in a grid

Pixels = NDArray[np.uint8]


class FidelityCallback(Callback):
    """Logs the scores of images made from the same noise each time, as `val/…` over those shown.

    Args:
        judge: holds the real images.
        noise: `[N,Z]`, of as many images of each class.
        label: `[N]`, the class of each.
        folder: gets a grid of images an epoch, named by the images shown until then.
        patience: epochs in a row that look collapsed before training ends; 0 only warns.
        grace: share of the budget that is over before an epoch can look collapsed.
    """

    def __init__(
        self,
        judge: FidelityEvaluator,
        noise: Tensor,
        label: Tensor,
        folder: Path,
        patience: int = 3,
        grace: float = 0.25,
    ) -> None:
        self.judge, self.noise, self.label, self.folder = judge, noise, label, folder
        self.patience, self.grace = patience, grace
        self.alarms = 0

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        task: Any = pl_module
        image = task.sample(self.noise, self.label)
        scores = self.judge.quick(image, self.label)
        told = pick_curves(scores) | {
            f"critic_{name}": value
            for name, value in ask_critic(task, self.judge, image, self.label).items()
            if value is not None
        }
        # Lightning takes a logged "step" as the x-axis: images, no two epochs have as many.
        curves = {f"val/{name}": value for name, value in told.items()}
        pl_module.log_dict(curves | {"step": float(task.seen)})
        self._show(trainer, image, task.seen)
        self._watch(trainer, is_collapsed(scores), task.seen, task.seen / (1000 * task.kimg))

    def state_dict(self) -> dict[str, Any]:
        return {"alarms": self.alarms}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.alarms = state_dict["alarms"]

    def _show(self, trainer: Trainer, image: Tensor, seen: int) -> None:
        grid = tile(image, self.label)
        written, png = cv2.imencode(".png", grid[..., ::-1])
        assert written
        files.write_bytes(self.folder / f"{seen:08d}.png", png.tobytes())
        if trainer.logger is not None:
            board: Any = trainer.logger
            board.experiment.add_image("samples/grid", grid, seen, dataformats="HWC")

    def _watch(self, trainer: Trainer, reason: str | None, seen: int, progress: float) -> None:
        """Raise the alarm, and end a training that has kept looking collapsed."""
        self.alarms = self.alarms + 1 if reason and progress >= self.grace else 0
        if self.alarms:
            print(f"alarm at {seen / 1000:.0f} kimg: {reason}", flush=True)
        if self.patience and self.alarms >= self.patience:
            trainer.should_stop = True
            print(f"stopped: {self.alarms} epochs in a row; the best epoch is kept", flush=True)


def pick_curves(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of `quick` that make a curve; what was not judged is left out."""
    told = {"gate_score": scores["gate_score"], "copied": scores["copying"]["copied"]}
    for name in ("coverage", "diversity", "label_agreement"):
        if scores[name] is not None:
            told[name] = scores[name]["relative"]
    return told


def ask_critic(
    task: Any, judge: FidelityEvaluator, image: Tensor, label: Tensor
) -> dict[str, float | None]:
    """Ask whether the critic of an `Adversarial` knows its training images by heart."""
    sides = ((judge.train.image, judge.train.label), (judge.held.image, judge.held.label))
    train, held, made = (task.criticise(*side).numpy() for side in (*sides, (image, label)))
    return measure_membership(train, held, made)


def tile(image: Tensor, label: Tensor, columns: int = COLUMNS, rows: int = ROWS) -> Pixels:
    """Lay the first `rows` x `columns` images of each class out: uint8 `[H,W,3]`."""
    pixels = (image.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    pixels = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)))  # a line between neighbours
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    height, width = pixels.shape[1:3]
    classes = [pixels[label == k][: rows * columns] for k in sorted(set(label.tolist()))]
    grid = np.stack(classes).reshape(-1, columns, height, width, 3)
    return grid.transpose(0, 2, 1, 3, 4).reshape(len(grid) * height, columns * width, 3)
