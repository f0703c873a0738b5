"""Cells of a sweep: each one run, with what it has written so far."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from omegaconf import OmegaConf

import medvision.files as files
import medvision.trust.integrity as integrity
from medvision.evaluation.evaluator import Evaluator, open_recorded
from medvision.evaluation.predictions import name_scored
from medvision.moved import rename_targets
from medvision.runs import Run


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep; what it has not written is empty."""

    run: Run
    record: Mapping[str, Any]
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    signature: integrity.Signature = "own"

    @cached_property
    def status(self) -> str:
        """As recorded; `stopped` where it says running but nobody works in it."""
        status = str(self.record.get("status", ""))
        return "stopped" if status == "running" and not self.run.alive else status

    @cached_property
    def evaluator(self) -> Evaluator:
        """What scores its task; decisions are read as they are stored."""
        return open_recorded(self.record, {}, self.run.folder)

    @property
    def seed(self) -> int:
        return int(self.config.get("seed", self.record.get("seed", 0)))

    @property
    def fold(self) -> int | None:
        fold = self._data.get("fold")
        return None if fold is None else int(fold)

    @property
    def unit(self) -> str:
        """What a row of its predictions is: images or series."""
        return name_scored(self.metrics)

    @property
    def split_seed(self) -> int:
        return int(self._data.get("split_seed") or 0)

    @property
    def _data(self) -> Mapping[str, Any]:
        data: Mapping[str, Any] = self.config.get("data") or {}
        return data

    @property
    def place(self) -> tuple[int, int, int | None]:
        """Where it stands in its arm: seed, split_seed, fold."""
        return self.seed, self.split_seed, self.fold

    @property
    def monitor(self) -> str:
        return str(self.record.get("monitor") or self.config.get("monitor") or "")

    @property
    def objective(self) -> float | None:
        """The best value of the monitor; None where there is none or it is no number."""
        value = self.record.get("objective")
        return float(value) if value is not None and math.isfinite(value) else None

    @property
    def reason(self) -> str:
        return str(self.record.get("reason") or "")


def read_sweep_runs(runs: Sequence[Run]) -> list[SweepRun]:
    """Read what each run has written so far.

    Raises:
        MedvisionError: a file is there but broken, or is not what it was.
    """
    return [_read_sweep_run(run) for run in runs]


def _read_sweep_run(run: Run) -> SweepRun:
    signature = integrity.check_files(run.folder)
    return SweepRun(run, run.record, _read_config(run), _read_metrics(run), signature)


def stamp_runs(cells: Iterable[SweepRun]) -> list[str]:
    """Return what a table of runs says of those that are not this user's own."""
    counted = Counter(cell.signature for cell in cells)
    return [
        f"{counted[signature]} of {counted.total()} runs: {text}"
        for signature, text in integrity.STAMPS.items() if counted[signature]
    ]  # fmt: skip


def _read_config(run: Run) -> dict[str, Any]:
    path = run.folder / "config.yaml"
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=True) if path.exists() else {}
    return rename_targets(content) if isinstance(content, dict) else {}


def _read_metrics(run: Run) -> dict[str, Any]:
    return dict(files.read_json(run.metrics)) if run.metrics.exists() else {}
