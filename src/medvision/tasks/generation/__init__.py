"""Images made by a generator, judged before they may be used."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medvision.tasks.classes import Classes
    from medvision.tasks.generation.results import GenerationEvaluator


def open_target() -> "type[Classes]":
    """Return what the annotations of this task are."""
    from medvision.tasks.classes import Classes

    return Classes


def open_evaluator() -> "type[GenerationEvaluator]":
    """Return what reads the scores of this task."""
    from medvision.tasks.generation.results import GenerationEvaluator

    return GenerationEvaluator
