"""Checkpoint files: written aside and in the background; the best one keeps weights alone."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

import medvision.files as files

_RESUMING = ("optimizer_states", "lr_schedulers", "callbacks", "loops", "current_model_state")


class CheckpointFile(TorchCheckpointIO):
    """Never leaves half a file, and tells a full disk in a sentence."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        # A stream of Python's, because torch's own tells a full disk as a broken archive.
        with files.written_aside(path) as aside, aside.open("wb") as stream:
            torch.save(checkpoint, stream)


class Checkpoints(AsyncCheckpointIO):
    """Lets the next epoch begin on a copy; a refusal to write is raised at the next checkpoint.

    A run resumes from `last.ckpt` alone; `best.ckpt` keeps the weights, a third of Adam's file.
    """

    def __init__(self) -> None:
        super().__init__(CheckpointFile())

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        if Path(path).stem == "best":
            checkpoint = {k: value for k, value in checkpoint.items() if k not in _RESUMING}
        super().save_checkpoint(checkpoint, path, storage_options)
