"""What a step of training costs, as one page to read."""

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from medvision.callbacks.stopwatch import PARTS
from medvision.evaluation.pages import write_grid, write_list
from medvision.evaluation.tables import Grid

STEADY = "Parts are timed on steady steps that nothing traces: tracing slows every operator down."
ON_HOST = "What OpenCV and NumPy do on the host, augmentation above all, is no operator of torch."
ON_DEVICE = (
    "A step ends when the device is done. For the table each part waits for it as well, so parts "
    "together can take longer than a step that runs freely."
)
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
            write_grid(Grid(["part", "ms a step", "share"], shares)),
            "## The dearest operators",
            f"Own time, in traced steps of {self.traced:.1f} ms{busy}.",
            write_grid(Grid(["operator", "ms a step", "share", "calls a step"], dearest)),
            write_list(self.notes),
        ]
        return "\n\n".join(section.strip() for section in sections) + "\n"


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
