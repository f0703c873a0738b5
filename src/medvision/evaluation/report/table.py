"""The score table of a run, as text for the terminal and as rows for the report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from medvision.evaluation.figures.style import show_score
from medvision.tasks.classification.metrics import METRICS

LABELS = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "recall": "recall (sens.)",
    "f1": "F1",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "MCC",
    "brier": "Brier score",
    "ece": "ECE",
}
COLUMNS = {
    "test": "test", "test_patients": "test, patients", "test_argmax": "test, argmax",
    "val": "val", "val_patients": "val, patients",
}  # fmt: skip
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
    parts = _columns(metrics)
    scores = {part: _scores(metrics, part) for part in parts}
    known = [name for name in METRICS if any(name in s for s in scores.values())]
    others = [name for s in scores.values() for name in s if name not in METRICS]
    names = list(dict.fromkeys(known + others))
    n = metrics.get("n") or {}
    return ScoreTable(
        columns=list(parts.values()),
        counts=[n.get(part.removesuffix("_argmax")) or {} for part in parts],
        rows=[
            (label_of(name), [show_interval(s[name]) if name in s else "" for s in scores.values()])
            for name in names
        ],
        notes=_notes(metrics, scores),
    )


def _columns(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return part → its heading; argmax is left out where `test` itself decides by it."""
    point = metrics.get("operating_point") or {}
    columns = {part: name for part, name in COLUMNS.items() if _scores(metrics, part)}
    if point.get("rule") == "argmax":
        columns.pop("test_argmax", None)
    elif isinstance(point.get("threshold"), list) and "test_argmax" in columns:
        columns["test_argmax"] = "test, at .5"
    return columns


def label_of(metric: str) -> str:
    """Return the name a reader knows a metric by."""
    return LABELS.get(metric, metric.replace("_", " "))


def _scores(metrics: Mapping[str, Any], part: str) -> dict[str, Any]:
    held = metrics.get(part) or {}
    return {k: v for k, v in held.items() if isinstance(v, Mapping) and "value" in v}


def _notes(metrics: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]]) -> list[str]:
    notes = [*metrics.get("stamps", ()), "In brackets: 95 % bootstrap intervals over patients."]
    counted = {
        part: {name: s["classes"] for name, s in held.items() if "classes" in s}
        for part, held in scores.items()
        if part != "test_argmax"
    }
    said: dict[str, list[str]] = {}
    for part, classes in counted.items():
        if most := max(classes.values(), default=0):
            fewer = [f"{label_of(k)} {v}" for k, v in classes.items() if v < most]
            but = f" ({', '.join(fewer)})" if fewer else ""
            said.setdefault(f"over the {most} classes where a score is defined{but}", []).append(
                part
            )
    notes += [f"Means {text}: {' and '.join(of)}." for text, of in said.items()]
    if "fitted_on" in (metrics.get("val") or {}):
        notes.append("The operating point and the temperature were fitted on val: read its "
                     "scores as optimistic.")  # fmt: skip
    notes += _note_patients(metrics.get("n") or {})
    cells = (show_interval(score) for held in scores.values() for score in held.values())
    if any(cell == UNDEFINED or UNDEFINED + ")" in cell for cell in cells):
        notes.append(f"{UNDEFINED} is a score or interval that these labels leave undefined.")
    return notes


def _note_patients(n: Mapping[str, Any]) -> list[str]:
    """Say how series and patients hang together in what was scored."""
    part = next((name for name in ("test", "val") if "series" in (n.get(name) or {})), None)
    if part is None:
        return []
    if (whole := n.get(f"{part}_patients")) is None:
        return ["Every patient has one series: the scores of series are those of patients."]
    left_out = whole.get("unlabelled")
    but = f" ({left_out} left out: their series differ in label)" if left_out else ""
    return [f"Patients are judged by the mean probability of their series{but}."]


def print_table(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the scores with their intervals; plain text where nobody watches the terminal."""
    console = console or Console()
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


def _cell(value: Any) -> str:
    return show_interval(value) if isinstance(value, Mapping) or value is None else str(value)


def _of_part(content: Any, part: str) -> Any:
    """Take what belongs to `part` where the content is kept apart by parts, else all of it."""
    by_part = isinstance(content, Mapping) and content and set(content) <= set(PARTS)
    return content.get(part) if by_part else content
