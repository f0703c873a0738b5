"""Where classes of ours live now, for configurations that still name where they lived."""

from collections.abc import Mapping
from typing import Any

_CLASSIFIER = "medvision.tasks.classification.task.Classifier"
_DATA = "medvision.data.batches.datamodule.ImageDataModule"
MOVED = {
    "medvision.augment.policy.Policy": "medvision.augment.policy.DiffAugment",
    "medvision.data.datamodule.ImageDataModule": _DATA,
    "medvision.data.readers.Reader": "medvision.data.store.reader.Reader",
    "medvision.evaluation.gate.Thresholds": "medvision.tasks.generation.gate.Thresholds",
    "medvision.tasks.SequenceClassifier": _CLASSIFIER,
    "medvision.tasks.adversarial.Adversarial": "medvision.tasks.generation.task.Adversarial",
    "medvision.tasks.classification.Classifier": _CLASSIFIER,
    "medvision.tasks.sequence.SequenceClassifier": _CLASSIFIER,
}
"""Dotted path of before → of now: what a `_target_` of a user's may name."""


def current(path: str) -> str:
    """Return where a class is now; foreign ones, and those that have not moved, stay."""
    return MOVED.get(path, path)


def rename_targets(config: Any) -> Any:
    """Return plain containers whose `_target_`s, at any depth, name where their classes are now."""
    if isinstance(config, Mapping):
        return {
            key: current(value)
            if key == "_target_" and isinstance(value, str)
            else rename_targets(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return [rename_targets(value) for value in config]
    return config
