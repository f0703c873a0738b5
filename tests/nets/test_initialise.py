import math

import pytest
import torch
from torch import nn

from medvision.errors import MedvisionError
from medvision.nets.initialise import initialise


def fresh():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64), nn.Linear(300, 400))


@pytest.mark.parametrize(
    ("how", "activation", "conv", "linear"),
    [
        ("normal", "relu", 1 / 288, 1 / 300),
        ("xavier", "relu", 2 / (9 * 96), 2 / 700),
        ("he", "relu", 2 / 288, 2 / 300),
        ("he", "silu", 2 / 288, 2 / 300),
        ("he", "tanh", (5 / 3) ** 2 / 288, (5 / 3) ** 2 / 300),
    ],
)
def test_variances_are_those_of_the_papers(how, activation, conv, linear):
    net = initialise(fresh(), how, activation)
    assert net[0].weight.var().item() == pytest.approx(conv, rel=0.05)
    assert net[2].weight.var().item() == pytest.approx(linear, rel=0.05)


def test_orthogonal_columns_have_the_length_of_the_gain():
    weight = initialise(fresh(), "orthogonal", "relu")[2].weight
    torch.testing.assert_close(weight.T @ weight, 2 * torch.eye(300), atol=1e-4, rtol=0)


def test_biases_become_zero_and_norms_stay():
    net = fresh()
    nn.init.constant_(net[1].weight, 0.7)
    nn.init.constant_(net[1].bias, 0.3)
    initialise(net, "he")
    assert not net[0].bias.any()
    assert not net[2].bias.any()
    assert (net[1].weight == 0.7).all()
    assert (net[1].bias == 0.3).all()


def test_none_leaves_the_net_alone():
    net = fresh()
    before = net[0].weight.clone()
    assert torch.equal(initialise(net, None)[0].weight, before)


def test_he_keeps_the_size_of_signals_through_twenty_rectified_layers():
    torch.manual_seed(0)
    layers = [part for _ in range(20) for part in (nn.Linear(256, 256), nn.ReLU())]
    signal = initialise(nn.Sequential(*layers), "he")(torch.randn(64, 256))
    assert 0.3 < signal.square().mean().item() < 3


def test_mistyped_names_are_met_with_the_right_ones():
    with pytest.raises(MedvisionError) as caught:
        initialise(fresh(), "xaver")
    assert str(caught.value) == (
        "no initialisation is called 'xaver' (did you mean 'xavier'?); "
        "choose one of normal, xavier, he, orthogonal"
    )
    with pytest.raises(MedvisionError, match="no activation is called 'swish'"):
        initialise(fresh(), "he", "swish")


def test_the_seed_decides():
    torch.manual_seed(5)
    one = initialise(fresh(), "he")[0].weight.clone()
    assert torch.equal(one, initialise(fresh(), "he")[0].weight)
    assert math.isfinite(one.sum().item())
