"""Which class, or which classes, an image or a series shows."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medvision.tasks.classes import Classes
    from medvision.tasks.classification.evaluator import ClassificationEvaluator


def open_target() -> "type[Classes]":
    """Return what the annotations of this task are."""
    from medvision.tasks.classes import Classes

    return Classes


def open_evaluator() -> "type[ClassificationEvaluator]":
    """Return what scores this task."""
    from medvision.tasks.classification.evaluator import ClassificationEvaluator

    return ClassificationEvaluator
