import math

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from torch import nn
from torch.nn import functional

from medvision import losses
from medvision.losses import gradient_penalty, zero_centred_penalty

NAMES = ("non_saturating", "hinge", "least_squares", "wasserstein", "relativistic")
REAL, FAKE = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, 0.0, 1.5])


def duel(name, real=REAL, fake=FAKE):
    return jaxtyped(typechecker=beartype)(getattr(losses, name))(real, fake)


def test_non_saturating_is_binary_cross_entropy():
    critic, generator = duel("non_saturating")
    yes, no = torch.ones(3), torch.zeros(3)
    entropy = functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(critic, entropy(REAL, yes) + entropy(FAKE, no))
    torch.testing.assert_close(generator, entropy(FAKE, yes))


def test_values_by_hand():
    assert duel("hinge").critic.item() == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1 + 2.5) / 3)
    assert duel("hinge").generator.item() == pytest.approx(0.5 / 3)
    assert duel("least_squares").critic.item() == pytest.approx((1 + 0.25 + 4 + 4 + 0 + 2.25) / 6)
    assert duel("least_squares").generator.item() == pytest.approx((9 + 1 + 0.25) / 6)
    assert duel("wasserstein").critic.item() == pytest.approx(-0.5 / 3 - 0.5)
    ahead = [4.0, 0.5, -2.5]
    expected = sum(math.log1p(math.exp(-a)) for a in ahead) / 3
    assert duel("relativistic").critic.item() == pytest.approx(expected, rel=1e-6)
    behind = sum(math.log1p(math.exp(a)) for a in ahead) / 3
    assert duel("relativistic").generator.item() == pytest.approx(behind, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_good_for_one_is_bad_for_the_other(name):
    fake = torch.tensor([0.1, 0.4, 0.8], requires_grad=True)  # least squares wants 0 and 1
    (up,) = torch.autograd.grad(duel(name, fake=fake).generator, fake)
    (down,) = torch.autograd.grad(duel(name, fake=fake).critic, fake)
    assert (up < 0).all()  # a generator raises the logits of its images
    assert (down > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_bf16_logits_are_compared_in_float32(name):
    critic, generator = duel(name, REAL.bfloat16(), FAKE.bfloat16())
    assert critic.dtype == generator.dtype == torch.float32


def test_slope_of_a_linear_critic_is_its_weight():
    weight = torch.randn(1, 2, 4, 4)
    image = torch.rand(5, 2, 4, 4, requires_grad=True)
    logits = (weight * image).sum((1, 2, 3))
    expected = weight.square().sum() / 2
    torch.testing.assert_close(zero_centred_penalty(logits, image), expected)


def test_gradient_penalty_wants_slope_one():
    weight = torch.randn(1, 1, 4, 4)
    real, fake, share = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4), torch.rand(3)
    penalty = gradient_penalty(lambda x: (weight * x).sum((1, 2, 3)), real, fake, share)
    torch.testing.assert_close(penalty, (weight.norm() - 1) ** 2)
    flat = gradient_penalty(
        lambda x: (weight * x).sum((1, 2, 3)) / weight.norm(), real, fake, share
    )
    assert flat.item() == pytest.approx(0, abs=1e-6)


def test_penalties_teach_the_critic_and_survive_a_flat_one():
    critic = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (2, 16)), nn.Linear(16, 1))
    nn.init.zeros_(critic[-1].weight)
    image = torch.rand(2, 1, 4, 4, requires_grad=True)
    zero_centred_penalty(critic(image).flatten(), image).backward()
    assert torch.isfinite(critic[-1].weight.grad).all()
