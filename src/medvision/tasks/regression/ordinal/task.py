"""How far along: one of several classes in an order, of an image or a series."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from medvision.losses import cumulative
from medvision.losses.ordinal import cumulative_logits
from medvision.target import Encoded
from medvision.tasks.classes import encoded_label
from medvision.tasks.regression.ordinal.evaluator import OrdinalEvaluator
from medvision.tasks.regression.ordinal.metrics import METRICS, find_reasons, score
from medvision.tasks.regression.ordinal.target import Grades
from medvision.tasks.task import Task
from medvision.tasks.trainable import Batch


class OrdinalRegressor(Task):
    """Grades of images or of series, by the logits of lying above each of them.

    Args:
        net: image `[B,C,H,W]`, of series see `SliceRNN` → `[B,K-1]`, as
            `losses.ordinal.cumulative_logits` reads it.
        loss: called with that answer and `label` `[B]`, −1 = unknown.
        others: see `Task`.
    """

    target, evaluator = Grades, OrdinalEvaluator
    monitor = "val/kappa"

    def __init__(
        self, net: nn.Module, *, loss: Callable[..., Tensor] = cumulative, **others: Any
    ) -> None:
        super().__init__(net, **others)
        self.loss_function = loss

    @classmethod
    def watched(cls) -> Sequence[str]:
        return "loss", *METRICS

    @classmethod
    def net_facts(cls, target: Any, model: DictConfig) -> dict[str, Any]:
        return {"num_classes": len(target.names) - 1}

    @classmethod
    def undefined(cls, target: Any, truth: Encoded) -> dict[str, str]:
        return find_reasons(encoded_label(truth))

    def loss(self, answer: Any, batch: Batch) -> Tensor:
        return self.loss_function(_read(answer), batch["label"])

    def keep(self, answer: Any, batch: Batch) -> Batch:
        above = cumulative_logits(_read(answer)).sigmoid()
        one = torch.ones_like(above[:, :1])
        probs = torch.cat([one, above], dim=1) - torch.cat([above, 0 * one], dim=1)
        return {"probs": probs, "label": batch["label"]}

    def score(self, kept: Batch) -> dict[str, float | None]:
        return score(kept["probs"], kept["label"])


def _read(answer: Any) -> Tensor:
    whole: Tensor = answer["logits"] if isinstance(answer, Mapping) else answer
    return whole
