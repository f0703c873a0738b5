"""`medvision report`: one self-contained page of a run, its scores computed once more."""

from collections.abc import Iterator, Mapping
from typing import Any

import medvision.files as files
from medvision.commands.evaluate import compute_metrics, read_stored
from medvision.evaluation.report import write_report
from medvision.evaluation.tables import print_table
from medvision.model import load_model
from medvision.runs import find_run


def run(run: str) -> None:
    """Recompute the scores from the stored predictions, say if they differ, and write report.html.

    run=RUN    a run folder, `last`, or a unique beginning of its name
    """
    chosen = find_run(run)
    remarks: list[str] = []
    if (chosen.folder / "metrics.json").exists():
        recorded = files.read_json(chosen.folder / "metrics.json")
        fresh = compute_metrics(read_stored(chosen.folder), load_model(chosen.model))
        differing = list(find_differences(recorded, fresh))
        if differing:
            remarks.append(
                f"metrics.json does not follow from the stored predictions "
                f"({len(differing)} values differ, such as {differing[0]})"
            )
        print_table(recorded)
    for remark in remarks:
        print(f"warning: {remark}")
    print(f"report: {write_report(chosen.folder, remarks)}")


def find_differences(recorded: Any, fresh: Any, place: str = "") -> Iterator[str]:
    """Yield the dotted places where two results differ beyond rounding."""
    if isinstance(recorded, Mapping) and isinstance(fresh, Mapping):
        for key in recorded.keys() | fresh.keys():
            yield from find_differences(
                recorded.get(key), fresh.get(key), f"{place}.{key}".strip(".")
            )
    elif isinstance(recorded, float) and isinstance(fresh, float):
        if abs(recorded - fresh) > 1e-9:
            yield place
    elif recorded != fresh:
        yield place
