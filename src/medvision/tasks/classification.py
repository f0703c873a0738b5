"""Which class, or which classes, an image shows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from medvision.evaluation.metrics import Kind, score
from medvision.tasks.supervised import Batch, Supervised


class Classifier(Supervised):
    """Binary, multi-class and multi-label classification of images.

    Args:
        net: `[B,C,H,W]` → logits `[B,K]`; a binary question has two.
        kind: `binary`, `multiclass` or `multilabel`.
        loss: partial of a function of `losses`, called with logits and label.
        class_weights: `[K]`, or None; chosen by `train` from the training part.
        mixup: Beta parameter of the mixing of pairs of images in training; 0 is off.
        others: see `Supervised`.

    Reference:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412.
    """

    def __init__(
        self,
        net: nn.Module,
        kind: Kind = "binary",
        *,
        loss: Callable[..., Tensor],
        class_weights: Tensor | None = None,
        mixup: float = 0.0,
        **others: Any,
    ) -> None:
        super().__init__(net, **others)
        self.kind, self.loss_function, self.mixup = kind, loss, mixup
        self.register_buffer("class_weights", class_weights, persistent=False)

    def compare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = self(batch["image"])
        return logits, self.loss(logits, batch)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Compare with `label`, and in a mixed batch with the partner's label by its share."""
        own = self._compare(logits, batch["label"])
        if "partner" not in batch:
            return own
        return batch["share"] * own + (1 - batch["share"]) * self._compare(logits, batch["partner"])

    def score(self, outputs: Batch) -> dict[str, float | None]:
        return score_logits(outputs["logits"], outputs["label"], self.kind)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return super().training_step(mix(batch, self.mixup) if self.mixup else batch, batch_idx)

    def _compare(self, logits: Tensor, label: Tensor) -> Tensor:
        return self.loss_function(
            logits, label, class_weights=self.class_weights, multilabel=self.kind == "multilabel"
        )


def score_logits(logits: Tensor, label: Tensor, kind: Kind) -> dict[str, float | None]:
    """Score logits `[N,K]` as `metrics.score` does the probabilities they stand for."""
    probs = logits.sigmoid() if kind == "multilabel" else logits.softmax(dim=1)
    return score(probs, label, kind)


def mix(batch: Batch, alpha: float) -> Batch:
    """Blend each image with a partner of its batch, one share a batch drawn from Beta(α, α)."""
    image, label = batch["image"], batch["label"]
    # Drawn where it is used, and unchecked: a device would be waited for.
    both = torch.full((), alpha, device=image.device)
    share = torch.distributions.Beta(both, both, validate_args=False).sample().to(image)
    order = torch.randperm(len(image), device=image.device)
    blended = image.lerp(image[order], 1 - share)
    return batch | {"image": blended, "partner": label[order], "share": share}
