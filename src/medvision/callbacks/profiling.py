"""Where a step of training goes: one page of numbers, and a trace to look into."""

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.profilers import Profiler
from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerActivity, profile, record_function, schedule

import medvision.files as files
from medvision.errors import MedvisionError
from medvision.evaluation.report.table import Table, write_list
from medvision.provenance import cost, name_processor

PARTS = _GATHER, _TRANSFER, FORWARD, BACKWARD, CLIPPING, OPTIMISER, _REST = (
    "gather + host augmentation", "transfer + device augmentation", "forward + loss", "backward",
    "clipping", "optimiser", "Lightning, callbacks, logging",
)  # fmt: skip
# Which part begins where one of Lightning's actions starts, and which where it stops.
_AT_START = {
    "train_dataloader_next": _GATHER, "batch_to_device": _TRANSFER, "training_step": FORWARD,
    "on_after_backward": _REST, "configure_gradient_clipping": CLIPPING,
    "optimizer_step": OPTIMISER, "optimizer_zero_grad": OPTIMISER,
}  # fmt: skip
_AT_STOP = {
    "batch_to_device": _REST, "training_step": _REST, "on_before_backward": BACKWARD,
    "configure_gradient_clipping": OPTIMISER, "optimizer_step": _REST, "optimizer_zero_grad": _REST,
}  # fmt: skip
# A task that steps its optimisers itself does so, and clips before, inside of `training_step`.
_AT_STOP_BY_HAND = _AT_STOP | {"on_after_backward": CLIPPING, "optimizer_step": FORWARD}
PAGE = """# Where a step goes

{facts}
**{speed}**

{parts}
## The dearest operators

```
{operators}
```

- Parts are timed on steady steps that nothing traces: tracing slows every operator down.
- Operators are of {traced} traced steps, and of a validation where an epoch ends between them.
- What OpenCV and NumPy do on the host, augmentation above all, is no operator of torch.
- On a device a step ends when that is done. For the table each part waits for it as well, so parts
  together can take longer than a step that runs freely.
- A generator's step is of both nets; forward and loss hold penalties and the mean of its weights.
"""
# All that a viewer of traces needs; what is left out names the machine and the folder.
KEPT = ("schemaVersion", "deviceProperties", "displayTimeUnit", "baseTimeNanoseconds",
        "traceEvents")  # fmt: skip


class _PartTimer(Profiler):
    """Cuts training into parts at the actions that Lightning reports, and names them in a trace.

    Args:
        by_hand: the task steps its optimisers itself.
        settle: called before each reading, with whether the step ends: a device may have to finish.
        between: called after each step, in no step's time.

    Attributes:
        steps: part → ms, of each step: from the call for its batch to the last of its hooks.
    """

    def __init__(
        self, by_hand: bool, settle: Callable[[bool], None], between: Callable[[], object]
    ) -> None:
        super().__init__()
        self.at_stop = _AT_STOP_BY_HAND if by_hand else _AT_STOP
        self.settle, self.between = settle, between
        self.steps: list[dict[str, float]] = []
        self.part: str | None = None  # None: outside of steps, in validation for one
        self.named: Any = None
        self.since, self.over = 0.0, False

    def start(self, action_name: str) -> None:
        if self.over:  # what Lightning logs after the last hook still belongs to the step
            self.over = False
            self._turn(None)
            self.between()
        hook = action_name.rpartition(".")[2]
        if hook == "train_dataloader_next":
            self.steps.append(dict.fromkeys(PARTS, 0.0))
        if hook in _AT_START and (self.part or _AT_START[hook] == _GATHER):
            self._turn(_AT_START[hook])

    def stop(self, action_name: str) -> None:
        hook = action_name.rpartition(".")[2]
        if self.part and hook in self.at_stop:
            self._turn(self.at_stop[hook])
        self.over |= hook == "on_train_batch_end" and action_name.startswith("[LightningModule]")

    def _turn(self, part: str | None) -> None:
        """Book the time since the last reading; what comes now is `part`."""
        if self.part:
            self.settle(part is None)
        now = time.perf_counter()
        if self.part:
            self.steps[-1][self.part] += 1000 * (now - self.since)
            self.named.__exit__(None, None, None)
        self.part, self.since = part, now
        if part:
            self.named = record_function(part)
            self.named.__enter__()


