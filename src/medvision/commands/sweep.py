"""A sweep's jobs: each a cell that may fail, wherever it runs, and the table at the end.

Jobs may run in this process, in joblib's workers or on a cluster; what they tell their sweep is
therefore a file a job, in the folder that Hydra calls the sweep's.
"""

import math
import shutil
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import medvision.files as files
from medvision.commands.configuration import explain
from medvision.provenance import command_line
from medvision.runs import Run, find_runs, run_key


def sweep_folder() -> Path:
    """Name a new folder for the outcomes of one launch; runs lie elsewhere."""
    return files.cache_folder() / "hydra" / uuid.uuid4().hex[:12]


def run_cell(config: DictConfig) -> float:
    """Train one job of a sweep; a job that fails answers nan and leaves its reason behind."""
    hydra, reason = HydraConfig.get(), None
    value = math.nan
    try:
        from medvision.commands.fit import train
        from medvision.commands.ranks import is_leader, settle_place

        settle_place(config)
        value = train(config, list(hydra.overrides.task), cell=True)
    except Exception as error:
        reason = explain(error)
        print(f"medvision: this job failed: {reason}", file=sys.stderr, flush=True)
    if is_leader():
        outcome = {"name": str(config.name), "reason": reason}
        files.write_json(Path(hydra.sweep.dir) / f"{hydra.job.num}.json", outcome)
    return value


def conclude_sweep(folder: Path) -> int:
    """Print the ranked table of the sweep whose outcomes lie here; return the exit status."""
    from medvision.commands.report import report_sweep

    outcomes = [files.read_json(path) for path in sorted(folder.glob("*.json"))]
    for name in dict.fromkeys(outcome["name"] for outcome in outcomes):
        if (files.runs_folder() / name).is_dir():
            report_sweep(find_runs(files.runs_folder() / name))
    failed = sum(outcome["reason"] is not None for outcome in outcomes)
    if failed:
        jobs = "1 job" if failed == 1 else f"{failed} jobs"
        print(f"medvision: {jobs} of the sweep failed; the same command tries again what failed",
              file=sys.stderr)  # fmt: skip
    else:
        shutil.rmtree(folder, ignore_errors=True)  # a launcher's logs matter where one failed
    return 2 if failed else 0


@contextmanager
def refusals_noted(config: DictConfig, overrides: Sequence[str]) -> Iterator[None]:
    """Leave a failed run behind when a job is refused before its run folder can be named.

    Once it is no longer refused the trace goes: it held nothing but the reason.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    trace = Run(files.runs_folder() / config.name / run_key(overrides, plain, ["refused"]))
    try:
        yield
    except Exception as error:
        trace.note(
            command=command_line(), started=files.today(), seed=config.seed, status="failed",
            reason=explain(error)[:2000], monitor=config.monitor, overrides=list(overrides),
        )  # fmt: skip
        raise
    shutil.rmtree(trace.folder, ignore_errors=True)
