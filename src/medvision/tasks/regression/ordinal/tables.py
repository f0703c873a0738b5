"""What only a model of grades has in its tables: its decisions."""

from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.table import Table


def confusion_table(found: RunFiles) -> Table | None:
    """Lay out counts of decisions, rows the truth; None where there are none."""
    counts = (found.metrics.get("confusion") or {}).get(found.part)
    grades = found.metrics.get("grades")
    if not counts or not grades:
        return None
    rows = [[f"true {name}", *row] for name, row in zip(grades, counts, strict=True)]
    note = "Counts; rows are the true grade, columns the decided one, from the lowest up."
    return Table(["", *(f"decided {name}" for name in grades)], rows, notes=[note])
