"""What a repeat of a run needs to know: command, versions, machine, threads, state of the code."""

import os
import platform
import resource
import shlex
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import medvision.files as files

PACKAGES = ("medvision", "torch", "torchvision", "pytorch-lightning", "torchmetrics",
            "hydra-core", "numpy", "opencv-python-headless")  # fmt: skip


def describe_process(seed: int) -> dict[str, Any]:
    """Return what a repeat needs: command, versions, machine, threads, state of the code."""
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else name_processor()
    return {
        "command": command_line(),
        "started": files.today(),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "device": device,
        "system": platform.platform(),
        "code": describe_code(),
    }


def command_line() -> str:
    """Return the command as it was typed (in a sweep, as the sweep was), or the user's script."""
    program = Path(sys.argv[0]).name
    script = ["python", program] if program != "medvision" else [program]
    return os.environ.get("MEDVISION_COMMAND") or shlex.join([*script, *sys.argv[1:]])


def name_processor() -> str:
    """Name the processor as a person would."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return f"{names[0]} ({len(names)} cores)"
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def describe_code() -> dict[str, Any]:
    """Return the digest of medvision's own sources, and the commit where they lie in a checkout."""
    package = Path(__file__).parent
    sources = sorted(p for p in package.rglob("*.py"))
    state: dict[str, Any] = {"digest": files.digest(*(p.read_bytes() for p in sources))[:16]}
    ask = ["git", "-C", str(package)]
    try:
        commit = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True)
        if commit.returncode == 0:
            changed = subprocess.run(
                [*ask, "status", "--porcelain", "--", "."], capture_output=True, text=True
            )
            state |= {"commit": commit.stdout.strip(), "changed": bool(changed.stdout.strip())}
    except OSError:  # no git on this machine
        pass
    return state


def cost(start: float, earlier: float = 0.0) -> dict[str, float]:
    """Return wall time and the peak memory of this process.

    Args:
        start: of this session, by `time.perf_counter()`.
        earlier: seconds spent in sessions before it.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scale = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return {
        "seconds": round(time.perf_counter() - start + earlier, 1),
        "peak_memory_mb": round(peak * scale / 2**20),
    }


def is_interactive() -> bool:
    """Tell whether a person watches the terminal."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
