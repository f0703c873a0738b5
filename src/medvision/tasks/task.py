"""What every task of one net shares: a step, outputs buffered, scores once an epoch."""

import copy
import inspect
import math
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Annotated, Any, Self, cast

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import direction
from medvision.moved import current
from medvision.nets.batch_norm import estimate, find_moving
from medvision.nets.encoder import Encoder
from medvision.nets.entries import call_net, reads_series
from medvision.nets.transfer import freeze_body, load_weights, parameter_groups
from medvision.ranges import Real, Switch, Whole
from medvision.tasks import short_name
from medvision.tasks.trainable import Batch, Context, Facts, Trainable

OF_THE_NET = ("net", "init", "normalise")
"""Keys of `model` that say how its net is built; all others are arguments of the task."""
_RECENT = 8
"""Batches that batch norm's statistics are of when a net is validated."""


class Task(Trainable):
    """Optimises a net on batches; a subclass says what is lost, kept and scored.

    What is kept of a step is buffered on the device and scored once an epoch: five metrics updated
    at every step would cost more than the rest of Lightning.

    Args:
        net: called with the entries of a batch that its `forward` names, see `nets.entries`;
            answers with a tensor or a dictionary of tensors.
        optimizer: partial; called with parameter groups.
        scheduler: partial; called with the optimiser. What it needs and the config cannot know
            (`total_steps`, `T_max`, `max_lr` = the groups' own rates; `mode` of a plateau) is
            filled in; with the first two it moves every step, otherwise every epoch.
        weights: file to start from: a state dict or a `model.pt`.
        frozen_epochs: the body stays as loaded for so many epochs; −1 for good (a linear probe).
            Of a net that encodes slices it is the encoder that rests.
        layer_decay: the learning rate shrinks by this factor with each layer away from the head.
        l1: weight of the sum of absolute weights (norms and biases left out).
        channels_last: memory format in which convolutions run.
        monitor: the metric a plateau scheduler watches; None: the task's own.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[..., Optimizer] = AdamW,
        scheduler: Callable[..., Any] | None = None,
        *,
        weights: str | None = None,
        frozen_epochs: Annotated[int, Whole(-1)] = 0,
        layer_decay: Annotated[float, Real(0.0, 1.0)] = 1.0,
        l1: Annotated[float, Real(0.0)] = 0.0,
        channels_last: Annotated[bool, Switch()] = True,
        monitor: str | None = None,
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last) if channels_last else net
        self.loaded = load_weights(net, weights) if weights else None
        self.optimizer, self.scheduler = optimizer, scheduler
        self.frozen_epochs, self.layer_decay, self.l1 = frozen_epochs, layer_decay, l1
        self.monitor = monitor or type(self).monitor
        self._outputs: dict[str, list[Batch]] = {"train": [], "val": [], "test": []}
        self._norms: list[Tensor] = []
        self._moving: list[_BatchNorm] = []
        self._recent: deque[Batch] = deque(maxlen=_RECENT)

    @classmethod
    def check(cls, config: DictConfig) -> Iterator[str]:
        """Refuse series for a net of images, images for one of series, and a judge of images."""
        series, reads = config.data.get("unit") == "series", _reads_series(config.model)
        if series and reads is False:
            yield (
                "data.unit=series gives batches of series, and this model takes single images; "
                "take a model of series (model=…rnn), or say data.unit=image to train on slices"
            )
        if reads and not series:
            yield (
                "this model reads series, and data.unit=image gives single images; say "
                "data.unit=series"
            )
        if config.get("judge") is not None:
            yield (
                "judge= is for a generator, and this model makes no images; leave it out, or take "
                "experiment=dcgan_phantom"
            )

    @classmethod
    @abstractmethod
    def net_facts(cls, target: Any, model: DictConfig) -> dict[str, Any]:
        """Return what a net is told of the target: `num_classes`, the number of its outputs.

        Args:
            target: what is asked, resolved.
            model: the section of the configuration, whose loss may want more than one output.
        """

    @abstractmethod
    def loss(self, answer: Any, batch: Batch) -> Tensor:
        """Return the scalar to minimise."""

    @abstractmethod
    def keep(self, answer: Any, batch: Batch) -> Batch:
        """Return what the epoch's scores need of a step, and no more."""

    @abstractmethod
    def score(self, kept: Batch) -> dict[str, float | None]:
        """Score what was kept of an epoch, name → value, None = undefined."""

    def change(self, batch: Batch) -> Batch:
        """Change a training batch beyond what augmentation does, such as by mixing its images."""
        return batch

    @classmethod
    def build(cls, node: DictConfig, facts: Facts, *, seed: int, **given: Any) -> Self:
        """Build one net from `net:`, and the task around it; `given` are further arguments."""
        net: nn.Module = instantiate(cls._describe(node, facts))
        settings = {k: v for k, v in node.items() if k not in OF_THE_NET}
        task: Self = instantiate(OmegaConf.create(settings), net=net, **given)
        return task

    @classmethod
    def describe_net(cls, node: DictConfig, facts: Facts) -> dict[str, Any]:
        return cls._describe(node, facts) | {"init": None}

    @classmethod
    def _describe(cls, node: DictConfig, facts: Facts) -> dict[str, Any]:
        return {
            "_target_": "medvision.nets.build.build_net",
            "net": cast(dict[str, Any], OmegaConf.to_container(node.net, resolve=True)),
            "in_channels": facts.in_channels,
            "init": node.get("init"),
            "normalise": node.get("normalise"),
            "slice_labels": facts.slice_labels,
            **cls.net_facts(facts.target, node),
        }

    @property
    def trained(self) -> nn.Module:
        return self.net

    def compiled(self) -> Iterator[tuple[nn.Module, bool | None]]:
        """Yield the net, or its encoder of slices alone: packed sequences cannot be compiled."""
        encoder = getattr(self.net, "encoder", None)
        if isinstance(encoder, Encoder):
            yield encoder, True
        else:
            yield self.net, None

    def prepare(self, context: Context) -> Sequence[Callback]:
        """Refuse batches of one sample to a net whose batch norms cannot learn from one."""
        if context.config.data.batch_size == 1 and self.frozen_epochs >= 0:
            _check_alone(self.net, next(context.rows.batches(context.rows.of("train")[:1])))
        return ()

    def finish(self, context: Context) -> dict[str, Any]:
        """Fit what the evaluator freezes, such as an operating point, on the val part."""
        assert self.evaluator is not None
        rows, rule = context.rows.of("val"), str(context.config.operating_point)
        evaluator = self.evaluator(context.target.plain(), {})
        truth, patients = context.rows.truth(rows), context.rows.patients(rows)
        return evaluator.fit(context.answer(rows), truth, rule, patients)

    def forward(self, batch: Any) -> Any:
        """Return what the net answers to a batch, or to images alone."""
        return call_net(self.net, as_batch(batch))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        changed = self.change(as_batch(batch))
        if self._moving:
            self._recent.append(changed if self._reserve(changed) is None else _number(changed))
        loss = self._step("train", changed)
        return loss + self.l1 * self._absolute_weights() if self.l1 else loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._step("val", as_batch(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._step("test", as_batch(batch))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Batch:
        return self.infer(self.net, as_batch(batch), {})

    def on_train_epoch_start(self) -> None:
        """Hold the body still while it is frozen: no gradients, no moving statistics."""
        if self.frozen_epochs:
            self.freeze_body(self.frozen_epochs < 0 or self.current_epoch < self.frozen_epochs)
        self._moving = find_moving(self.net)

    def on_validation_epoch_start(self) -> None:
        """Let the statistics of batch norm be those of the weights that are validated and kept.

        Where weights are averaged, those are the averaged ones: Lightning has put them in place.
        Of series they are of training images as val shows them. Augmented ones are smoother, which
        shifts the answer to each slice alike; pooling keeps that shift and averages all else away:
        a net trained on 63 series called 92 % of others one class, and 67 % by these statistics.
        Single images are told no better by them, and keep those of what was trained on.
        """
        recent, self._recent = self._recent, deque(maxlen=_RECENT)
        shown: Iterable[Batch] = recent
        if recent and (serve := self._reserve(recent[0])) is not None:
            shown = serve([batch["index"] for batch in recent])
        with self.trainer.precision_plugin.forward_context(), self._uncompiled():
            estimate(self._moving, [partial(self, batch) for batch in shown], self._share)

    def freeze_body(self, frozen: bool) -> None:
        """Freeze or thaw the body: all but the head, or the encoder of slices."""
        freeze = getattr(self.net, "freeze_encoder_body", None)
        if freeze is not None:  # what reads its features always learns
            freeze(frozen)
        else:
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

    def on_test_epoch_end(self) -> None:
        self._report("test")

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
            fill["mode"] = direction(self.monitor, short_name(type(self)))
        filled = {k: v for k, v in fill.items() if k in takes and told.get(k) is None}
        interval = "step" if {"total_steps", "T_max"} & set(filled) else "epoch"
        scheduler = self.scheduler(optimizer, **filled)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": interval, "monitor": self.monitor},
        }

    def _reserve(self, batch: Batch) -> Callable[[Sequence[Tensor]], list[Batch]] | None:
        """Return what serves series as they are; None for images, or where other loaders serve."""
        data = getattr(self.trainer, "datamodule", None)
        return getattr(data, "serve_unchanged", None) if "length" in batch else None

    def _uncompiled(self) -> AbstractContextManager[Any]:
        """Run nets as they are: a few passes an epoch are not worth a compiled variant."""
        compiled = any(net._compiled_call_impl is not None for net, _ in self.compiled())
        return torch.compiler.set_stance("force_eager") if compiled else nullcontext()

    def _share(self, statistic: Tensor) -> Tensor:
        """Return the mean of a tensor over the devices."""
        if self.trainer.world_size == 1:
            return statistic
        return cast(Tensor, self.all_gather(statistic)).mean(0)

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

    def _step(self, part: str, batch: Batch) -> Tensor:
        """Return the loss of a batch; buffer it, a row a sample, with what is kept of the batch."""
        answer = self(batch)
        loss = self.loss(answer, batch)
        kept = {name: _as_kept(value) for name, value in self.keep(answer, batch).items()}
        samples = len(batch.get("image", next(iter(batch.values()))))
        kept["loss"] = _as_plain(loss).float().expand(samples)
        self._outputs[part].append(kept)
        return loss

    def _report(self, part: str) -> None:
        """Score the buffered epoch and log it as `part/name` over epochs."""
        kept, self._outputs[part] = concatenate(self._outputs[part]), []
        if not kept:
            return
        if self.trainer.world_size > 1:
            kept = {name: gather_ranks(self, value) for name, value in kept.items()}
        loss = float(kept.pop("loss").mean())
        scores = {"loss": loss} | self.score(kept)
        if part == "train" and self._norms:
            norms, self._norms = self._norms, []
            scores["grad_norm"] = float(torch.stack(norms).mean())
        values = {f"{part}/{k}": math.nan if v is None else v for k, v in scores.items()}
        # Lightning takes a logged "step" as the x-axis: the epoch, so that runs of other batch
        # sizes lie on top of each other.
        self.log_dict(values | {"step": float(self.current_epoch)})


def as_batch(given: Any) -> Batch:
    """Take images alone, or a pair of images and labels, as a batch; a dictionary is one."""
    if isinstance(given, Tensor):
        return {"image": given}
    if isinstance(given, Mapping):
        return cast(Batch, given)
    image, label = given
    return {"image": image, "label": label}


def _check_alone(net: nn.Module, batch: Batch) -> None:
    """Let a copy of the net train on a batch of one.

    Raises:
        MedvisionError: a batch norm gets one number a channel, which has no spread.
    """
    try:
        with torch.no_grad():
            call_net(copy.deepcopy(net).train(), batch)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise MedvisionError(
            "data.batch_size=1 leaves one number a channel to a batch norm of "
            f"{type(net).__name__}, which needs several; say data.batch_size=2 or more, or enlarge "
            "data.reader.size"
        ) from None


def _number(batch: Batch) -> Batch:
    """Keep of series which they are, and that they are series."""
    return {name: batch[name] for name in ("index", "length")}


def _as_plain(value: Tensor) -> Tensor:
    """Return a tensor without its graph, and of torch's own class: others carry facts along."""
    return value.detach().as_subclass(Tensor)


def _as_kept(value: Tensor) -> Tensor:
    """Return a tensor to keep for an epoch, numbers with a fraction as float32.

    They are copied: where CUDA graphs run the net, the next step writes over its answer.
    """
    plain = _as_plain(value)
    return plain.to(torch.float32, copy=True) if plain.is_floating_point() else plain


def concatenate(outputs: Sequence[Batch]) -> Batch:
    """Join the steps of an epoch along the batch."""
    if not outputs:
        return {}
    return {name: torch.cat([step[name] for step in outputs]) for name in outputs[0]}


def gather_ranks(task: Task, value: Tensor) -> Tensor:
    """Join the rows of all ranks, however many each has."""
    counts = cast(Tensor, task.all_gather(torch.tensor(len(value), device=value.device)))
    padded = value.new_zeros((int(counts.max()), *value.shape[1:]))
    padded[: len(value)] = value
    gathered = cast(Tensor, task.all_gather(padded))
    return torch.cat([rows[:n] for rows, n in zip(gathered, counts.tolist(), strict=True)])


def _reads_series(model: DictConfig) -> bool | None:
    """Tell whether the net of a configuration reads series; None where that is not known."""
    try:
        return reads_series(get_object(current(str(model.net._target_))))
    except Exception:  # what cannot be found is told when the net is built
        return None
