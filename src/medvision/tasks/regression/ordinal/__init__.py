"""How far along: one of several classes in an order, such as a grade or a stage."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medvision.tasks.regression.ordinal.evaluator import OrdinalEvaluator
    from medvision.tasks.regression.ordinal.target import Grades


def open_target() -> "type[Grades]":
    """Return what the annotations of this task are."""
    from medvision.tasks.regression.ordinal.target import Grades

    return Grades


def open_evaluator() -> "type[OrdinalEvaluator]":
    """Return what scores this task."""
    from medvision.tasks.regression.ordinal.evaluator import OrdinalEvaluator

    return OrdinalEvaluator
