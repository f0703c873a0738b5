"""A generator against a critic."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.parametrize import is_parametrized
from torch.optim import Adam, Optimizer

from medvision.devices import takes_several
from medvision.errors import MedvisionError, collect
from medvision.losses import GanLoss, gradient_penalty, non_saturating, zero_centred_penalty
from medvision.nets.dcgan import Critic, Generator
from medvision.ranges import Real, Switch, Whole
from medvision.tasks.classes import Classes
from medvision.tasks.generation.gate import TIES
from medvision.tasks.trainable import Batch, Context, Facts, Trainable

if TYPE_CHECKING:
    from medvision.tasks.generation.evaluator import FidelityEvaluator

_SIDES = ("generator", "critic")
_TUNED = 32  # pixels a side at which the presets' penalties were chosen


class Adversarial(Trainable):
    """Trains a conditional GAN: one step of the critic, one of the generator, a batch.

    Both steps see the same generated images. Budgets and ramps count images shown, in thousands
    (kimg): Lightning's `global_step` counts both optimisers. What is validated, kept and exported
    is the running mean of the generator's weights, `ema`. Where nets are compiled, their losses in
    training are; all else goes by the plain `forward`.

    Args:
        generator: (noise `[B,Z]`, label `[B]`, condition) → image in [-1,1]; Z is its `latent`.
        critic: (image in [-1,1], label, condition) → logit `[B]`.
        loss: (real, fake) → `GanLoss`, a function of `losses`; the generator's side gets the real
            logits as they were before the critic's step.
        optimizer, critic_optimizer: partials, called with the parameters of each side.
        kimg: the budget.
        ema_kimg: half-life of the running mean; at most a twentieth of what has been seen.
        policy: change of real and generated images before the critic sees them; None = none.
        policy_kimg: it grows from nothing to full strength over so many.
        warmup_kimg: the class fades in from half of this to all of it; until then all classes are
            one, which few images can teach sooner (Shahbazi et al. 2022, arXiv:2201.06578).
        r1, r2: weights gamma of the zero-centred penalties on real and on generated images.
        gradient_penalty: weight of WGAN-GP's penalty.
        penalty_every: penalties are taken at each so-many-th step, as many times as heavy.
        clip: largest norm of each side's gradients; None = no limit.
        final_lr: share of the learning rates that is left at the end, along a half cosine.
        channels_last: memory format in which convolutions run.
        seed: of the policy.
    """

    target = Classes
    monitor = "val/gate_score"
    ties = TIES
    predicts = False
    graphs_fail = "the nets of a GAN take turns, and one would overwrite what the other still needs"
    next_command = "medvision generate run=last per_class=500 output=generated"
    judge: "FidelityEvaluator"

    @classmethod
    def next_step(cls, metrics: Mapping[str, Any]) -> str:
        if (metrics.get("gate") or {}).get("passed"):
            return cls.next_command
        return "the gate says why these images may not be used; train longer, with model.kimg=…"

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        *,
        loss: Callable[[Tensor, Tensor], GanLoss],
        optimizer: Callable[..., Optimizer],
        critic_optimizer: Callable[..., Optimizer],
        kimg: Annotated[float, Real(0.001)],
        ema_kimg: Annotated[float, Real(0.0)] = 10.0,
        policy: Callable[..., Tensor] | None = None,
        policy_kimg: Annotated[float, Real(0.0)] = 0.0,
        warmup_kimg: Annotated[float, Real(0.0)] = 0.0,
        r1: Annotated[float, Real(0.0)] = 0.0,
        r2: Annotated[float, Real(0.0)] = 0.0,
        gradient_penalty: Annotated[float, Real(0.0)] = 0.0,
        penalty_every: Annotated[int, Whole(1)] = 4,
        clip: Annotated[float | None, Real(0.0, null=True)] = None,
        final_lr: Annotated[float, Real(0.0, 1.0)] = 1.0,
        channels_last: Annotated[bool, Switch()] = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.generator = generator.to(memory_format=layout)
        self.critic = critic.to(memory_format=layout)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False)
        self.loss, self.policy, self.seed = loss, policy, seed
        self.optimizer, self.critic_optimizer = optimizer, critic_optimizer
        self.kimg, self.ema_kimg = kimg, ema_kimg
        self.policy_kimg, self.warmup_kimg = policy_kimg, warmup_kimg
        self.r1, self.r2, self.gradient_penalty = r1, r2, gradient_penalty
        self.penalty_every, self.clip, self.final_lr = penalty_every, clip, final_lr
        self.steps, self.seen = 0, 0  # batches and images, of this run as a whole
        self._said: list[dict[str, Tensor]] = []
        self._val: list[Tensor] = []
        self._scores: dict[str, float] = {}

    @classmethod
    def watched(cls) -> Sequence[str]:
        return "gate_score", "coverage"

    @classmethod
    def build(cls, node: DictConfig, facts: Facts, *, seed: int, **given: Any) -> Self:
        """Build both nets for the data's size, channels and classes, and the task around them."""
        told = _describe_data(facts)
        if told["size"] > _TUNED and (node.r1 or node.r2):
            more = f"{(told['size'] / _TUNED) ** 2:g} times as much"
            print(f"note: model.r1 and model.r2 were chosen at {_TUNED} pixels a side and grow "
                  f"with its square: try {more}")  # fmt: skip
        nets = {side: instantiate(_build_at_once({**node[side], **told})) for side in _SIDES}
        settings = {k: v for k, v in node.items() if k not in _SIDES}
        task: Self = instantiate(OmegaConf.create(settings), **nets, seed=seed)
        return task

    @classmethod
    def describe_net(cls, node: DictConfig, facts: Facts) -> dict[str, Any]:
        net = cast(dict[str, Any], OmegaConf.to_container(node.generator, resolve=True))
        return _build_at_once(net) | _describe_data(facts)

    @classmethod
    def check(cls, config: DictConfig) -> Iterator[str]:
        problems = _find_problems(config)
        if found := [problem for problem, there in problems.items() if there]:
            yield str(collect("this model makes images, and", found,
                              "Start from experiment=dcgan_phantom"))  # fmt: skip

    @classmethod
    def accept(cls, target: Any) -> None:
        if target.kind == "multilabel":
            raise MedvisionError(
                "images with several labels each cannot be asked of a generator, which is told one "
                "class; give data.columns.label=… with one class an image"
            )

    @classmethod
    def describe_target(cls, target: Any) -> dict[str, Any]:
        return {"classes": target.names, "kind": "generator"}

    @staticmethod
    def read_progress(checkpoint: Mapping[str, Any]) -> int:
        """Return where the curves of a resumed run go on, in images."""
        return int(checkpoint["counters"]["seen"]) + 1

    @property
    def trained(self) -> nn.Module:
        return self.ema

    def compiled(self) -> Iterator[tuple[nn.Module, bool | None]]:
        """Yield both nets, but no critic with spectral norm.

        Compiled, its power iteration for generated images writes over what the gradient of the real
        ones still needs.
        """
        yield self.generator, None
        if not any(map(is_parametrized, self.critic.modules())):
            yield self.critic, None

    def limits(self, batches: int, batch_size: int, max_steps: int) -> dict[str, int]:
        """Return the epochs that the budget takes; Lightning counts the steps of both sides."""
        epochs = max(round(1000 * float(self.kimg) / (max(batches, 1) * batch_size)), 1)
        return {"max_epochs": epochs, "max_steps": max(2 * max_steps, -1)}

    def prepare(self, context: Context) -> Sequence[Callback]:
        """Measure what real images reach; judge generated ones by that after every epoch."""
        from medvision.tasks.generation.setup import build_callback, open_judge

        self.judge = open_judge(context)
        return [build_callback(self, context)]

    def finish(self, context: Context) -> dict[str, Any]:
        """Judge images that chose no epoch; return the gate."""
        from medvision.tasks.generation.setup import judge_finally

        return {"gate": judge_finally(self, context)}

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        """Return images `[B,C,H,W]` in [0,1] of the averaged generator."""
        image: Tensor = self.ema(noise, label)
        return (image + 1) / 2

    @torch.no_grad()
    def sample(self, noise: Tensor, label: Tensor, size: int = 256) -> Tensor:
        """Return images in [0,1] as 8 bits would keep them, made in float32, on the CPU."""
        made = []
        for some, of_class in zip(torch.split(noise, size), torch.split(label, size), strict=True):
            image = self(some.to(self.device), of_class.to(self.device)).float()
            made.append(((image * 255).round() / 255).clamp(0, 1).cpu())
        return torch.cat(made)

    @torch.no_grad()
    def criticise(self, image: Tensor, label: Tensor, size: int = 256) -> Tensor:
        """Return the critic's logits `[N]` of unchanged images in [0,1], on the CPU.

        They pass in mixed order, and batch norm takes their own statistics, as in training: real
        and generated images there pass apart, and the running statistics are of both.
        """
        order = torch.randperm(len(image), generator=torch.Generator().manual_seed(0))
        logits = torch.empty(len(image))
        with _as_trained(self.critic):
            for some in torch.split(order, size):
                shown, of_class = image[some].to(self.device), label[some].to(self.device)
                logits[some] = self.critic.forward(2 * shown - 1, of_class, 1.0).float().cpu()
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Take a step of each side; return its losses."""
        generator_steps, critic_steps = cast(list[LightningOptimizer], self.optimizers())
        self._set_rates(generator_steps, critic_steps)
        real, label = 2 * batch["image"] - 1, batch["label"]
        noise = torch.randn(len(real), self.latent, device=real.device)
        fake = self.generator(noise, label, self.condition).float()
        real, fake = self._change(real, 0), self._change(fake, 1)
        logits, said = self._teach_critic(critic_steps, real, fake.detach(), label)
        with frozen(self.critic):
            verdict = self.critic(fake, label, self.condition)
            loss = self.loss(logits, verdict).generator
            norm = self._step(generator_steps, loss, self.generator)
        self.steps, self.seen = self.steps + 1, self.seen + len(real)
        self._average(len(real))
        said |= {"generator_loss": loss.detach(), "generator_grad_norm": norm}
        self._said.append(said)
        return {name: said[name] for name in ("critic_loss", "generator_loss")}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        logit = self.critic.forward(2 * batch["image"] - 1, batch["label"], self.condition)
        self._val.append(logit.detach().float())

    def on_validation_epoch_start(self) -> None:
        """Sum the epoch up before anyone judges what came of it.

        Raises:
            MedvisionError: a loss or a weight is not a number.
        """
        said, self._said = self._said, []
        names = said[0] if said else ()
        self._scores = {
            f"train/{k}": float(torch.stack([s[k] for s in said]).mean()) for k in names
        }
        told = self._scores | {"a weight": float(sum(w.sum() for w in self.ema.parameters()))}
        if wrong := [name for name, value in told.items() if not math.isfinite(value)]:
            raise MedvisionError(
                f"training diverged: {wrong[0]} was not a number after {self.seen} images; lower "
                "model.optimizer.lr and model.critic_optimizer.lr, or set trainer.precision=32-true"
            )

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's means over thousands of images."""
        scores, self._val = {"val/critic_real": float(torch.cat(self._val).mean())}, []
        counted = {"train/kimg": self.seen / 1000, "step": float(self.seen)}
        self.log_dict(self._scores | scores | counted)

    def configure_optimizers(self) -> Any:
        optimizers = [
            self.optimizer(self.generator.parameters()),
            self.critic_optimizer(self.critic.parameters()),
        ]
        self._rates = [float(o.defaults["lr"]) for o in optimizers]
        return optimizers

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the counters: what they steer then resumes as well."""
        checkpoint["counters"] = {"steps": self.steps, "seen": self.seen}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps = checkpoint["counters"]["steps"]
        self.seen = checkpoint["counters"]["seen"]

    def example(self, batch: Batch) -> Batch:
        """Return what the generator is given: noise, and the classes of a batch."""
        label = batch["label"]
        return {"noise": torch.zeros(len(label), self.latent), "label": label}

    @property
    def latent(self) -> int:
        """Z."""
        return cast(int, self.generator.latent)

    @property
    def condition(self) -> float:
        """How much of the class both nets are told now, 0 to 1."""
        half = 500 * self.warmup_kimg
        return 1.0 if half == 0 else min(max(self.seen / half - 1, 0.0), 1.0)

    def _teach_critic(
        self, optimizer: LightningOptimizer, real: Tensor, fake: Tensor, label: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the critic's step; return its logits of the real images before it, and its scores.

        Real and generated images pass one after the other: batch statistics stay apart.
        """
        on_real = self.critic(real, label, self.condition)
        on_fake = self.critic(fake, label, self.condition)
        loss = self.loss(on_real, on_fake).critic
        said = {"critic_loss": loss.detach(), "critic_real": on_real.detach().float().mean(),
                "critic_fake": on_fake.detach().float().mean()}  # fmt: skip
        if (self.r1 or self.r2 or self.gradient_penalty) and self.steps % self.penalty_every == 0:
            loss = loss + self.penalty_every * self._penalise(real, fake, label)
        norm = self._step(optimizer, loss, self.critic)
        return on_real.detach(), said | {"critic_grad_norm": norm}

    def _penalise(self, real: Tensor, fake: Tensor, label: Tensor) -> Tensor:
        """Return the weighted penalties, in float32: their second derivatives need the digits.

        The critic's plain `forward` answers: torch cannot go twice through what it has compiled.
        """
        with torch.autocast(real.device.type, enabled=False):
            total = real.new_zeros(())
            for weight, image in ((self.r1, real), (self.r2, fake)):
                if weight:
                    image = image.detach().requires_grad_()
                    logits = self.critic.forward(image, label, self.condition)
                    total = total + weight * zero_centred_penalty(logits, image)
            if self.gradient_penalty:
                share = torch.rand(len(real), device=real.device)
                total = total + self.gradient_penalty * gradient_penalty(
                    lambda image: self.critic.forward(image, label, self.condition),
                    real, fake, share,
                )  # fmt: skip
            return total

    def _step(self, optimizer: LightningOptimizer, loss: Tensor, net: nn.Module) -> Tensor:
        """Step down the loss; return the norm of the gradients, before they are clipped."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        norm = clip_grad_norm_(net.parameters(), self.clip or math.inf).detach()
        optimizer.step()
        return norm

    def _change(self, image: Tensor, side: int) -> Tensor:
        if self.policy is None:
            return image
        strength = 1.0
        if self.policy_kimg:
            strength = min(self.seen / (1000 * self.policy_kimg), 1.0)
        return self.policy(image, strength, self.seed, self.steps, side)

    def _set_rates(self, *optimizers: LightningOptimizer) -> None:
        progress = min(self.seen / (1000 * self.kimg), 1.0)
        share = self.final_lr + (1 - self.final_lr) * (1 + math.cos(math.pi * progress)) / 2
        for optimizer, rate in zip(optimizers, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * share

    @torch.no_grad()
    def _average(self, images: int) -> None:
        half_life = min(1000 * self.ema_kimg, self.seen / 20)
        share = 1 - 0.5 ** (images / max(half_life, 1e-8))
        state = self.generator.state_dict()
        for name, mean in self.ema.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(state[name], share)
            else:
                mean.copy_(state[name])


def DCGAN(  # noqa: N802 -- named as what it returns
    size: int, in_channels: int = 1, num_classes: int = 2, *, width: int = 32, **settings: Any
) -> Adversarial:
    """Return the generator and critic of `conf/model/dcgan_classic.yaml`, ready for a Trainer.

    Batches hold `image` `[B,C,H,W]` in [0,1] and `label` `[B]`; `.sample(noise, label)` answers.

    Args:
        size: of the square images: 32, 64, 128 or 256.
        in_channels: C.
        num_classes: of the images.
        width: channels at half the size.
        settings: of `Adversarial`, in place of those of the file.

    Reference:
        Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional
        Generative Adversarial Networks, 2016, arXiv:1511.06434.
    """
    adam = partial(Adam, lr=0.0002, betas=(0.5, 0.999))
    given: dict[str, Any] = {
        "loss": non_saturating, "optimizer": adam, "critic_optimizer": adam, "kimg": 100,
    }  # fmt: skip
    return Adversarial(
        Generator(size, in_channels, num_classes, width=width, embedding=32),
        Critic(size, in_channels, num_classes, width=width),
        **given | settings,
    )


def _describe_data(facts: Facts) -> dict[str, int]:
    """Return what the nets must be told of the data."""
    height, width = facts.size
    if height != width:
        raise MedvisionError(
            f"images of {height}x{width} are not square; set data.reader.size to [32,32], "
            "[64,64], [128,128] or [256,256]"
        )
    classes = len(facts.target.names)
    return {"size": height, "in_channels": facts.in_channels, "num_classes": classes}


def _build_at_once(net: Mapping[str, Any]) -> dict[str, Any]:
    """Return a net's description as one that is built at once."""
    return {k: v for k, v in net.items() if k != "_partial_"}


