"""What is asked, lost, kept and scored: a folder a question."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from medvision.errors import MedvisionError
from medvision.target import find_folder

if TYPE_CHECKING:
    from torch import nn

    from medvision.tasks.trainable import Batch, Trainable


def find_task(path: str) -> "type[Trainable]":
    """Find the class of a task by its dotted path.

    Raises:
        MedvisionError: there is none, or it is no task.
    """
    from hydra.utils import get_object

    from medvision.tasks.trainable import Trainable

    try:
        found = get_object(path)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise MedvisionError(
            f"model._target_={path} cannot be found ({reason}); give the dotted path of a task, "
            "such as medvision.tasks.classification.task.Classifier"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Trainable)):
        raise MedvisionError(
            f"model._target_={path} is no task; derive it from medvision.tasks.task.Task, or name "
            "your net under model.net._target_"
        )
    return found


@cache
def find_infer(task: str) -> "Callable[[nn.Module, Batch, Mapping[str, Any]], Batch]":
    """Find how a trained net of a task answers for a batch: its `Task.infer`.

    Args:
        task: as `short_name` names it.
    """
    if not find_folder(task):
        return find_task(task).infer
    from medvision.nets.entries import answer_by_name  # without Lightning, which takes a second

    return lambda net, batch, _: answer_by_name(net, batch)


def short_name(task: type) -> str:
    """Name a task as runs and models hold it: its folder, of a foreign one its dotted path."""
    path = f"{task.__module__}.{task.__qualname__}"
    return find_folder(path) or path


def __getattr__(name: str) -> Any:
    if name == "SequenceClassifier":  # what classified series has become one with the rest
        return import_module(f"{__name__}.classification.task").Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
