"""`medvision report`: one self-contained page of a run, or of all runs of a sweep."""

from collections.abc import Iterator, Mapping
from typing import Any

import medvision.files as files
import medvision.seal as seal
from medvision.evaluation.evaluator import open_recorded
from medvision.evaluation.report.run_files import read_run_files
from medvision.evaluation.report.run_report import write_report
from medvision.evaluation.report.scores import print_scores
from medvision.evaluation.sweep.report import report_sweep
from medvision.runs import Run, find_runs


def run(run: str) -> None:
    """Write the report of a run, its scores computed once more, or of a sweep, its arms ranked.

    run=RUN      a run folder, `last`, or a unique beginning of its name
    run=SWEEP    the folder or name of a sweep, or a pattern such as 'lr_sweep/*seed=1*'
    """
    found = find_runs(run)
    if len(found) == 1:
        report_run(found[0])
    else:
        report_sweep(found)


def report_run(run: Run) -> None:
    """Recompute the scores from the stored predictions, say if they differ, write report.html."""
    remarks: list[str] = []
    seal.check_files(run.folder)
    if run.metrics.exists():
        recorded = files.read_json(run.metrics)
        differing = list(_find_differences(recorded, _compute_again(run, recorded)))
        if differing:
            remarks.append(
                f"metrics.json does not follow from the stored predictions "
                f"({len(differing)} values differ, such as {differing[0]})"
            )
        print_scores(read_run_files(run.folder).metrics)
    for remark in remarks:
        print(f"warning: {remark}")
    print(f"report: {write_report(run.folder, remarks)}")


def _compute_again(run: Run, recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Compute the scores of a run once more; where no predictions are stored they are as recorded.

    Keys that runs of before did not have are left out.
    """
    from medvision.inference.evaluate import compute_metrics
    from medvision.model import load_model

    if not open_recorded(run.record, recorded, run.folder).tables:
        return recorded
    fresh = compute_metrics(run.folder, load_model(run.model))
    new = {"subgroups", "task"} - recorded.keys()
    return {key: value for key, value in fresh.items() if key not in new}


def _find_differences(recorded: Any, fresh: Any, place: str = "") -> Iterator[str]:
    """Yield the dotted places where two results differ beyond rounding."""
    if isinstance(recorded, Mapping) and isinstance(fresh, Mapping):
        for key in recorded.keys() | fresh.keys():
            yield from _find_differences(
                recorded.get(key), fresh.get(key), f"{place}.{key}".strip(".")
            )
    elif isinstance(recorded, float) and isinstance(fresh, float):
        if abs(recorded - fresh) > 1e-9:
            yield place
    elif recorded != fresh:
        yield place
