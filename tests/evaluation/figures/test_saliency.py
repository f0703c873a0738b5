import pytest
import torch
from torch import nn
from torchvision import models

from medvision.evaluation.figures.saliency import draw_heat, find_maps
from medvision.nets.convnet import ConvNet
from medvision.nets.encoder import encoder
from medvision.nets.slice_rnn import SliceRNN


class Bright(nn.Module):
    """Class 1 is bright, class 0 is dark: its maps are the image and its negative."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1)
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.maps.weight.copy_(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1))
            self.maps.bias.copy_(torch.tensor([1.0, 0.0]))
            self.head.weight.copy_(torch.eye(2))
            self.head.bias.zero_()

    def forward(self, image):
        return self.head(self.maps(image).mean((2, 3)))


def test_heat_lies_where_the_evidence_is():
    net, image = Bright().eval(), torch.zeros(2, 1, 6, 8)
    image[:, :, 1:3, 4:7] = 1
    heat = draw_heat(encoder(net)[0], net, image, torch.tensor([1, 0]))
    assert heat.shape == (2, 6, 8)
    # By hand: the slope of the mean is 1/48 of its own map and 0 of the other.
    torch.testing.assert_close(heat[0], image[0, 0] / 48)
    torch.testing.assert_close(heat[1], (1 - image[1, 0]) / 48)
    assert not heat.requires_grad
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "squeezenet1_1", "mobilenet_v3_small"])
def test_nets_of_torchvision_have_maps(name):
    torch.manual_seed(0)
    net = getattr(models, name)(num_classes=2).eval()
    heat = draw_heat(encoder(net)[0], net, torch.rand(1, 3, 64, 64), 1)
    assert heat.shape == (1, 64, 64)
    assert heat.isfinite().all()


def test_every_slice_of_a_series_has_heat():
    torch.manual_seed(0)
    net = SliceRNN(2, 1, encoder=lambda **k: ConvNet(widths=(4, 8), **k), hidden=4).eval()
    for parameter in net.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    length = torch.tensor([3])
    heat = draw_heat(
        encoder(net)[0], lambda image: net(image, length)["logits"], torch.rand(1, 3, 1, 16, 16), 0
    )
    assert heat.shape == (3, 16, 16)
    assert (heat >= 0).all()
    assert heat.amax((1, 2)).gt(0).any()


def test_a_net_without_maps_has_none():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    assert find_maps(net, lambda: net(torch.rand(1, 1, 4, 4))) is None
    assert draw_heat(net, net, torch.rand(1, 1, 4, 4), 0) is None
