"""How much: a number, or several, of an image or a series."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Self

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import Callback
from torch import Tensor, nn

from medvision.losses import gaussian
from medvision.ranges import Real
from medvision.target import Encoded
from medvision.tasks.regression.evaluator import RegressionEvaluator
from medvision.tasks.regression.interval import LEVEL, find_point
from medvision.tasks.regression.metrics import FOLLOWED, find_reasons, score
from medvision.tasks.regression.target import Number, encoded_value
from medvision.tasks.task import Task
from medvision.tasks.trainable import Batch, Context, Facts


class Regressor(Task):
    """Numbers of images or of series, each with an interval that val makes as wide as errors are.

    A net learns targets of mean 0 and deviation 1, by those of the training part; predictions,
    scores and errors are in the user's units.

    Args:
        net: image `[B,C,H,W]`, of series see `SliceRNN` → `[B,T·k]`, the k outputs of a target side
            by side.
        targets: T.
        loss: called with the k outputs, each `[B,T]`, and `value` `[B,T]`, nan = unknown: a
            function of `losses.regression`, whose parameters before `value` are the k outputs. Of
            a loss of torch, which takes none of that name, k is 1 and the rows are those known.
        level: what share of true values an interval is to hold, 0 to 1; a loss that takes a
            `level` is given it.
        others: see `Task`.
    """

    target, evaluator = Number, RegressionEvaluator
    monitor = "val/mae"
    center: Tensor  # of the targets in the training part, [T]
    spread: Tensor  # their deviation

    def __init__(
        self,
        net: nn.Module,
        targets: int = 1,
        *,
        loss: Callable[..., Tensor] = gaussian,
        level: Annotated[float, Real(0.01, 0.999)] = LEVEL,
        **others: Any,
    ) -> None:
        super().__init__(net, **others)
        self.loss_function, self.level = adapt_loss(loss, level), level
        self.loss_module = loss if isinstance(loss, nn.Module) else None  # it moves along
        self.outputs = name_outputs(loss)
        self.register_buffer("center", torch.zeros(targets))
        self.register_buffer("spread", torch.ones(targets))

    @classmethod
    def watched(cls) -> Sequence[str]:
        return "loss", *FOLLOWED

    @classmethod
    def net_facts(cls, target: Any, model: DictConfig) -> dict[str, Any]:
        outputs = name_outputs(instantiate(model.loss) if "loss" in model else gaussian)
        return {"num_classes": len(target.names) * len(outputs)}

    @classmethod
    def build(cls, node: DictConfig, facts: Facts, *, seed: int, **given: Any) -> Self:
        return super().build(node, facts, seed=seed, targets=len(facts.target.names), **given)

    @classmethod
    def undefined(cls, target: Any, truth: Encoded) -> dict[str, str]:
        return find_reasons(encoded_value(truth))

    def prepare(self, context: Context) -> Sequence[Callback]:
        """Standardise by the training part."""
        value = encoded_value(context.rows.truth(context.rows.of("train"))).astype(np.float64)
        spread = np.nanstd(value, axis=0)
        self.center.copy_(torch.from_numpy(np.nanmean(value, axis=0)))
        self.spread.copy_(torch.from_numpy(np.where(spread > 0, spread, 1.0)))
        return super().prepare(context)

    def loss(self, answer: Any, batch: Batch) -> Tensor:
        return self.loss_function(
            *self._split(answer).unbind(-1), value=(batch["value"] - self.center) / self.spread
        )

    def keep(self, answer: Any, batch: Batch) -> Batch:
        point = self._split(answer)[..., self.outputs.index(find_point(self.outputs))]
        return {"pred": point.float() * self.spread + self.center, "value": batch["value"]}

    def score(self, kept: Batch) -> dict[str, float | None]:
        return score(kept["pred"], kept["value"])

    def finish(self, context: Context) -> dict[str, Any]:
        """Choose on the val part how wide intervals are."""
        rows = context.rows.of("val")
        units = {"center": self.center.tolist(), "spread": self.spread.tolist()}
        decision = {"outputs": [*self.outputs], "level": self.level, **units}
        return RegressionEvaluator(context.target.plain(), decision).fit(
            context.answer(rows), context.rows.truth(rows), "", context.rows.patients(rows)
        )

    def _split(self, answer: Any) -> Tensor:
        """Return the outputs of each target `[B,T,k]`."""
        whole: Tensor = answer["logits"] if isinstance(answer, Mapping) else answer
        return whole.reshape(len(whole), -1, len(self.outputs))


def name_outputs(loss: Callable[..., Any]) -> tuple[str, ...]:
    """Name what a net answers of each target: the parameters of its loss before `value`."""
    names = [*inspect.signature(getattr(loss, "forward", loss)).parameters]
    return tuple(names[: names.index("value")]) if "value" in names else ("prediction",)


def adapt_loss(loss: Callable[..., Tensor], level: float) -> Callable[..., Tensor]:
    """Let a loss of torch be called as those of `losses`; tell one that takes a level this one."""
    takes = inspect.signature(getattr(loss, "forward", loss)).parameters
    if "value" in takes:
        more = {"level": level} if "level" in takes else {}
        return lambda *outputs, value: loss(*outputs, value=value, **more)

    def compare(prediction: Tensor, *, value: Tensor) -> Tensor:
        known = ~value.isnan()
        if not bool(known.any()):
            return prediction.sum() * 0.0
        return loss(prediction[known], value[known])

    return compare
