"""What only a regressor has in its tables: each target, and how its intervals came about."""

from collections.abc import Iterator, Mapping
from typing import Any

from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.table import Table, show_interval
from medvision.tasks.regression.metrics import LABELS, METRICS

Metrics = Mapping[str, Any]


def note_scores(metrics: Metrics, scores: Mapping[str, Metrics]) -> Iterator[str]:
    """Yield in what units scores are, what was fitted on val, and how patients were judged."""
    targets = metrics.get("targets") or []
    if len(targets) > 1:
        yield (
            f"Means over {', '.join(targets)}; MAE, RMSE and width in standard deviations of the "
            "true values of each part."
        )
    elif targets:
        yield f"MAE, RMSE, bias, limits and width in the units of {targets[0]}."
    level = (metrics.get("interval") or {}).get("level")
    if "fitted_on" in (metrics.get("val") or {}) and level:
        yield (
            f"Intervals are to hold {level:.0%} of the true values; val made them as wide as that "
            "and chose the epoch: read its scores, its coverage above all, as optimistic."
        )
    for part in ("test", "val"):
        if (metrics.get("n") or {}).get(f"{part}_patients") and f"{part}_patients" in scores:
            yield "Patients are judged by the means over their series, which have no interval."
            return


def target_table(found: RunFiles) -> Table | None:
    """Lay out the scores of each of several targets in its own units; None of one alone."""
    targets = (found.metrics.get("per_target") or {}).get(found.part)
    if not targets:
        return None
    rows = [
        [name, scores["n"], *(show_interval(scores.get(metric)) for metric in METRICS)]
        for name, scores in targets.items()
    ]
    note = "Each target in its own units; n rows whose number is known."
    return Table(["", "n", *(LABELS[name] for name in METRICS)], rows, notes=[note])
