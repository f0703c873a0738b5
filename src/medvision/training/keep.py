"""Which epoch a run keeps: the best by its monitor, or the last where val cannot tell."""

from medvision.training.context import SampleRows
from medvision.training.job import Job

FEWEST = 40
"""Patients of val from which on they choose an epoch.

Twenty of each of two classes, as from which on an interval is not called one of few patients. The
noise of fewer is larger than what epochs differ by, and late ones are better. For eight nets that
63 series trained, 14 others called an epoch best that had AUROC .64, .93, .58, .59, .97, .80, .89,
.96 on 113 more; the last one had .86, .93, .83, .85, .97, .80, .88, .96. The mean of the weights of
the last third had no better ones (.85, .93, .82, .84, .97, .79, .85, .93), and the mean of val's
AUROC over three epochs chose some of .62 and .75.
"""


def keeps_last(job: Job) -> bool:
    """Tell whether the last epoch is kept, and all are trained.

    The rate has come to rest there, so that no single step decides. A generator is judged by images
    that it makes, of which there are enough: it keeps its best epoch.
    """
    few = job.task.predicts and _count_patients(job) < FEWEST
    return job.config.keep == "last" or (job.config.keep == "auto" and few)


def note_last(job: Job) -> list[str]:
    """Say before training that nothing is chosen, and the way out; say nothing where it is."""
    if not keeps_last(job) or job.config.keep == "last":
        return []
    return [
        f"val holds {_count_patients(job)} patients, too few to tell epochs apart: all are trained "
        f"and the last is kept (keep=best lets {job.config.monitor} choose)"
    ]


def explain_last(job: Job, epochs: int) -> str:
    """Say why the last epoch was kept: `the last of 20, as val holds 14 patients and …`."""
    if job.config.keep == "last":
        return f"the last of {epochs}, as keep=last asks"
    return (
        f"the last of {epochs}, as val holds {_count_patients(job)} patients and from {FEWEST} on "
        f"{job.config.monitor} chooses"
    )


def _count_patients(job: Job) -> int:
    rows = SampleRows(job.data.ready)
    return len(set(rows.patients(rows.of("val"))))