class Profile(Callback):
    """Times the parts of steady steps, then traces a few more.

    Writes `profile.md` and `steps.pt.trace.json` into the run's folder.

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
        self.summary = ""
        self.tracer: profile | None = None
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it misses GPUs where there are none

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self.device = pl_module.device
        self.waits, self.on_cuda = self.device.type != "cpu", self.device.type == "cuda"
        self.apart = self.end - self.timed // 2 if self.waits else self.warmup
        self.tracer = profile(
            activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * self.on_cuda],
            schedule=schedule(wait=self.end, warmup=1, active=self.traced, repeat=1),
            on_trace_ready=partial(self._conclude, trainer),
        )
        by_hand = not pl_module.automatic_optimization
        self.timer = _PartTimer(by_hand, self._settle, self.tracer.step)
        cast(Any, trainer).profiler = self.timer
        self.tracer.start()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.samples.append(len(batch["index"]))
        self.batch = " × ".join(map(str, batch.get("image", batch.get("features")).shape))
        self.unit = "series" if "length" in batch else "images"

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()
        if self.summary:
            print(self.summary)
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
        if self.waits and (ends or self.apart < len(self.timer.steps) <= self.end):
            torch.accelerator.synchronize(self.device)

    def _conclude(self, trainer: Trainer, tracer: profile) -> None:
        """Write the trace, and the page in Markdown."""
        folder, steps = Path(trainer.default_root_dir), self.timer.steps
        _write_trace(tracer, folder / "steps.pt.trace.json")
        free = slice(self.warmup, self.apart if self.waits else self.end)
        times = [sum(step.values()) for step in steps[free]]
        rate = 1000 * sum(self.samples[free]) / sum(times)
        speed = (
            f"{median(times):.1f} ms a step (median of {len(times)}: {min(times):.1f} to "
            f"{max(times):.1f}), {rate:.1f} {self.unit} a second on average"
        )
        parts = {p: mean(step[p] for step in steps[self.apart : self.end]) for p in PARTS}
        whole = sum(parts.values())
        rows = [[name, f"{ms:.2f}", f"{100 * ms / whole:.1f} %"]
                for name, ms in [*parts.items(), ("a step (mean)", whole)]]  # fmt: skip
        page = PAGE.format(
            facts=write_list(f"{k}: {v}" for k, v in self._tell_facts(trainer).items()),
            speed=speed,
            traced=self.traced,
            parts=Table(["part", "ms a step", "share"], rows).markdown(),
            operators=_tabulate_operators(tracer, self.on_cuda),
        )
        place = files.write_text(folder / "profile.md", page)
        dearest = sorted(parts, key=lambda part: -parts[part])[:3]
        shares = ", ".join(f"{part} {100 * parts[part] / whole:.0f} %" for part in dearest)
        self.summary = f"{speed}\n{shares}: {place}"

    def _tell_facts(self, trainer: Trainer) -> dict[str, Any]:
        folder = Path(trainer.default_root_dir)
        facts = {
            "run": f"{folder.parent.name}/{folder.name}",
            "machine": name_processor(),
            "device": torch.cuda.get_device_name(self.device) if self.on_cuda else self.device.type,
            "precision": trainer.precision,
            "threads": torch.get_num_threads(),
            "batch": self.batch,
            "peak memory": f"{cost(time.perf_counter())['peak_memory_mb']} MB",
        }
        if self.on_cuda:
            held = torch.cuda.max_memory_allocated(self.device) / 2**20
            facts["peak memory of the device"] = f"{held:.0f} MB"
        return facts


def _tabulate_operators(tracer: profile, on_cuda: bool) -> str:
    """Lay out the ten operators that took longest themselves, as torch does."""
    averages = tracer.key_averages()
    operators = cast(Any, EventList)([each for each in averages if not each.is_user_annotation],
                                     use_device="cuda" if on_cuda else None)  # fmt: skip
    order = f"self_{'cuda' if on_cuda else 'cpu'}_time_total"
    return str(operators.table(sort_by=order, row_limit=10, max_name_column_width=60)).strip("\n")


def _write_trace(tracer: profile, path: Path) -> None:
    """Write a trace that names neither machine nor folder."""
    with files.written_aside(path) as aside:
        tracer.export_chrome_trace(str(aside))
        trace = json.loads(aside.read_text(encoding="utf-8"))
        aside.write_text(json.dumps({key: trace[key] for key in KEPT if key in trace}))
