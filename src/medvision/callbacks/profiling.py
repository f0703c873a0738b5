"""Where a step of training goes: a trace to look into, and one page of numbers."""

import json
import os
import time
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.profilers import Profiler
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity, profile, schedule

import medvision.files as files
from medvision.errors import MedvisionError
from medvision.evaluation.report.table import Table, write_list
from medvision.provenance import name_processor

# All that a viewer needs; what is left out names the machine and the folder.
KEPT = ("schemaVersion", "deviceProperties", "displayTimeUnit", "baseTimeNanoseconds",
        "traceEvents")  # fmt: skip


BY_HAND = "Forward and loss are of both nets, with penalties and the running mean of the weights."


@dataclass(frozen=True)
class Costs:
    """Times of steady steps, in ms.

    Attributes:
        facts: what was measured, on what.
        unit: what a sample is: images or series.
        steps: time and samples of each step that ran freely.
        parts: part of a step → its mean time; together they are a step.
        operators: name, own time a step and calls a step of the dearest, in traced steps.
        traced: mean time of a traced step.
        busy: share of it in which the device computed; None: not known.
        notes: how to read all that.
    """

    facts: Mapping[str, Any]
    unit: str
    steps: list[tuple[float, int]]
    parts: Mapping[str, float]
    operators: list[tuple[str, float, float]]
    traced: float
    busy: float | None
    notes: list[str]

    def sum_up(self) -> str:
        """Say in one line how fast it goes."""
        times, samples = zip(*self.steps, strict=True)
        rate = 1000 * sum(samples) / sum(times)
        return (
            f"{median(times):.1f} ms a step (median of {len(times)}: {min(times):.1f} to "
            f"{max(times):.1f}), {rate:.1f} {self.unit} a second on average"
        )

    def name_dearest(self, count: int = 3) -> str:
        """Name the dearest parts with their shares."""
        whole = sum(self.parts.values())
        dear = sorted(self.parts.items(), key=lambda part: -part[1])[:count]
        return ", ".join(f"{name} {100 * ms / whole:.0f} %" for name, ms in dear)

    def write_page(self) -> str:
        """Lay it out in Markdown."""
        whole = sum(self.parts.values())
        parts = [*self.parts.items(), ("a step (mean)", whole)]
        shares = [[name, f"{ms:.2f}", f"{100 * ms / whole:.1f} %"] for name, ms in parts]
        dearest = [[name, f"{ms:.2f}", f"{100 * ms / self.traced:.1f} %", f"{calls:.4g}"]
                   for name, ms, calls in self.operators]  # fmt: skip
        busy = "" if self.busy is None else f"; the device was busy {100 * self.busy:.0f} % of it"
        sections = [
            "# Where a step goes",
            write_list(f"{name}: {value}" for name, value in self.facts.items()),
            f"**{self.sum_up()}**",
            Table(["part", "ms a step", "share"], shares).markdown(),
            "## The dearest operators",
            f"Own time, in traced steps of {self.traced:.1f} ms{busy}.",
            Table(["operator", "ms a step", "share", "calls a step"], dearest).markdown(),
            write_list(self.notes),
        ]
        return "\n\n".join(section.strip() for section in sections) + "\n"


ON_DEVICE = (
    "A step ends when the device is done. For the table each part waits for it as well, so parts "
    "together can take longer than a step that runs freely."
)


ON_HOST = "What OpenCV and NumPy do on the host, augmentation above all, is no operator of torch."


FORWARD, BACKWARD = "forward + loss", "backward"
CLIPPING, OPTIMISER = "clipping", "optimiser"


GATHER, TRANSFER = "gather + host augmentation", "transfer + device augmentation"


REST = "Lightning, callbacks, logging"
PARTS = (GATHER, TRANSFER, FORWARD, BACKWARD, CLIPPING, OPTIMISER, REST)


STEADY = "Parts are timed on steady steps that nothing traces: tracing slows every operator down."


