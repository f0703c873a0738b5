"""What every supervised task shares: one step, outputs buffered, metrics once an epoch."""

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from medvision.evaluation.evaluator import direction
from medvision.nets.transfer import freeze_body, load_weights, parameter_groups

Batch = dict[str, Tensor]


class Supervised(LightningModule):
    """Optimises a net on labelled batches; a subclass says what is lost and what is scored.

    Outputs are buffered on the device and scored once an epoch: five metrics updated at every step
    would cost more than the rest of Lightning.

    Args:
        net: what is optimised.
        optimizer: partial; called with parameter groups.
        scheduler: partial; called with the optimiser. What it needs and the config cannot know
            (`total_steps`, `T_max`, `max_lr` = the groups' own rates; `mode` of a plateau) is
            filled in; with the first two it moves every step, otherwise every epoch.
        weights: file to start from: a state dict or a `model.pt`.
        frozen_epochs: the body stays as loaded for so many epochs; −1 for good (a linear probe).
        layer_decay: the learning rate shrinks by this factor with each layer away from the head.
        l1: weight of the sum of absolute weights (norms and biases left out).
        channels_last: memory format in which convolutions run.
        monitor: the metric a plateau scheduler watches.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any] | None = None,
        *,
        weights: str | None = None,
        frozen_epochs: int = 0,
        layer_decay: float = 1.0,
        l1: float = 0.0,
        channels_last: bool = True,
        monitor: str = "val/loss",
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last) if channels_last else net
        self.loaded = load_weights(net, weights) if weights else None
        self.optimizer, self.scheduler = optimizer, scheduler
        self.frozen_epochs, self.layer_decay, self.l1 = frozen_epochs, layer_decay, l1
        self.monitor = monitor
        self._outputs: dict[str, list[Batch]] = {"train": [], "val": []}
        self._norms: list[Tensor] = []

    @abstractmethod
    def compare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the logits `[B,K]` of a batch and the scalar to minimise."""

    @abstractmethod
    def score(self, outputs: Batch) -> dict[str, float | None]:
        """Score an epoch's outputs (`logits`, `label`, `index`), name → value, None = undefined."""

    def forward(self, *inputs: Tensor) -> Any:
        """Return what the net answers."""
        return self.net(*inputs)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits, loss = self.compare(batch)
        self._keep("train", logits, loss, batch)
        return loss + self.l1 * self._absolute_weights() if self.l1 else loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._keep("val", *self.compare(batch), batch)

    def on_train_epoch_start(self) -> None:
        """Hold the body still while it is frozen: no gradients, no moving statistics."""
        if self.frozen_epochs:
            self.freeze_body(self.frozen_epochs < 0 or self.current_epoch < self.frozen_epochs)

    def freeze_body(self, frozen: bool) -> None:
        """Freeze or thaw the body: all but the head."""
        freeze_body(self.net, unfrozen=1 if frozen else None)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients by their norm, and keep what it was for `train/grad_norm`.

        Lightning refuses to clip beside a fused optimiser under every mixed precision; only
        float16 scales gradients, so only there the refusal is needed.
        """
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if scaled or gradient_clip_algorithm == "value":
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._norms.append(clip_grad_norm_(parameters, gradient_clip_val or math.inf).detach())

    def on_train_epoch_end(self) -> None:
        self._report("train")

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(self.net, layer_decay=self.layer_decay, **self._rates())
        optimizer = self.optimizer(groups)
        if self.scheduler is None:
            return optimizer
        kind = getattr(self.scheduler, "func", self.scheduler)
        takes = inspect.signature(kind).parameters
        steps = int(self.trainer.estimated_stepping_batches)
        told = getattr(self.scheduler, "keywords", {})
        fill = {"total_steps": steps, "T_max": steps, "max_lr": [g["lr"] for g in groups]}
        if kind is ReduceLROnPlateau:
            fill["mode"] = direction(self.monitor)
        filled = {k: v for k, v in fill.items() if k in takes and told.get(k) is None}
        interval = "step" if {"total_steps", "T_max"} & set(filled) else "epoch"
        scheduler = self.scheduler(optimizer, **filled)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": interval, "monitor": self.monitor},
        }

    def _rates(self) -> dict[str, float]:
        """Read `lr` and `weight_decay` from the partial, else from the optimiser's own defaults."""
        takes = inspect.signature(getattr(self.optimizer, "func", self.optimizer)).parameters
        told = getattr(self.optimizer, "keywords", {})
        defaults = {"lr": 1e-3, "weight_decay": 0.0}
        return {
            name: float(told.get(name, takes[name].default if name in takes else default))
            for name, default in defaults.items()
        }

    def _absolute_weights(self) -> Tensor:
        return torch.stack([w.abs().sum() for w in self.net.parameters() if w.ndim > 1]).sum()

    def _keep(self, part: str, logits: Tensor, loss: Tensor, batch: Batch) -> None:
        self._outputs[part].append(
            {
                # A copy: where CUDA graphs run the net, the next step writes over its answer.
                "logits": logits.detach().to(torch.float32, copy=True),
                "label": batch["label"],
                "index": batch["index"],
                "loss": loss.detach().float().expand(len(logits)),
            }
        )

    def _report(self, part: str) -> None:
        """Score the buffered epoch and log it as `part/name` over epochs."""
        outputs, self._outputs[part] = concatenate(self._outputs[part]), []
        if not outputs:
            return
        if self.trainer.world_size > 1:
            outputs = {name: gather_ranks(self, value) for name, value in outputs.items()}
        scores = {"loss": float(outputs["loss"].mean())} | self.score(outputs)
        if part == "train" and self._norms:
            norms, self._norms = self._norms, []
            scores["grad_norm"] = float(torch.stack(norms).mean())
        values = {f"{part}/{k}": math.nan if v is None else v for k, v in scores.items()}
        # Lightning takes a logged "step" as the x-axis: the epoch, so that runs of other batch
        # sizes lie on top of each other.
        self.log_dict(values | {"step": float(self.current_epoch)})


def concatenate(outputs: Sequence[Batch]) -> Batch:
    """Join the steps of an epoch along the batch."""
    if not outputs:
        return {}
    return {name: torch.cat([step[name] for step in outputs]) for name in outputs[0]}


def gather_ranks(task: LightningModule, value: Tensor) -> Tensor:
    """Join the rows of all ranks, however many each has."""
    counts = cast(Tensor, task.all_gather(torch.tensor(len(value), device=value.device)))
    padded = value.new_zeros((int(counts.max()), *value.shape[1:]))
    padded[: len(value)] = value
    gathered = cast(Tensor, task.all_gather(padded))
    return torch.cat([rows[:n] for rows, n in zip(gathered, counts.tolist(), strict=True)])
