"""Randomness as a pure function of (seed, step): what makes a resumed run the same run."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class Replay(Callback):
    """Seeds torch anew before each step, so that no random state has to be stored.

    Dropout, mixup and everything else drawn in a step then depends on the step's number alone; a
    run killed after an epoch and resumed repeats an uninterrupted one bit for bit on a CPU.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Batches, not optimiser steps: several of those accumulate into one.
        step = self.seed * 1_000_003 + trainer.fit_loop.total_batch_idx
        torch.manual_seed(step + (trainer.global_rank << 40))  # devices drop out different units
