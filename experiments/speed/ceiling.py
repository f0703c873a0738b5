"""How fast the arithmetic alone is: net, loss and optimiser on one fixed batch, in a bare loop.

    python experiments/speed/ceiling.py STEPS [key=value …]

Takes the words of `medvision train`, builds the same task with the same settings of the machine,
and prints seconds of a training step, of a validation batch and of an epoch made of nothing else;
also of a batch of the data path alone, augmented, without a net.
"""

import json
import sys
import time
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from medvision.data.batches.datamodule import ImageDataModule
from medvision.tasks.generation.task import Adversarial
from medvision.tasks.task import Task
from medvision.training.build import build_task
from medvision.training.config import conf_folder, quote, register_resolvers
from medvision.training.job import prepare_job
from medvision.training.machine import choose_precision

Batch = dict[str, Tensor]
WARM = 3


def main(steps: str, *words: str) -> None:
    register_resolvers()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", [quote(word) for word in (*words, "name=ceiling")])
    job = prepare_job(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task = build_task(job.config, job.data, job.weights).to(device).train()
    step = bare_adversarial(task) if isinstance(task, Adversarial) else bare_task(task)
    half = choose_precision(config.trainer.precision) == "bf16-mixed"
    train, val = (take_batch(job.data, part, device) for part in ("train", "val"))

    def learn() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            step(train)

    @torch.no_grad()
    def validate() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            task.validation_step(val, 0)

    learning = clock(learn, int(steps))
    task.eval()
    validating = clock(validate, min(int(steps), 8))
    orders = {
        "train": job.data.train_dataloader().sampler,
        "val": job.data.val_dataloader().sampler,
    }
    shown = {part: sum(len(b["index"]) for b in order) for part, order in orders.items()}
    seconds = {"train": learning / len(train["index"]), "val": validating / len(val["index"])}
    told = {"step": learning, "val_step": validating, "batch": clock_data(job.data, device),
            "images": shown["train"], "steps": len(orders["train"]),
            "batch_size": len(train["index"]),
            "epoch": sum(seconds[part] * shown[part] for part in shown)}  # fmt: skip
    print(json.dumps(told))


def take_batch(data: ImageDataModule, part: str, device: torch.device) -> Batch:
    """Take the first batch of a part, as the net meets it."""
    loader = data.train_dataloader() if part == "train" else data.val_dataloader()
    return data.transfer_batch_to_device(next(iter(loader)), device, 0)


def send(data: ImageDataModule, batch: Batch, device: torch.device) -> Batch:
    """Take a batch the way that Lightning takes it."""
    gathered = data.on_before_batch_transfer(batch, 0)
    return data.on_after_batch_transfer(data.transfer_batch_to_device(gathered, device, 0), 0)


def clock_data(data: ImageDataModule, device: torch.device) -> float:
    """Return the seconds of a training batch on its way to the net: gather, augment, to float."""
    strategy = SimpleNamespace(root_device=device)
    stand_in = SimpleNamespace(training=True, current_epoch=0, global_rank=0, world_size=1,
                               strategy=strategy)  # fmt: skip
    data.trainer = stand_in  # type: ignore[assignment]
    batches = list(data.train_dataloader())
    loader = iter(batches * (1 + (WARM + 20) // len(batches)))

    return clock(lambda: send(data, next(loader), device), 20)


def bare_task(task: Task) -> Callable[[Batch], None]:
    """Return a step of the task's own net, loss, clipping and optimiser, without Lightning."""
    scheduler, task.scheduler = task.scheduler, None
    optimizer = task.configure_optimizers()
    task.scheduler = scheduler

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        task.loss(task(batch), batch).backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()

    return step


def bare_adversarial(task: Adversarial) -> Callable[[Batch], None]:
    """Return the task's own step, its calls to Lightning replaced by torch's."""
    optimizers = task.configure_optimizers()
    stand_ins: dict[str, Any] = {
        "optimizers": lambda: optimizers, "manual_backward": lambda loss: loss.backward(),
    }  # fmt: skip
    for name, call in stand_ins.items():
        object.__setattr__(task, name, call)
    return lambda batch: task.training_step(batch, 0)


def clock(act: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of an act, after warming up."""
    taken = []
    for turn in range(WARM + repeats):
        start = time.perf_counter()
        act()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if turn >= WARM:
            taken.append(time.perf_counter() - start)
    return median(taken)


if __name__ == "__main__":
    main(*sys.argv[1:])
