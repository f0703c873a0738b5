"""Print for each preset how many thousand images so many seconds of one core train on.

    python experiments/dcgan/pace.py MANIFEST SECONDS PRESET …

Presets take turns, so that a busy machine slows all of them; what is counted is processor time.
"""

import sys
import time
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from pytorch_lightning import Callback, LightningModule, Trainer

from medvision.training.build import build_adversary
from medvision.training.config import conf_folder, register_resolvers
from medvision.training.machine import choose_precision, quieten, set_allocator

ROUNDS, STEPS = 4, 24


def main(manifest: str, seconds: str, *presets: str) -> None:
    quieten()
    set_allocator("keep")
    torch.set_num_threads(1)
    register_resolvers()
    spent = dict.fromkeys(presets, 0.0)
    for turn in range(ROUNDS + 1):
        for preset in presets:
            passed = train(manifest, preset)
            spent[preset] += passed if turn else 0.0  # the first turn warms up
    for preset in presets:
        kimg = ROUNDS * STEPS * 64 / 1000 / spent[preset] * float(seconds)
        print(preset, round(kimg))


def train(manifest: str, preset: str) -> float:
    """Take a few steps; return the processor seconds of all but the first four."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", [
            "experiment=dcgan_pneumoniamnist", f"model={preset}", "name=pace",
            f"data.manifest='{manifest}'", "data.epoch_size=4000", "data.batch_size=64",
        ])  # fmt: skip
    data = instantiate(config.data)
    data.setup()
    task, clock = build_adversary(config, data), Clock()
    Trainer(
        max_epochs=1, limit_train_batches=STEPS + 4, limit_val_batches=0, accelerator="cpu",
        precision=choose_precision("auto"), logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[clock],
    ).fit(task, data)  # fmt: skip
    return clock.spent


class Clock(Callback):
    """Counts processor time from the fifth step on: every fourth takes the penalties."""

    started, spent = 0.0, 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 4:
            self.started = time.process_time()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.spent = time.process_time() - self.started


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