def _find_problems(config: DictConfig) -> dict[str, bool]:
    """Return what a generator against its critic cannot be trained with, and whether it is so."""
    trainer = config.trainer
    return {
        "judge=default is missing: without it no epoch can be chosen": config.get("judge") is None,
        "test=true, and a generator never opens the test part (test=false)": config.test,
        "trainer.gradient_clip_val clips no GAN (null; model.clip=… does)":
            trainer.gradient_clip_val is not None,
        "trainer.accumulate_grad_batches must be 1": trainer.accumulate_grad_batches != 1,
        "float16 cannot hold the penalties (trainer.precision=bf16-mixed or 32-true)":
            str(trainer.precision).startswith("16"),
        "a GAN trains on one device (trainer.devices=1)": takes_several(config),
        "data.unit=series (image)": config.data.get("unit") == "series",
        "generated images teach no generator (data.extra_ratio=null)":
            config.data.get("extra_ratio") is not None,
        "callbacks.ema beside the average it has already (callbacks=default)":
            config.callbacks.get("ema") is not None,
    }  # fmt: skip


@contextmanager
def _as_trained(critic: nn.Module) -> Iterator[None]:
    """Let batch norm use the statistics of each batch, and keep its running ones as they are."""
    norms = [m for m in critic.modules() if isinstance(m, nn.BatchNorm2d)]
    kept = [(m.training, m.momentum) for m in norms]
    counts = [m.num_batches_tracked.clone() for m in norms if m.num_batches_tracked is not None]
    for module in norms:
        module.training, module.momentum = True, 0.0
    try:
        yield
    finally:
        for module, (training, momentum) in zip(norms, kept, strict=True):
            module.training, module.momentum = training, momentum
        for module, count in zip(norms, counts, strict=False):
            module.num_batches_tracked = count


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Let gradients pass through a net without collecting any in its weights."""
    net.requires_grad_(False)
    try:
        yield
    finally:
        net.requires_grad_(True)
