"""Which epoch is kept, and how long a training waits for a better one."""

import math
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.callbacks import EarlyStopping as LightningEarlyStopping
from torch import Tensor

from medvision.evaluation.epochs import Ways, rank_epoch


class _Ranks(Callback):
    """Ranks epochs by the monitor, and those that are equal by it by the `ties` of the task.

    Where the task says so the last is best whose monitor is a number.
    """

    monitor: Any
    mode: Any
    ties: Ways
    last: bool
    best: tuple[float, ...] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.ties = getattr(pl_module, "ties", {})  # other modules have none
        self.last = getattr(pl_module, "keeps_last", False)

    def rank(self, trainer: Trainer) -> tuple[float, ...]:
        rank = rank_epoch(trainer.callback_metrics, {self.monitor: self.mode, **self.ties})
        measured = math.isfinite(rank[0])
        return (float(measured), float(trainer.current_epoch)) if self.last else rank

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"best": None if self.best is None else list(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.best = None if state_dict["best"] is None else tuple(state_dict["best"])


class BestCheckpoint(_Ranks, ModelCheckpoint):
    """Writes `best.ckpt` at each epoch that is better than all before.

    Lightning's own keeps the first of equal epochs: of those of 1.000 the untrained one.
    """

    def __init__(self, folder: Path, monitor: str, mode: Literal["min", "max"]) -> None:
        super().__init__(folder, "best", monitor, mode=mode, enable_version_counter=False)

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        if current is None:
            return False
        rank = self.rank(trainer)
        better = trainer.strategy.reduce_boolean_decision(self.best is None or rank > self.best)
        self.best = rank if better else self.best
        return better


class EarlyStopping(_Ranks, LightningEarlyStopping):
    """Lightning's, but while the monitor stands at its best, what breaks ties renews patience.

    Where the last epoch is best, each renews it.
    """

    def _run_early_stopping_check(self, trainer: Trainer) -> None:
        rank, best = self.rank(trainer), self.best
        if math.isfinite(rank[0]):
            self.best = rank if best is None else max(rank, best)
        if best is not None and rank[0] == best[0] and rank > best:
            self.wait_count = 0
        else:
            super()._run_early_stopping_check(trainer)
