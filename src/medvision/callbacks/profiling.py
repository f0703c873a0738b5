"""Where a step of training goes: a trace to look into, and one page of numbers."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile, schedule

import medvision.callbacks.costs as costs
import medvision.files as files
from medvision.callbacks.stopwatch import PARTS, Stopwatch
from medvision.errors import MedvisionError
from medvision.provenance import name_processor

# All that a viewer needs; what is left out names the machine and the folder.
KEPT = ("schemaVersion", "deviceProperties", "displayTimeUnit", "baseTimeNanoseconds",
        "traceEvents")  # fmt: skip


class Profile(Callback):
    """Times the parts of steady steps, then traces a few more.

    Writes `profile.md` and `tensorboard/steps.pt.trace.json` into the run's folder.

    Args:
        warmup: steps before anything is measured.
        timed: steps that are; on a device the first half runs freely, the second part by part.
        traced: steps in the trace, after one in which tracing starts.
    """

    def __init__(self, warmup: int = 4, timed: int = 8, traced: int = 3) -> None:
        if min(warmup, timed // 2, traced) < 1:
            raise MedvisionError(
                f"callbacks.profile cannot measure warmup={warmup}, timed={timed}, "
                f"traced={traced} steps; choose at least 1, 2 and 1"
            )
        self.warmup, self.timed, self.traced = warmup, timed, traced
        self.end = warmup + timed
        self.samples: list[int] = []
        self.found: costs.Costs | None = None
        self.tracer: profile | None = None
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it misses GPUs where there are none

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self.device, self.by_hand = pl_module.device, not pl_module.automatic_optimization
        self.waits = self.device.type != "cpu"
        self.apart = self.end - self.timed // 2 if self.waits else self.warmup
        on_cuda = [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
        self.tracer = profile(
            activities=[ProfilerActivity.CPU, *on_cuda],
            schedule=schedule(wait=self.end, warmup=1, active=self.traced, repeat=1),
            on_trace_ready=partial(self._conclude, trainer),
        )
        self.watch = Stopwatch(self.by_hand, self._settle, self.tracer.step)
        cast(Any, trainer).profiler = self.watch
        self.tracer.start()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.samples.append(len(batch["index"]))
        self.batch = batch.get("image", batch.get("features")).shape
        self.unit = "series" if "length" in batch else "images"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()
        if self.found is not None:
            print(self.found.sum_up())
            print(f"{self.found.name_dearest()}: {Path(trainer.default_root_dir) / 'profile.md'}")
        elif trainer.is_global_zero:
            needed, there = self.end + 1 + self.traced, len(self.samples)
            print(f"note: no profile; it takes {needed} steps at a stretch, not {there}: raise "
                  "trainer.max_steps, or start a resumed run afresh with rerun=true")  # fmt: skip

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        """End tracing, even half-way: this process may have another job to do."""
        if self.tracer is not None:
            self.tracer.on_trace_ready = None
            self.tracer.stop()
            self.tracer = None

    def _settle(self, ends: bool) -> None:
        """Let the device finish, where what it still has to do would be booked later."""
        if self.waits and (ends or self.apart < len(self.watch.steps) <= self.end):
            torch.accelerator.synchronize(self.device)

    def _conclude(self, trainer: Trainer, tracer: profile) -> None:
        """Write the trace and the page."""
        folder, steps = Path(trainer.default_root_dir), self.watch.steps
        write_trace(tracer, folder / "tensorboard" / "steps.pt.trace.json")
        events, traced = costs.keep_steps(cast(Any, tracer).events())
        times = [1000 * sum(step.values()) for step in steps]
        free = slice(self.warmup, self.apart if self.waits else self.end)
        timed = steps[self.apart : self.end]
        on_cuda = self.device.type == "cuda"
        notes = {costs.STEADY: True, costs.ON_HOST: True, costs.ON_DEVICE: self.waits,
                 costs.BY_HAND: self.by_hand}  # fmt: skip
        self.found = costs.Costs(
            facts={
                "run": f"{folder.parent.name}/{folder.name}",
                "machine": name_processor(),
                "device": torch.cuda.get_device_name(self.device) if on_cuda else self.device.type,
                "precision": trainer.precision,
                "threads": torch.get_num_threads(),
                "batch": " × ".join(map(str, self.batch)),
            },
            unit=self.unit,
            steps=list(zip(times[free], self.samples[free], strict=True)),
            parts={p: 1000 * sum(step[p] for step in timed) / len(timed) for p in PARTS},
            operators=costs.rank_operators(events, self.traced, on_cuda),
            traced=traced / self.traced,
            busy=costs.measure_busy(events) / traced if on_cuda else None,
            notes=[note for note, fits in notes.items() if fits],
        )
        files.write_text(folder / "profile.md", self.found.write_page())


def write_trace(tracer: profile, path: Path) -> None:
    """Write a trace that names neither machine nor folder."""
    with files.written_aside(path) as aside:
        tracer.export_chrome_trace(str(aside))
        trace = json.loads(aside.read_text(encoding="utf-8"))
        aside.write_text(json.dumps({key: trace[key] for key in KEPT if key in trace}))
