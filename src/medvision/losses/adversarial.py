"""Losses of generator and critic: pure functions of the critic's logits, high for real.

Each takes the logits `[B]` of real images and of as many generated ones and returns both sides'
losses, in float32 even under autocast. The penalties keep the critic's slope in check; they need
its graph, and float32 throughout.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import relu, softplus

Logits = Float[Tensor, "B"]
Image = Float[Tensor, "B C H W"]


class GanLoss(NamedTuple):
    """What each side minimises."""

    critic: Tensor
    generator: Tensor


def non_saturating(real: Logits, fake: Logits) -> GanLoss:
    """Binary cross-entropy of "is it real?"; the generator wants a yes.

    Reference:
        Goodfellow et al.: Generative Adversarial Nets, 2014, arXiv:1406.2661.
    """
    real, fake = real.float(), fake.float()
    return GanLoss(softplus(-real).mean() + softplus(fake).mean(), softplus(-fake).mean())


def hinge(real: Logits, fake: Logits) -> GanLoss:
    """Logits beyond 1 and -1 are right enough for the critic; the generator raises its own.

    Reference:
        Lim, Ye: Geometric GAN, 2017, arXiv:1705.02894.
    """
    real, fake = real.float(), fake.float()
    return GanLoss(relu(1 - real).mean() + relu(1 + fake).mean(), -fake.mean())


def least_squares(real: Logits, fake: Logits) -> GanLoss:
    """Real is 1, generated is 0, and the distance counts squared.

    Reference:
        Mao et al.: Least Squares Generative Adversarial Networks, ICCV 2017, arXiv:1611.04076.
    """
    real, fake = real.float(), fake.float()
    critic = ((real - 1) ** 2).mean() + (fake**2).mean()
    return GanLoss(critic / 2, ((fake - 1) ** 2).mean() / 2)


def wasserstein(real: Logits, fake: Logits) -> GanLoss:
    """Difference of the means; a distance only with `gradient_penalty`.

    Reference:
        Arjovsky, Chintala, Bottou: Wasserstein GAN, 2017, arXiv:1701.07875.
    """
    real, fake = real.float(), fake.float()
    return GanLoss(fake.mean() - real.mean(), -fake.mean())


def relativistic(real: Logits, fake: Logits) -> GanLoss:
    """Cross-entropy of "is it more real than the generated one beside it?"; needs R1 and R2.

    Reference:
        Jolicoeur-Martineau, arXiv:1807.00734; with both penalties Huang, Gokaslan, Kuleshov,
        Tompkin: The GAN is dead; long live the GAN!, NeurIPS 2024, arXiv:2501.05441.
    """
    ahead = real.float() - fake.float()
    return GanLoss(softplus(-ahead).mean(), softplus(ahead).mean())


def zero_centred_penalty(logits: Logits, image: Image) -> Float[Tensor, ""]:
    """Mean over images of half the squared slope of each logit by its own image.

    On real images it is R1, on generated ones R2; multiply by gamma.

    Args:
        logits: the critic's answers to `image`, with their graph.
        image: requires a gradient.

    Reference:
        Mescheder, Geiger, Nowozin: Which Training Methods for GANs do actually Converge?, ICML
        2018, arXiv:1801.04406.
    """
    return _slope(logits, image).square().mean() / 2


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Image, fake: Image, share: Float[Tensor, "B"]
) -> Float[Tensor, ""]:
    """Mean squared distance from 1 of the slope between real and generated images.

    Args:
        critic: image → logits.
        real: as many as `fake`.
        fake: detached.
        share: uniform in 0..1; where between the two the slope is taken.

    Reference:
        Gulrajani et al.: Improved Training of Wasserstein GANs, 2017, arXiv:1704.00028.
    """
    between = real.lerp(fake, share[:, None, None, None]).requires_grad_()
    return (_slope(critic(between), between) - 1).square().mean()


def _slope(logits: Tensor, image: Tensor) -> Tensor:
    """Return `[B]`: the length of each logit's gradient by its image."""
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    # Squared and rooted by hand: the norm's own gradient at zero is not a number.
    return gradient.flatten(1).square().sum(1).add(1e-12).sqrt()
