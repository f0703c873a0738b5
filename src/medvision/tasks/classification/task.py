"""Which class, or which classes, an image or a series shows."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from medvision.losses import slice_loss
from medvision.tasks.classification.metrics import Kind, score
from medvision.tasks.task import Batch, Supervised


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
            self.freeze_body(True)
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

    def freeze_body(self, frozen: bool) -> None:
        """Freeze or thaw the encoder; what reads its features always learns."""
        self.net.freeze_encoder_body(frozen)  # type: ignore[operator]

    def _encode(self, image: Tensor) -> Tensor:
        """Return the features `[V,F]` of slices `[V,C,H,W]` as validation would compute them."""
        training, device = self.net.training, self.device
        self.net.eval()
        with torch.inference_mode(), self.trainer.precision_plugin.val_step_context():
            features: Tensor = self.net.encoder(image.to(device)).float()  # type: ignore[operator]
        self.net.train(training)
        return features.clone()
