"""How much: a number, or several, of an image or a series."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medvision.tasks.regression.evaluator import RegressionEvaluator
    from medvision.tasks.regression.target import Number


def open_target() -> "type[Number]":
    """Return what the annotations of this task are."""
    from medvision.tasks.regression.target import Number

    return Number


def open_evaluator() -> "type[RegressionEvaluator]":
    """Return what scores this task."""
    from medvision.tasks.regression.evaluator import RegressionEvaluator

    return RegressionEvaluator
