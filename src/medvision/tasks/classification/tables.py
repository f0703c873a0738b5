"""What only a classifier has in its tables: each class, its decisions, how they were fitted."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.table import PARTS, Table, show_interval, show_score
from medvision.stats.predictive_values import predict_values
from medvision.tasks.classification.calibration import FEWEST
from medvision.tasks.classification.metrics import label_of

Metrics = Mapping[str, Any]
FEW = 20  # patients of a class
COLUMNS = {
    "test": "test", "test_patients": "test, patients", "test_argmax": "test, argmax",
    "val": "val", "val_patients": "val, patients",
}  # fmt: skip


def name_columns(metrics: Metrics) -> dict[str, str]:
    """Return part → its heading; argmax is left out where `test` itself decides by it."""
    point, columns = metrics.get("operating_point") or {}, dict(COLUMNS)
    if point.get("rule") == "argmax":
        del columns["test_argmax"]
    elif isinstance(point.get("threshold"), list):
        columns["test_argmax"] = "test, at .5"
    return columns


def _note_positive(metrics: Metrics) -> Iterator[str]:
    """Say whose sensitivity the recall of a binary problem is."""
    counts = (n.get("per_class") for n in (metrics.get("n") or {}).values())
    names: list[str] = list(next(filter(None, counts), ()))
    threshold = (metrics.get("operating_point") or {}).get("threshold")
    if len(names) == 2 and isinstance(threshold, int | float):
        yield f"Recall is the sensitivity of {names[1]}; specificity is that of {names[0]}."


def note_scores(metrics: Metrics, scores: Mapping[str, Metrics]) -> Iterator[str]:
    """Yield who is positive, over which classes means go, what was fitted, who was judged how."""
    yield from _note_positive(metrics)
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
    yield from _note_few(metrics.get("n") or {}, scores)
    if few := (metrics.get("operating_point") or {}).get("too_few"):
        counts = " and ".join(f"{count} of {name}" for name, count in few.items())
        yield (
            f"No threshold was chosen, 0.5 was taken: the patients of val are too few ({counts}; "
            f"{FEWEST} are needed). Give val more patients (data.val_share), or fix one before you "
            "look (operating_point=fixed=0.3)."
        )
    if "fitted_on" in (metrics.get("val") or {}):
        yield (
            "The operating point and the temperature were fitted on val: read its "
            "scores as optimistic."
        )
    yield from _note_patients(metrics.get("n") or {})


def _note_few(n: Metrics, scores: Mapping[str, Metrics]) -> Iterator[str]:
    """Name the classes whose patients are too few for a score to be more than a hint."""
    for part in (part for part in scores if part in n):
        each = n[part].get("patients_per_class") or {}
        if few := [f"{count} of {name}" for name, count in each.items() if count < FEW]:
            yield (
                f"Few patients: {part} holds {' and '.join(few)}. With fewer than {FEW} of a class "
                "the next patients may score anywhere in the interval."
            )


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


def decision_table(table: pd.DataFrame, classes: Sequence[str], unit: str) -> Table:
    """Lay out how many new inputs were decided for each class, and its mean probability."""
    decided = table["pred"].str.split("|").explode().value_counts()
    rows: list[list[Any]] = []
    for name in classes:
        count, mean = int(decided.get(name, 0)), table[f"prob_{name}"].mean()
        rows.append([name, count, f"{count / len(table):.1%}", f"{mean:.3f}"])
    if "" in decided:  # of a multi-label model
        rows.append(["none of them", decided[""], f"{decided[''] / len(table):.1%}", ""])
    return Table(["class", unit, "share", "mean probability"], rows)


def class_table(found: RunFiles) -> Table | None:
    """Lay out the scores of each class, itself against the rest; None where there are none."""
    classes = _of_part(found.metrics.get("per_class"), found.part)
    if not classes:
        return None
    names = list(dict.fromkeys(name for scores in classes.values() for name in scores))
    rows = [[k, *(_cell(scores.get(name)) for name in names)] for k, scores in classes.items()]
    return Table(["", *map(label_of, names)], rows)


def confusion_table(found: RunFiles) -> Table | None:
    """Lay out counts of decisions: `[K,K]`, rows the truth; multi-label: class → `[2,2]`."""
    counts = _of_part(found.metrics.get("confusion"), found.part)
    if not counts:
        return None
    if isinstance(counts, Mapping):
        head = ["", "true negative", "false positive", "false negative", "true positive"]
        rows = [[name, *cells[0], *cells[1]] for name, cells in counts.items()]
        return Table(head, rows, notes=["Counts, at the operating point of each class."])
    classes = found.classes
    names = list(classes) if len(classes) == len(counts) else [str(k) for k in range(len(counts))]
    few = len(names) <= 4  # many columns have no room for more than the name
    rows = [
        [f"true {name}" if few else name, *row] for name, row in zip(names, counts, strict=True)
    ]
    note = "Counts at the operating point; rows are the true class, columns the decided one."
    return Table(["", *(f"decided {name}" if few else name for name in names)], rows, notes=[note])


def predictive_table(found: RunFiles) -> Table | None:
    """Lay out PPV and NPV at the prevalence of the part, and at one that was stated."""
    values = _of_part(found.metrics.get("predictive_values"), found.part)
    if not values or values["prevalence"] is None:
        return None
    positive = found.classes[-1] if found.classes else "the positive class"
    here = f"{show_score(values['prevalence'])}, as in {found.part}"
    rows = [[here, *(show_interval(values[name]) for name in ("ppv", "npv"))]]
    if (stated := found.prevalence) is not None:
        sensitivity, specificity = (found.scores.get(n, {}) for n in ("recall", "specificity"))
        pair = predict_values(sensitivity, specificity, stated)
        rows.append([f"{show_score(stated)}, as stated", *map(show_interval, pair)])
    notes = [
        f"PPV: the share of those decided {positive} who are; NPV: of those decided otherwise who "
        "are not. Both change with the prevalence; sensitivity and specificity are taken to stay.",
        ""
        if stated is not None
        else "At the prevalence of your own patients: "
        "medvision report run=RUN prevalence=0.02, or report.prevalence=0.02 in training.",
    ]
    return Table([f"prevalence of {positive}", "PPV", "NPV"], rows, notes=notes)


def _cell(value: Any) -> str:
    return show_interval(value) if isinstance(value, Mapping) or value is None else str(value)


def _of_part(content: Any, part: str) -> Any:
    """Take what belongs to `part` where the content is kept apart by parts, else all of it."""
    by_part = isinstance(content, Mapping) and content and set(content) <= set(PARTS)
    return content.get(part) if by_part else content
