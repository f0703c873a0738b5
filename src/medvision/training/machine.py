"""What a run sets on the machine: threads, allocator, precision, compilation."""

import ctypes
import logging
import os
import shutil
import sys
import sysconfig
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from omegaconf import DictConfig

from medvision.data.units.unit import make_unit
from medvision.devices import takes_gpu
from medvision.errors import collect
from medvision.tasks.trainable import Trainable

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def set_allocator(allocator: Literal["keep", "system"]) -> bool:
    """Let glibc keep freed memory instead of mapping large activations anew at every step.

    Returns:
        whether that was done; only glibc has the switch.
    """
    if allocator == "system" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def choose_precision(precision: str, accelerator: str = "auto") -> str:
    """Settle `auto`: bf16 where the processor or the device computes in it, else float32."""
    if precision != "auto":
        return precision
    if takes_gpu(accelerator):
        return (
            "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
        )
    return "bf16-mixed" if cpu_has_bf16() else "32-true"


def cpu_has_bf16() -> bool:
    """Tell whether the processor multiplies in bf16 (AVX512-BF16 or AMX)."""
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


def quieten() -> None:
    """Silence what Lightning says of itself at every start, and warnings nobody can act on."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # what it looks for is told once
    for text in (
        r".*LeafSpec.*is deprecated",  # Lightning's own use of torch
        r".*is smaller than the logging interval",  # we log once an epoch
        r".*does not have many workers",  # batches are gathered, not loaded
        r".*Checkpoint directory .* exists",  # a resumed run
        r".*all_gather is deprecated",  # Lightning's own use of torch
        r".*will save all extracted features in buffer",  # of a few hundred images
        r".*recommended to use `self.log.*sync_dist=True",  # every rank scored the rows of all
    ):
        warnings.filterwarnings("ignore", message=text)


How = bool | str
BACKEND = "inductor"
_GRAPHS = "reduce-overhead"  # torch's word for CUDA graphs
_OLDEST = (7, 0)  # of a GPU's generations that torch compiles for: Volta


def check_compile(config: DictConfig, task: type[Trainable]) -> None:
    """Refuse to compile where it was asked for and cannot be.

    Raises:
        MedvisionError: naming all that stands in the way.
    """
    if config.compile in (False, "auto"):
        return
    gpu = takes_gpu(config.trainer.accelerator)
    problems = find_obstacles(gpu)
    if config.compile == _GRAPHS:
        stands = {
            "CUDA graphs need a GPU": not gpu,
            "series differ in length, and each length would be a graph of its own":
                make_unit(config.data.get("unit", "image"), {}).varies,
            task.graphs_fail: bool(task.graphs_fail),
            "gradients add up over trainer.accumulate_grad_batches, and a graph overwrites them":
                config.trainer.accumulate_grad_batches != 1,
        }  # fmt: skip
        problems += [problem for problem, there in stands.items() if there]
    if problems:
        told = str(config.compile).lower()
        raise collect(f"compile={told} cannot be", problems, "Mend this, or say compile=false")


def find_obstacles(gpu: bool) -> list[str]:
    """Name what torch needs to compile and does not find on this machine."""
    compilers = ("CC", "gcc", "clang") if gpu else ("CXX", "g++", "clang++")
    variable, *usual = compilers
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    missing = {
        f"there is no compiler ({' or '.join(usual)}, or one named by {variable})":
            variable not in os.environ and not any(map(shutil.which, usual)),
        f"Python's headers are missing ({headers}; install python3-dev)": not headers.exists(),
        "triton is not installed": gpu and find_spec("triton") is None,
        "the GPU is too old": gpu and torch.cuda.get_device_capability() < _OLDEST,
    }  # fmt: skip
    return [obstacle for obstacle, there in missing.items() if there]


def choose_compile(how: How, accelerator: str) -> How:
    """Settle `auto`: on a GPU, where nothing stands in the way; a processor was slower for it."""
    if how != "auto":
        return how
    if not takes_gpu(accelerator):
        return False
    if obstacles := find_obstacles(gpu=True):
        print(f"note: nets are not compiled (compile=auto): {'; '.join(obstacles)}")
    return not obstacles


def compile_nets(task: Trainable, how: How) -> None:
    """Compile the nets of a task in place: weights keep their names, and copies are plain nets."""
    if not how:
        return
    # What earlier runs of this process compiled would count towards torch's limit of variants.
    torch.compiler.reset()
    options = {"mode": how} if isinstance(how, str) else {}
    for net, dynamic in task.compiled():
        net.compile(backend=BACKEND, dynamic=dynamic, **options)
