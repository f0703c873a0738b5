"""The score table of a run, as text for the terminal and as rows for the report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from medvision.evaluation.evaluator import Evaluator, name_task, open_evaluator
from medvision.evaluation.figures.style import show_score

UNITS = ("series", "images", "patients")
DASH = "\N{EN DASH}"
UNDEFINED = DASH
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class ScoreTable:
    """Cells ready to be read.

    Attributes:
        columns: names of the columns after the first.
        counts: a column: its numbers of `UNITS`, or empty where the run does not say.
        rows: name of the metric and one cell a column; "" = not asked of this column.
        notes: what a reader must know to read the cells.
    """

    columns: list[str]
    counts: list[Mapping[str, Any]] = field(default_factory=list)
    rows: list[tuple[str, list[str]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def units(self) -> list[str]:
        """What is counted in any of the columns."""
        return [unit for unit in UNITS if any(unit in n for n in self.counts)]


def show_interval(score: Mapping[str, Any] | None) -> str:
    """Write `{value, low, high}` as `.971 (.952-.983)`; a dash where there is none."""
    if not score or score.get("value") is None:
        return UNDEFINED
    low, high = score.get("low"), score.get("high")
    if low is None or high is None:
        return f"{show_score(score['value'])} ({UNDEFINED})"
    between = ", " if low < 0 else DASH
    return f"{show_score(score['value'])} ({show_score(low)}{between}{show_score(high)})"


def show_seconds(seconds: float) -> str:
    """Write `4 s`, `2 min 5 s` or `1 h 3 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def count_words(n: Mapping[str, Any] | None) -> str:
    """Write `{images, patients}` as `624 images, 310 patients`; of series likewise."""
    words = [f"{n[k]} {k}" for k in UNITS if n and n.get(k) is not None]
    return ", ".join(words)


def score_table(metrics: Mapping[str, Any]) -> ScoreTable:
    """Lay the scores of `metrics.json` out: a row a metric, a column a part."""
    evaluator = open_evaluator(name_task(metrics))
    parts = {part: name for part, name in evaluator.columns(metrics).items()
             if _scores(metrics, part)}  # fmt: skip
    scores = {part: _scores(metrics, part) for part in parts}
    known = [name for name in evaluator.metrics if any(name in s for s in scores.values())]
    names = list(dict.fromkeys([*known, *(name for s in scores.values() for name in s)]))
    n = metrics.get("n") or {}
    return ScoreTable(
        columns=list(parts.values()),
        counts=[n.get(part.removesuffix("_argmax")) or {} for part in parts],
        rows=[
            (
                evaluator.label(name),
                [show_interval(s[name]) if name in s else "" for s in scores.values()],
            )
            for name in names
        ],
        notes=_notes(metrics, scores, evaluator),
    )


def _scores(metrics: Mapping[str, Any], part: str) -> dict[str, Any]:
    held = metrics.get(part) or {}
    return {k: v for k, v in held.items() if isinstance(v, Mapping) and "value" in v}


def _notes(
    metrics: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]], evaluator: Evaluator
) -> list[str]:
    notes = [*metrics.get("stamps", ()), "In brackets: 95 % bootstrap intervals over patients."]
    notes += evaluator.notes(metrics, scores)
    cells = (show_interval(score) for held in scores.values() for score in held.values())
    if any(cell == UNDEFINED or UNDEFINED + ")" in cell for cell in cells):
        notes.append(f"{UNDEFINED} is a score or interval that these labels leave undefined.")
    return notes


def print_scores(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the scores with their intervals; plain text where nobody watches the terminal."""
    console = console or Console()
    if open_evaluator(name_task(metrics)).print_scores(metrics, console):
        return
    content = score_table(metrics)
    look = box.SIMPLE_HEAD if console.is_terminal else None
    table = Table(box=look, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for column in content.columns:
        table.add_column(column, no_wrap=True, justify="left")
    for name, cells in content.rows:
        table.add_row(name, *cells)
    for unit in content.units:
        table.add_row(f"n {unit}", *(str(n.get(unit, "")) for n in content.counts), style="dim")
    console.print(table)
    for note in content.notes:
        console.print(note, style="dim", highlight=False)


@dataclass(frozen=True)
class Grid:
    """A table of the report: names of columns, and rows that begin with their name."""

    head: list[str]
    rows: list[list[Any]]
    note: str = ""


@dataclass(frozen=True)
class Block:
    """Rows that belong together; `title` is "" where each row says alone what it is."""

    title: str
    rows: list[list[Any]]


@dataclass(frozen=True)
class BlockTable:
    """A table of the report in blocks, and what a reader must know of it."""

    head: list[str]
    blocks: list[Block]
    notes: list[str]


def count_table(counts: Mapping[str, Mapping[str, Any]]) -> Grid | None:
    """Lay out images, patients and classes of each part."""
    parts = [part for part in PARTS if part in counts]
    if not parts:
        return None
    classes = dict.fromkeys(c for part in parts for c in counts[part].get("per_class") or {})
    facts = [k for k in (*UNITS, "unlabelled") if any(counts[p].get(k) for p in parts)]
    rows = [[fact, *(counts[p].get(fact, "") for p in parts)] for fact in facts]
    rows += [[c, *((counts[p].get("per_class") or {}).get(c, 0) for p in parts)] for c in classes]
    return Grid(["", *parts], rows)
