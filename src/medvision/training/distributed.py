"""Several processes in one run: who leads, what the others wait for, and whose device is whose.

Lightning's children, torchrun and Slurm all start the whole command once for each device. Rank 0
alone locks the run folder and decides whether it is new, resumed or done; the others take its word
from a file beside the folder, then join the training and leave the rest to it.
"""

import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import medvision.files as files
from medvision.devices import takes_several
from medvision.errors import MedvisionError
from medvision.runs import Run

State = Literal["new", "resume", "frozen", "done"]
LAUNCH = "MEDVISION_LAUNCH"  # inherited by the processes that Lightning starts
SCHEDULERS = (
    "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "SLURM_JOB_ID", "SLURM_STEP_ID",
    "SLURM_RESTART_COUNT", "SUBMITIT_LOCAL_JOB_ID",
)  # fmt: skip
PATIENCE = 600.0  # seconds that decoding a large set on rank 0 may take
_held: list[FileLock] = []  # this process's claim on a device, until it ends


def rank() -> int:
    """Return the number of this process among those of one run."""
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
    return 1000 * int(os.environ.get("NODE_RANK", 0)) + int(os.environ.get("LOCAL_RANK", 0))


def is_leader() -> bool:
    """Whether this process decides, writes and evaluates."""
    return rank() == 0


def announce(run: Run, state: State) -> None:
    """Tell the other processes, those already here and those to come, what was decided."""
    if _scheduled() is None:
        os.environ[LAUNCH] = uuid.uuid4().hex
    files.write_json(_place(run), {"launch": _launch(), "state": state})


def await_decision(run: Run) -> State:
    """Wait for what rank 0 of this very launch decides.

    Raises:
        MedvisionError: it said nothing in time.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if _place(run).exists():
            said: dict[str, Any] = files.read_json(_place(run))
            if said["launch"] == _launch():
                state: State = said["state"]
                return state
        time.sleep(0.2)
    raise MedvisionError(f"rank {rank()} heard nothing from rank 0 about {run.folder}; see its log")


def _place(run: Run) -> Path:
    return run.folder.parent / f".{run.folder.name}.launch.json"


def _launch() -> str:
    return _scheduled() or os.environ[LAUNCH]


def _scheduled() -> str | None:
    """Return what all processes of a scheduler's launch have in common and no other launch has."""
    known = [os.environ[name] for name in SCHEDULERS if name in os.environ]
    if "TORCHELASTIC_RUN_ID" in os.environ and (
        os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")
    ):
        known.append(str(os.getppid()))  # torchrun's ids repeat on one machine, its agents do not
    return "-".join(known) or None


def settle_place(config: DictConfig) -> None:
    """Fit a sweep's job into where its launcher runs it.

    Raises:
        MedvisionError: a job of several devices that the launcher cannot give it.
    """
    target = str(HydraConfig.get().launcher.get("_target_", ""))
    tasks = int(HydraConfig.get().launcher.get("tasks_per_node", 1))
    if takes_several(config) and ("submitit" not in target or tasks == 1):
        raise MedvisionError(
            f"trainer.devices={config.trainer.devices} in a sweep needs a process for each device; "
            "say hydra/launcher=submitit_slurm (or submitit_local) "
            f"hydra.launcher.tasks_per_node={config.trainer.devices}"
        )
    if target.endswith("LocalLauncher") and tasks > 1:
        _join_local_tasks(tasks)
    if "joblib" in target:
        claim_device()


def _join_local_tasks(tasks: int) -> None:
    """Say to Lightning in its own words what submitit's local executor has started."""
    import submitit

    job = submitit.JobEnvironment()
    port = 20_000 + int(files.digest(job.job_id)[:8], 16) % 20_000
    os.environ |= {
        "LOCAL_RANK": str(job.local_rank), "NODE_RANK": "0", "WORLD_SIZE": str(tasks),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def claim_device() -> None:
    """Give this worker process a GPU of its own where the machine has several.

    Before CUDA starts here, the first free one of those visible becomes the only visible one; where
    workers outnumber them, some share.
    """
    if _held or ("torch" in sys.modules and sys.modules["torch"].cuda.is_initialized()):
        return
    import torch

    count = torch.cuda.device_count()
    visible = [d for d in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if d]
    devices = visible or [str(number) for number in range(count)]
    if len(devices) < 2:
        return
    for device in devices:
        lock = FileLock(files.cache_folder() / "hydra" / f".device-{device}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        _held.append(lock)
        break
    else:
        device = devices[os.getpid() % len(devices)]
    os.environ["CUDA_VISIBLE_DEVICES"] = device
