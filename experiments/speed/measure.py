"""Runs a command and watches it from outside: seconds, peak memory of all its processes, output."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ran:
    """What a command took; memory in MB, shared pages counted once."""

    started: float
    seconds: float
    peak_mb: float
    output: str


def run(words: Sequence[str], more: Mapping[str, str] | None = None) -> Ran:
    """Run a command to its end; stop the bench with its last words if it fails."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | dict(more or {})
    started = time.time()
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    peaks = [0.0]
    watcher = threading.Thread(target=watch, args=(process, peaks), daemon=True)
    watcher.start()
    output, errors = process.communicate()
    seconds = time.time() - started
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(words)}\n{errors[-3000:]}")
    return Ran(started, seconds, max(peaks), output)


def watch(process: subprocess.Popen[str], peaks: list[float]) -> None:
    """Look at the memory of a process and its children twice a second (Linux only)."""
    while process.poll() is None and Path("/proc").exists():
        pages = list(filter(None, map(count_pages, members(process.pid))))
        # What workers share with their parent is counted once.
        own, shared = sum(own for own, _ in pages), max((shared for _, shared in pages), default=0)
        peaks.append((own + shared) * os.sysconf("SC_PAGE_SIZE") / 2**20)
        time.sleep(0.5)


def members(group: int) -> list[Path]:
    """Return the places under /proc of the processes of a group."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            stat = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(stat[2]) == group:
            found.append(place)
    return found


def count_pages(place: Path) -> tuple[int, int] | None:
    """Return a process's own pages in memory, and those that a file or another process backs."""
    try:
        _, resident, shared, *_ = map(int, (place / "statm").read_text().split())
    except (OSError, ValueError):
        return None
    return resident - shared, shared
