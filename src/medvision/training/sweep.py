"""A sweep's jobs: each a cell that may fail, wherever it runs, and the table at the end.

Jobs may run in this process, in joblib's workers or on a cluster; what they tell their sweep is
therefore a file a job, in the folder that Hydra calls the sweep's.
"""

import math
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import medvision.files as files
from medvision.runs import find_runs
from medvision.training.explain import explain

_LOCK = ".sweep-"  # and the folder's name: held while the launch lives


@contextmanager
def open_sweep() -> Iterator[Path]:
    """Name a new folder for the outcomes of one launch; runs lie elsewhere.

    What killed launches have left is removed. A launcher's jobs on a cluster may live on: theirs
    stays.
    """
    top = files.cache_folder() / "hydra"
    for lock in top.glob(f"{_LOCK}*.lock"):
        folder = top / lock.stem.removeprefix(_LOCK)
        if not (folder / ".submitit").exists() and not files.is_locked(lock):
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)
    place = top / uuid.uuid4().hex[:12]
    lock = top / f"{_LOCK}{place.name}.lock"
    with files.locked(lock):
        yield place
        lock.unlink()


def run_sweep_job(config: DictConfig) -> float:
    """Train one job of a sweep; a job that fails answers nan, and its run keeps the reason."""
    hydra, failed = HydraConfig.get(), False
    value = math.nan
    try:
        from medvision.training.distributed import is_leader, settle_place
        from medvision.training.fit import train

        settle_place(config)
        value = train(config, list(hydra.overrides.task), cell=True)
    except Exception as error:
        failed = True
        print(f"medvision: this job failed: {explain(error)}", file=sys.stderr, flush=True)
    if is_leader():
        outcome = {"name": str(config.name), "failed": failed}
        files.write_json(Path(hydra.sweep.dir) / f"{hydra.job.num}.json", outcome)
    return value


def conclude_sweep(folder: Path) -> int:
    """Print the ranked table of the sweep whose outcomes lie here; return the exit status."""
    from medvision.evaluation.sweep.report import report_sweep

    outcomes = [files.read_json(path) for path in files.list_visible(folder, "*.json")]
    for name in dict.fromkeys(outcome["name"] for outcome in outcomes):
        if (files.runs_folder() / name).is_dir():
            report_sweep(find_runs(files.runs_folder() / name))
    failed = sum(outcome["failed"] for outcome in outcomes)
    if failed:
        jobs = "1 job" if failed == 1 else f"{failed} jobs"
        print(f"medvision: {jobs} of the sweep failed; the same command tries again what failed",
              file=sys.stderr)  # fmt: skip
    else:
        shutil.rmtree(folder, ignore_errors=True)  # a launcher's logs matter where one failed
    return 2 if failed else 0
