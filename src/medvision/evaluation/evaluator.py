"""Which way a score is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from medvision.tasks.classification.metrics import CALIBRATED

if TYPE_CHECKING:
    pass


def direction(monitor: str) -> Literal["min", "max"]:
    """Tell whether a logged metric, such as `val/loss`, is better when lower or when higher."""
    return "min" if monitor.rpartition("/")[2] in ("loss", *CALIBRATED) else "max"
