"""A running mean of the weights: what is validated, kept and tested."""

from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class Averaging(EMAWeightAveraging):
    """Lightning's exponential mean of all weights, kept where the weights are.

    Lightning makes its copy before the net has moved, so that a GPU would send all weights to the
    host at each step.

    Args:
        decay: share of the mean that an update keeps.
        others: when there is an update, see `EMAWeightAveraging`.
    """

    def __init__(self, decay: float = 0.999, **others: Any) -> None:
        super().__init__(decay=decay, **others)
        self.decay = decay

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._average_model = Mean(pl_module, self.decay)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._average_model is not None:
            self._average_model.to(pl_module.device)


class Mean(AveragedModel):
    """Torch's averaged model, without the question after each step how many there have been."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self.decay = decay
        self.updates: int | None = None

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the mean towards `model`; the first one takes its weights as they are."""
        if self.updates is None:  # a resumed run goes on counting
            self.updates = int(self.n_averaged)
        share = 1 - self.decay if self.updates else 1.0
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        for mean, value in pairs:
            if not mean.is_floating_point():
                mean.copy_(value)
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        torch._foreach_lerp_([mean for mean, _ in floats], [value for _, value in floats], share)
        self.updates += 1
        self.n_averaged += 1


def _tensors(net: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*net.parameters(), *net.buffers())]
