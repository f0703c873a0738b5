import pytest
import torch

from medvision.augment.draw import Augment
from medvision.augment.policy import DiffAugment
from medvision.errors import MedvisionError

POLICY = DiffAugment(Augment(shift_x=0.25, shift_y=0.25, brightness=0.2, erase=0.2))


def images(count=16):
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_strength_is_the_share_that_changes():
    image = images(400)
    changed = [
        (POLICY(image, strength, 0, 3, 0) != image).flatten(1).any(1).float().mean().item()
        for strength in (0.0, 0.25, 1.0)
    ]
    assert changed[0] == 0
    assert 0.15 < changed[1] < 0.35
    assert changed[2] == 1


def test_gradients_pass():
    image = images().requires_grad_()
    POLICY(image, 1.0, 0, 0, 1).square().sum().backward()
    assert (image.grad.flatten(1).abs().sum(1) > 0).all()


def test_both_sides_draw_apart_and_alike_in_distribution():
    image = images(2000)
    one, other = POLICY(image, 1.0, 0, 5, 0), POLICY(image, 1.0, 0, 5, 1)
    assert not torch.equal(one, other)
    assert torch.equal(one, POLICY(image, 1.0, 0, 5, 0))
    assert abs(one.mean() - other.mean()) < 0.01
    assert abs(one.std() - other.std()) < 0.01


def test_background_enters_from_outside():
    image = torch.ones(64, 1, 16, 16)
    moved = DiffAugment(Augment(shift_x=0.4))(image, 1.0, 0, 0, 0)
    assert moved.min() == -1
    assert moved.max() == 1


def test_gamma_is_refused_because_black_has_no_slope():
    with pytest.raises(MedvisionError, match="gamma has no finite slope at black"):
        DiffAugment(Augment(gamma=0.3))
