"""The scores of a run as a table: a row a metric, a column a part; and what was counted."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from medvision.evaluation.evaluator import Evaluator, name_task, open_evaluator
from medvision.evaluation.report.table import (
    PARTS,
    UNDEFINED,
    UNITS,
    Table,
    show_interval,
)


def score_table(metrics: Mapping[str, Any]) -> Table:
    """Lay the scores of `metrics.json` out, below them what each column was counted on."""
    evaluator = open_evaluator(name_task(metrics))
    names = evaluator.columns(metrics)
    scores = {part: held for part in names if (held := read_scores(metrics, part))}
    columns = list(scores.values())
    all_names = [name for column in columns for name in column]
    order = [*(name for name in evaluator.metrics if name in all_names), *all_names]
    n = metrics.get("n") or {}
    counts = [n.get(part.removesuffix("_argmax")) or {} for part in scores]
    return Table(
        head=["", *(names[part] for part in scores)],
        rows=[
            [evaluator.label(name), *(show_interval(s[name]) if name in s else "" for s in columns)]
            for name in dict.fromkeys(order)
        ],
        foot=[
            [f"n {unit}", *(str(count.get(unit, "")) for count in counts)]
            for unit in UNITS if any(unit in count for count in counts)
        ],
        notes=_notes(metrics, scores, evaluator),
    )  # fmt: skip


def read_scores(metrics: Mapping[str, Any], part: str) -> dict[str, Mapping[str, Any]]:
    """Return the scores of a part, and nothing else that is told of it."""
    held = metrics.get(part) or {}
    return {k: v for k, v in held.items() if isinstance(v, Mapping) and "value" in v}


def _notes(
    metrics: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]], evaluator: Evaluator
) -> list[str]:
    told = metrics.get("doubts") or {}
    doubts = [f"{part}: {one}" for part in scores for one in told.get(part, ())]
    notes = [*metrics.get("stamps", ()), *doubts, _tell_interval(metrics.get("n") or {})]
    notes += evaluator.notes(metrics, scores)
    cells = (show_interval(score) for held in scores.values() for score in held.values())
    if any(cell == UNDEFINED or UNDEFINED + ")" in cell for cell in cells):
        notes.append(f"{UNDEFINED} is a score or interval that these rows leave undefined.")
    return notes


def _tell_interval(n: Mapping[str, Mapping[str, Any]]) -> str:
    """Say what the intervals are over: where whose images they are is not known, over images."""
    for unit, one in (("images", "image"), ("series", "series")):
        held = [counts for counts in n.values() if unit in counts]
        if held and all(counts[unit] == counts["patients"] for counts in held):
            return f"In brackets: 95 % intervals; each {one} counts as a patient."
    return "In brackets: 95 % intervals over patients."


def print_scores(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the scores with their intervals, and how to read them."""
    console = console or Console()
    if open_evaluator(name_task(metrics)).print_scores(metrics, console):
        for stamp in metrics.get("stamps", ()):
            console.print(Text(stamp, "dim"))
        return
    content = score_table(metrics)
    content.print(console)
    for note in content.notes:
        console.print(Text(note, "dim"))


def count_table(counts: Mapping[str, Mapping[str, Any]]) -> Table | None:
    """Lay out images, patients and classes of each part."""
    parts = [part for part in PARTS if part in counts]
    if not parts:
        return None
    classes = dict.fromkeys(c for part in parts for c in counts[part].get("per_class") or {})
    facts = [k for k in (*UNITS, "unlabelled") if any(counts[p].get(k) for p in parts)]
    words = {"unlabelled": "not annotated"}
    rows = [[words.get(f, f), *(counts[p].get(f, "") for p in parts)] for f in facts]
    rows += [[c, *((counts[p].get("per_class") or {}).get(c, 0) for p in parts)] for c in classes]
    return Table(["", *parts], rows)
