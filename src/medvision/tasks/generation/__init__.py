"""Images made by a generator, judged before they may be used."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medvision.tasks.generation.results import GenerationEvaluator


def open_evaluator() -> "type[GenerationEvaluator]":
    """Return what reads the scores of this task."""
    from medvision.tasks.generation.results import GenerationEvaluator

    return GenerationEvaluator
