"""What only a classifier has in tables and sentences: each class, its decisions, how they came."""

from collections.abc import Iterator, Mapping
from typing import Any

from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.summary import FEW, count_scored, speak_score, tell_threshold
from medvision.evaluation.report.table import PARTS, Grid, show_interval
from medvision.tasks.classification.metrics import label_of

Metrics = Mapping[str, Any]
COLUMNS = {
    "test": "test", "test_patients": "test, patients", "test_argmax": "test, argmax",
    "val": "val", "val_patients": "val, patients",
}  # fmt: skip
SPOKEN = ("auroc", "balanced_accuracy", "accuracy")  # the first two that are defined


def name_columns(metrics: Metrics) -> dict[str, str]:
    """Return part → its heading; argmax is left out where `test` itself decides by it."""
    point, columns = metrics.get("operating_point") or {}, dict(COLUMNS)
    if point.get("rule") == "argmax":
        del columns["test_argmax"]
    elif isinstance(point.get("threshold"), list):
        columns["test_argmax"] = "test, at .5"
    return columns


def note_scores(metrics: Metrics, scores: Mapping[str, Metrics]) -> Iterator[str]:
    """Yield over which classes means go, what was fitted on val, and how patients were judged."""
    said: dict[str, list[str]] = {}
    for part, held in scores.items():
        classes = {name: s["classes"] for name, s in held.items() if "classes" in s}
        if part != "test_argmax" and (most := max(classes.values(), default=0)):
            fewer = [f"{label_of(k)} {v}" for k, v in classes.items() if v < most]
            but = f" ({', '.join(fewer)})" if fewer else ""
            said.setdefault(f"over the {most} classes where a score is defined{but}", []).append(
                part
            )
    yield from (f"Means {text}: {' and '.join(of)}." for text, of in said.items())
    if "fitted_on" in (metrics.get("val") or {}):
        yield (
            "The operating point and the temperature were fitted on val: read its "
            "scores as optimistic."
        )
    yield from _note_patients(metrics.get("n") or {})


def _note_patients(n: Metrics) -> Iterator[str]:
    """Say how series and patients hang together in what was scored."""
    part = next((name for name in ("test", "val") if "series" in (n.get(name) or {})), None)
    if part is None:
        return
    if (whole := n.get(f"{part}_patients")) is None:
        yield "Every patient has one series: the scores of series are those of patients."
        return
    left_out = whole.get("unlabelled")
    but = f" ({left_out} left out: their series differ in label)" if left_out else ""
    yield f"Patients are judged by the mean probability of their series{but}."


def class_table(found: RunFiles) -> Grid | None:
    """Lay out the scores of each class, itself against the rest; None where there are none."""
    classes = _of_part(found.metrics.get("per_class"), found.part)
    if not classes:
        return None
    names = list(dict.fromkeys(name for scores in classes.values() for name in scores))
    rows = [[k, *(_cell(scores.get(name)) for name in names)] for k, scores in classes.items()]
    return Grid(["", *map(label_of, names)], rows)


def confusion_table(found: RunFiles) -> Grid | None:
    """Lay out counts of decisions: `[K,K]`, rows the truth; multi-label: class → `[2,2]`."""
    counts = _of_part(found.metrics.get("confusion"), found.part)
    if not counts:
        return None
    if isinstance(counts, Mapping):
        head = ["", "true negative", "false positive", "false negative", "true positive"]
        rows = [[name, *cells[0], *cells[1]] for name, cells in counts.items()]
        return Grid(head, rows, "Counts, at the operating point of each class.")
    classes = found.classes
    names = list(classes) if len(classes) == len(counts) else [str(k) for k in range(len(counts))]
    few = len(names) <= 4  # many columns have no room for more than the name
    rows = [
        [f"true {name}" if few else name, *row] for name, row in zip(names, counts, strict=True)
    ]
    note = "Counts at the operating point; rows are the true class, columns the decided one."
    return Grid(["", *(f"decided {name}" if few else name for name in names)], rows, note)


def _cell(value: Any) -> str:
    return show_interval(value) if isinstance(value, Mapping) or value is None else str(value)


def _of_part(content: Any, part: str) -> Any:
    """Take what belongs to `part` where the content is kept apart by parts, else all of it."""
    by_part = isinstance(content, Mapping) and content and set(content) <= set(PARTS)
    return content.get(part) if by_part else content


def tell_result(found: RunFiles) -> Iterator[str]:
    """Say the scores that stand for all, in one sentence."""
    scores = found.metrics.get(found.part) or {}
    told = [
        f"{label_of(name)} {speak_score(scores[name])}"
        for name in SPOKEN
        if (scores.get(name) or {}).get("value") is not None
    ]
    if told:
        yield f"On {count_scored(found)}: {', '.join(told[:2])}."


def tell_choices(found: RunFiles) -> Iterator[str]:
    """Say how temperature and threshold were chosen."""
    point = found.metrics.get("operating_point") or {}
    if (threshold := point.get("threshold")) is not None:
        each = tell_threshold(threshold, found.classes)
        yield f"Operating point: {each}; chosen on val by {point.get('rule')}, then frozen."
    elif found.metrics:
        yield "Operating point: none; the class with the highest probability is decided for."
    if (temperature := found.metrics.get("temperature")) is not None:
        how = "fitted on val" if temperature != 1 else "not fitted, since val could not tell"
        yield f"Temperature: {temperature:.3f}, {how}; logits are divided by it."


def tell_limits(found: RunFiles) -> Iterator[str]:
    """Say on how few patients a threshold was chosen."""
    chosen, point = found.patients("val"), found.metrics.get("operating_point") or {}
    if point.get("threshold") is not None and chosen is not None:
        few = ", few for a threshold" if chosen < FEW else ""
        yield f"The threshold was chosen on {chosen} val patients{few}."