# Which part begins where an action starts, and which where it stops.
AT_START = {
    "train_dataloader_next": GATHER, "batch_to_device": TRANSFER, "training_step": FORWARD,
    "on_after_backward": REST, "configure_gradient_clipping": CLIPPING,
    "optimizer_step": OPTIMISER, "optimizer_zero_grad": OPTIMISER,
}  # fmt: skip
AT_STOP = {
    "batch_to_device": REST, "training_step": REST, "on_before_backward": BACKWARD,
    "configure_gradient_clipping": OPTIMISER, "optimizer_step": REST, "optimizer_zero_grad": REST,
}  # fmt: skip
# A task that steps its optimisers itself does so, and clips before, inside of `training_step`.
AT_STOP_BY_HAND = AT_STOP | {"on_after_backward": CLIPPING, "optimizer_step": FORWARD}


class Stopwatch(Profiler):
    """Times the parts of every training step, and names them in a trace.

    Args:
        by_hand: the task steps its optimisers itself.
        settle: called before each reading, with whether the step ends: a device may have to finish.
        between: called after each step, in no step's time.

    Attributes:
        steps: part → seconds, of each step: from the call for its batch to the last of its hooks.
    """

    def __init__(
        self, by_hand: bool, settle: Callable[[bool], None], between: Callable[[], object]
    ) -> None:
        super().__init__()
        self.steps: list[dict[str, float]] = []
        self.at_stop = AT_STOP_BY_HAND if by_hand else AT_STOP
        self.settle, self.between = settle, between
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
        if hook in AT_START and (self.part or AT_START[hook] == GATHER):
            self._turn(AT_START[hook])

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
            self.steps[-1][self.part] += now - self.since
            self.named.__exit__(None, None, None)
        self.part, self.since = part, now
        if part:
            self.named = record_function(part)
            self.named.__enter__()


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
        self.found: Costs | None = None
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
        events, traced = keep_steps(cast(Any, tracer).events())
        times = [1000 * sum(step.values()) for step in steps]
        free = slice(self.warmup, self.apart if self.waits else self.end)
        timed = steps[self.apart : self.end]
        on_cuda = self.device.type == "cuda"
        notes = {STEADY: True, ON_HOST: True, ON_DEVICE: self.waits,
                 BY_HAND: self.by_hand}  # fmt: skip
        self.found = Costs(
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
            operators=rank_operators(events, self.traced, on_cuda),
            traced=traced / self.traced,
            busy=measure_busy(events) / traced if on_cuda else None,
            notes=[note for note, fits in notes.items() if fits],
        )
        files.write_text(folder / "profile.md", self.found.write_page())


def write_trace(tracer: profile, path: Path) -> None:
    """Write a trace that names neither machine nor folder."""
    with files.written_aside(path) as aside:
        tracer.export_chrome_trace(str(aside))
        trace = json.loads(aside.read_text(encoding="utf-8"))
        aside.write_text(json.dumps({key: trace[key] for key in KEPT if key in trace}))


def keep_steps(events: Iterable[Any]) -> tuple[list[Any], float]:
    """Return the events of a trace that began within a step, and how long the steps took, in ms.

    Between two steps there may be a validation.

    Args:
        events: `torch.autograd.profiler_util.FunctionEvent`, with the parts of steps among them.
    """
    events = list(events)
    parts = sorted((e.time_range.start, e.time_range.end) for e in events
                   if e.name in PARTS and e.device_type.name == "CPU")  # fmt: skip
    starts = [start for start, _ in parts]

    def is_inside(moment: float) -> bool:
        place = bisect(starts, moment) - 1
        return place >= 0 and moment < parts[place][1]

    kept = [e for e in events if not e.is_user_annotation and is_inside(e.time_range.start)]
    return kept, sum(end - start for start, end in parts) / 1000


def rank_operators(
    events: Iterable[Any], steps: int, on_cuda: bool, count: int = 10
) -> list[tuple[str, float, float]]:
    """Return the dearest operators: name, own time a step in ms, calls a step."""
    own: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in events:
        if event.device_type.name == "CPU":  # kernels are counted where they were launched
            spent = event.self_device_time_total if on_cuda else event.self_cpu_time_total
            own[event.name] += spent / 1000
            calls[event.name] += 1
    return [(name, ms / steps, calls[name] / steps) for name, ms in own.most_common(count)]


def measure_busy(events: Iterable[Any]) -> float:
    """Return for how long a device did something, in ms; its streams run side by side."""
    busy, last = 0.0, 0.0
    spans = [e.time_range for e in events if e.device_type.name != "CPU"]
    for span in sorted(spans, key=lambda span: span.start):
        busy += max(span.end - max(span.start, last), 0.0) / 1000
        last = max(last, span.end)
    return busy
