"""Checkpoint files: written aside and in the background; the best one keeps weights alone."""

from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

import medvision.files as files

_RESUMING = (
    "optimizer_states", "lr_schedulers", "callbacks", "loops", "current_model_state", "stopped",
    "reported",
)  # fmt: skip
_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class CheckpointFile(TorchCheckpointIO):
    """Never leaves half a file, and tells a full disk in a sentence.

    After a refusal nothing more is written: `last.ckpt` would tell of a `best.ckpt` that is not
    there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused = False

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        if self.refused:
            return
        try:
            self._write(checkpoint, path)
        except BaseException:
            self.refused = True
            raise

    @staticmethod
    def _write(checkpoint: dict[str, Any], path: Any) -> None:
        # A stream of Python's, because torch's own tells a full disk as a broken archive.
        with files.written_aside(path) as aside, aside.open("wb") as stream:
            torch.save(_place_paths(checkpoint, Path()), stream)

    def load_checkpoint(self, path: Any, *others: Any, **named: Any) -> dict[str, Any]:
        loaded: dict[str, Any] = super().load_checkpoint(path, *others, **named)
        return _place_paths(loaded, Path(path).resolve().parent)


def _place_paths(checkpoint: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Let what a checkpoint says of others lie in a folder, by their names: a run may be moved."""
    states = checkpoint.get("callbacks", {})
    placed = {key: _place(state, folder) if _tells_paths(state) else state
              for key, state in states.items()}  # fmt: skip
    return checkpoint | ({"callbacks": placed} if placed else {})


def _tells_paths(state: Any) -> bool:
    return isinstance(state, dict) and "dirpath" in state


def _place(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the state of a `ModelCheckpoint` of this folder; "" stays, for there is none."""

    def place(path: str) -> str:
        return path and str(folder / Path(path).name)

    scores = {place(path): score for path, score in state.get("best_k_models", {}).items()}
    paths = {key: place(state[key]) for key in _PATHS if key in state}
    return state | paths | {"dirpath": str(folder), "best_k_models": scores}


class Checkpoints(AsyncCheckpointIO):
    """Lets the next epoch begin on a copy; a refusal to write is raised at the next checkpoint.

    A run resumes from `last.ckpt` alone; `best.ckpt` keeps the weights, a third of Adam's file.
    `last.ckpt` waits for `release`: Lightning logs what training reports of an epoch after the
    checkpoints, and a run killed in between would not repeat that epoch and lack its points.
    """

    def __init__(self) -> None:
        super().__init__(CheckpointFile())
        self._held: tuple[dict[str, Any], Any] | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        if Path(path).stem == "last":
            self.release()
            self._held = apply_to_collection(checkpoint, torch.Tensor, torch.clone), path
            return
        if Path(path).stem == "best":
            checkpoint = {k: value for k, value in checkpoint.items() if k not in _RESUMING}
        super().save_checkpoint(checkpoint, path, storage_options)

    def release(self) -> None:
        """Write the `last.ckpt` that waits, if one does."""
        held, self._held = self._held, None
        if held is not None:
            super().save_checkpoint(*held)

    def teardown(self) -> None:
        self.release()
        super().teardown()


class CurvesFirst(Callback):
    """Lets `last.ckpt` be written once the loggers hold the points of its epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._release(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._release(trainer)

    @staticmethod
    def _release(trainer: Trainer) -> None:
        checkpoints = trainer.strategy.checkpoint_io
        if isinstance(checkpoints, Checkpoints):
            checkpoints.release()
