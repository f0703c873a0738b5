"""Speed from the start: what a run sets on the machine, each a visible switch."""

import ctypes
import logging
import sys
import warnings
from typing import Literal

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


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
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def takes_gpu(accelerator: str) -> bool:
    """Whether Lightning takes a GPU of CUDA or ROCm for this word."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


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
