"""Which class, or which classes, a series of slices shows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from medvision.evaluation.metrics import Kind
from medvision.losses import slice_loss
from medvision.tasks.classification import score_logits
from medvision.tasks.supervised import Batch, Supervised


class SequenceClassifier(Supervised):
    """Binary, multi-class and multi-label classification of series, and of their slices.

    Args:
        net: a `SliceRNN`, or any net called with image `[B,S,C,H,W]`, length `[B]`, which stays on
            the host, and step `[B,S]` that answers with `logits` `[B,K]` and, as it can,
            `slice_logits` `[B,S,K]` and `attention` `[B,S]`. Resting encoders and kept features
            want a `SliceRNN`.
        kind: `binary`, `multiclass` or `multilabel`.
        loss: partial of a function of `losses`, called with logits and label.
        class_weights: `[K]` of series, or None; chosen by `train` from the training part. Slices
            count as they come.
        slice_weight: what the loss of labelled slices counts beside that of their series; a batch
            without slice labels adds nothing.
        cache_features: encode every slice once, before the first step, instead of at each step:
            for an encoder that rests for good, and images that do not change.
        others: see `Supervised`; `frozen_epochs` is for the encoder, which rests as loaded.
    """

    def __init__(
        self,
        net: nn.Module,
        kind: Kind = "binary",
        *,
        loss: Callable[..., Tensor],
        class_weights: Tensor | None = None,
        slice_weight: float = 1.0,
        cache_features: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(net, **others)
        self.kind, self.loss_function = kind, loss
        self.slice_weight, self.cache_features = slice_weight, cache_features
        self.register_buffer("class_weights", class_weights, persistent=False)

    def on_fit_start(self) -> None:
        """Encode all slices, if they are to be encoded once."""
        if self.cache_features:
            self.rest(True)
            self.trainer.datamodule.keep_features(self._encode)  # type: ignore[attr-defined]

    def compare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        answer = self.answer(batch)
        logits, several = answer["logits"], self.kind == "multilabel"
        loss = self.loss_function(
            logits, batch["label"], class_weights=self.class_weights, multilabel=several
        )
        if self.slice_weight and "slice_logits" in answer:
            loss = loss + self.slice_weight * slice_loss(
                answer["slice_logits"], batch["slice_label"], batch["length"],
                self.loss_function, multilabel=several,
            )  # fmt: skip
        return logits, loss

    def answer(self, batch: Batch) -> dict[str, Tensor]:
        """Answer from the images of a batch, or from features that were kept of them."""
        length, step = batch["length"], batch["step"]
        if "features" in batch:
            kept: dict[str, Tensor] = self.net.forward_features(batch["features"], length, step)  # type: ignore[operator]
            return kept
        fresh: dict[str, Tensor] = self(batch["image"], length, step)
        return fresh

    def score(self, outputs: Batch) -> dict[str, float | None]:
        return score_logits(outputs["logits"], outputs["label"], self.kind)

    def rest(self, frozen: bool) -> None:
        """Freeze or thaw the encoder; what reads its features always learns."""
        self.net.hold_encoder(frozen)  # type: ignore[operator]

    def _encode(self, image: Tensor) -> Tensor:
        """Return the features `[V,F]` of slices `[V,C,H,W]` as validation would compute them."""
        training, device = self.net.training, self.device
        self.net.eval()
        with torch.inference_mode(), self.trainer.precision_plugin.val_step_context():
            features: Tensor = self.net.encoder(image.to(device)).float()  # type: ignore[operator]
        self.net.train(training)
        return features.clone()
