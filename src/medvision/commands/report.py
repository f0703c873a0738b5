"""`medvision report`: one self-contained page of a run, or of all runs of a sweep."""

from medvision.errors import MedvisionError
from medvision.evaluation.report.run_files import check_prevalence, read_run_files
from medvision.evaluation.report.run_report import write_report
from medvision.evaluation.report.scores import print_scores
from medvision.evaluation.sweep.report import report_sweep
from medvision.runs import Run, find_runs


def run(run: str, prevalence: float | None = None) -> None:
    """Write the report of a run, its scores computed once more, or of a sweep, its arms ranked.

    run=RUN      a run folder, `last`, or a unique beginning of its name
    run=SWEEP    the folder or name of a sweep, or a pattern such as 'lr_sweep/*seed=1*'
    prevalence=P tell the predictive values of a run where a share P of the patients has what it
                 looks for, such as 0.02; default: report.prevalence of its training
    """
    check_prevalence(prevalence)
    found = find_runs(run)
    if len(found) == 1:
        report_run(found[0], prevalence)
    elif prevalence is None:
        report_sweep(found)
    else:
        raise MedvisionError(
            f"prevalence= is for the report of one run, and run={run} names {len(found)}; give one"
        )


def report_run(run: Run, prevalence: float | None = None) -> None:
    """Recompute the scores from the stored predictions, say if they differ, write report.html."""
    remarks: list[str] = []
    held = read_run_files(run.folder)
    if held.metrics:
        from medvision.inference.evaluate import check_metrics

        if differing := check_metrics(run, held.metrics, run.model):
            remarks.append(
                f"metrics.json does not follow from the stored predictions "
                f"({len(differing)} values differ, such as {differing[0]})"
            )
        print_scores(held.metrics)
    for remark in remarks:
        print(f"warning: {remark}")
    print(f"report: {write_report(run.folder, remarks, prevalence)}")
