"""Which class, or which classes, an image or a series shows."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

import pandas as pd
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn

from medvision.augment.draw import Augment
from medvision.errors import MedvisionError, collect
from medvision.losses import cross_entropy, slice_loss
from medvision.ranges import OneOf, Real, Switch
from medvision.target import Encoded
from medvision.tasks.classes import Classes, encoded_label
from medvision.tasks.classification.evaluator import ClassificationEvaluator
from medvision.tasks.classification.metrics import METRICS, Kind, score, undefined_metrics
from medvision.tasks.task import Task, as_batch
from medvision.tasks.trainable import Batch, Curve, Facts


class Classifier(Task):
    """Binary, multi-class and multi-label classification of images, or of series and their slices.

    Args:
        net: image `[B,C,H,W]` → logits `[B,K]`; a binary question has two. Of series, such as a
            `SliceRNN`: image `[B,S,C,H,W]`, length `[B]`, which stays on the host, and step
            `[B,S]` → `logits` and, as it can, `slice_logits` `[B,S,K]` and `attention` `[B,S]`.
        kind: `binary`, `multiclass` or `multilabel`.
        loss: called with logits and label: a function of `losses` or one of torch, or a partial.
        class_weights: `[K]`, or None; chosen by `train` from the training part. Slices count as
            they come.
        mixup: Beta parameter of the mixing of pairs of images in training; 0 is off.
        slice_weight: what the loss of labelled slices counts beside that of their series; a batch
            without slice labels adds nothing.
        cache_features: encode every slice once, before the first step, instead of at each step:
            for an encoder that rests for good, and images that do not change; of a `SliceRNN`.
        others: see `Task`.

    Reference:
        Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412.
    """

    target = Classes
    evaluator = ClassificationEvaluator
    monitor = "val/auroc"

    def __init__(
        self,
        net: nn.Module,
        kind: Kind = "binary",
        *,
        loss: Callable[..., Tensor] = cross_entropy,
        class_weights: Annotated[Tensor | None, OneOf(("balanced", None))] = None,
        mixup: Annotated[float, Real(0.0)] = 0.0,
        slice_weight: Annotated[float, Real(0.0)] = 1.0,
        cache_features: Annotated[bool, Switch()] = False,
        **others: Any,
    ) -> None:
        super().__init__(net, **others)
        self.kind, self.mixup = kind, mixup
        self.loss_function = adapt_loss(loss, weighted=class_weights is not None)
        self.loss_module = loss if isinstance(loss, nn.Module) else None  # it moves along
        self.slice_weight, self.cache_features = slice_weight, cache_features
        self.register_buffer("class_weights", class_weights, persistent=False)

    @classmethod
    def watched(cls) -> Sequence[str]:
        return "loss", *METRICS

    @classmethod
    def net_facts(cls, target: Any, model: DictConfig) -> dict[str, Any]:
        return {"num_classes": len(target.names), "multilabel": target.kind == "multilabel"}

    @classmethod
    def build(cls, node: DictConfig, facts: Facts, *, seed: int, **given: Any) -> Self:
        # Drawing classes equally often and weighting them too would correct the same thing twice.
        balanced = node.get("class_weights") == "balanced" and not facts.balanced
        weights = facts.weights() if balanced else None
        return super().build(
            node, facts, seed=seed, kind=facts.target.kind, class_weights=weights, **given
        )

    @classmethod
    def check(cls, config: DictConfig) -> Iterator[str]:
        from medvision.tasks.classification.calibration import parse_rule

        try:
            parse_rule(str(config.operating_point))
        except MedvisionError as error:
            yield str(error)
        yield from super().check(config)
        yield from _check_change(config)

    @classmethod
    def undefined(cls, target: Any, truth: Encoded) -> dict[str, str]:
        return undefined_metrics(encoded_label(truth), target.kind)

    @classmethod
    def describe_target(cls, target: Any) -> dict[str, Any]:
        return {"classes": target.names, "kind": target.kind}

    @classmethod
    def curves(cls, target: Any, table: pd.DataFrame) -> Iterator[Curve]:
        """Yield a curve a class; of two classes that of the last."""
        known = table.query("label != ''")
        for name in target.names[-1:] if target.kind == "binary" else target.names:
            truth = known["label"].str.split("|").map(lambda labels, name=name: name in labels)
            yield name, truth.to_numpy(), known[f"prob_{name}"].to_numpy()

    def on_fit_start(self) -> None:
        """Encode all slices, if they are to be encoded once."""
        if self.cache_features:
            self.freeze_body(True)
            self.trainer.datamodule.keep_features(self._encode)  # type: ignore[attr-defined]

    def change(self, batch: Batch) -> Batch:
        return mix(batch, self.mixup) if self.mixup else batch

    def forward(self, batch: Any) -> Any:
        """Answer from a batch, or from features that were kept of its slices."""
        given = as_batch(batch)
        if "features" not in given:
            return super().forward(given)
        return self.net.forward_features(  # type: ignore[operator]
            given["features"], given["length"], given["step"]
        )

    def loss(self, answer: Any, batch: Batch) -> Tensor:
        """Compare with `label`, in a mixed batch by its share, and add that of labelled slices."""
        logits = logits_of(answer)
        loss = self._compare(logits, batch["label"])
        if "partner" in batch:
            other = self._compare(logits, batch["partner"])
            loss = batch["share"] * loss + (1 - batch["share"]) * other
        if self.slice_weight and isinstance(answer, Mapping) and "slice_logits" in answer:
            loss = loss + self.slice_weight * slice_loss(
                answer["slice_logits"], batch["slice_label"], batch["length"],
                self.loss_function, multilabel=self.kind == "multilabel",
            )  # fmt: skip
        return loss

    def keep(self, answer: Any, batch: Batch) -> Batch:
        return {"logits": logits_of(answer), "label": batch["label"]}

    def score(self, kept: Batch) -> dict[str, float | None]:
        """Score logits `[N,K]` as `metrics.score` does the probabilities they stand for.

        Those of the val part are scored at the temperature they would be reported at: it changes
        the order of what several classes say, and an epoch is chosen by what is reported.
        """
        logits = kept["logits"]
        if not self.training:
            from medvision.tasks.classification.calibration import find_temperature

            label = kept["label"].cpu().numpy()
            logits = logits / find_temperature(logits.float().cpu().numpy(), label, self.kind)[0]
        probs = logits.sigmoid() if self.kind == "multilabel" else logits.softmax(dim=1)
        return score(probs, kept["label"], self.kind)

    def compiled(self) -> Iterator[tuple[nn.Module, bool | None]]:
        """Yield the net or its encoder; slices that are encoded once are not worth it."""
        if not self.cache_features:
            yield from super().compiled()

    def _compare(self, logits: Tensor, label: Tensor) -> Tensor:
        return self.loss_function(
            logits, label, class_weights=self.class_weights, multilabel=self.kind == "multilabel"
        )

    def _encode(self, image: Tensor) -> Tensor:
        """Return the features `[V,F]` of slices `[V,C,H,W]` as validation would compute them."""
        training, device = self.net.training, self.device
        self.net.eval()
        with torch.inference_mode(), self.trainer.precision_plugin.val_step_context():
            features: Tensor = self.net.encoder(image.to(device)).float()  # type: ignore[operator]
        self.net.train(training)
        return features.clone()


def logits_of(answer: Any) -> Tensor:
    """Return the logits `[B,K]` of what a net answers."""
    logits: Tensor = answer["logits"] if isinstance(answer, Mapping) else answer
    return logits


def mix(batch: Batch, alpha: float) -> Batch:
    """Blend each image with a partner of its batch, one share a batch drawn from Beta(α, α)."""
    image, label = batch["image"], batch["label"]
    # Drawn where it is used, and unchecked: a device would be waited for.
    both = torch.full((), alpha, device=image.device)
    share = torch.distributions.Beta(both, both, validate_args=False).sample().to(image)
    order = torch.randperm(len(image), device=image.device)
    blended = image.lerp(image[order], 1 - share)
    return batch | {"image": blended, "partner": label[order], "share": share}


def adapt_loss(loss: Callable[..., Tensor], *, weighted: bool) -> Callable[..., Tensor]:
    """Let a loss of torch be called as those of `losses`: with the labelled rows, and its weights.

    Raises:
        MedvisionError: it takes no weights of classes, and there are some.
    """
    takes = inspect.signature(getattr(loss, "forward", loss)).parameters
    if "class_weights" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        return loss
    name = next((name for name in ("pos_weight", "weight") if name in takes), None)
    if name is None and weighted:
        raise MedvisionError(
            f"the loss {getattr(loss, '__name__', type(loss).__name__)} takes no class weights; "
            "say model.class_weights=null, or take one of medvision.losses"
        )

    def compare(
        logits: Tensor, label: Tensor, class_weights: Tensor | None = None, **_: Any
    ) -> Tensor:
        known = label >= 0 if label.ndim == 1 else ~label.isnan().any(1)
        if not bool(known.any()):
            return logits.sum() * 0.0
        more = {} if name is None else {name: class_weights}
        return loss(logits[known], label[known], **more)

    return compare


def _check_change(config: DictConfig) -> Iterator[str]:
    """Refuse series that are mixed, and features that are kept while they change."""
    if config.data.get("unit") == "series" and config.model.get("mixup"):
        yield "model.mixup mixes images, and data.unit=series gives series; say model.mixup=0"
    if not config.model.get("cache_features"):
        return
    problems = {
        "the encoder learns (model.frozen_epochs=-1 lets it rest for good)":
            config.model.get("frozen_epochs", 0) >= 0,
        "images change (augment=none)": instantiate(config.augment) != Augment(),
        "neighbours change places where series are reversed (data.sequence.reverse=false)":
            config.data.neighbours > 0 and config.data.sequence.reverse,
    }  # fmt: skip
    if found := [problem for problem, there in problems.items() if there]:
        yield str(collect("model.cache_features=true keeps one answer a slice, but", found,
                          "Change these keys, or say model.cache_features=false"))  # fmt: skip
