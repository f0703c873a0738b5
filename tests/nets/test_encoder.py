from functools import partial

import pytest
import torch
from torch import nn
from torchvision import models

from medvision.errors import MedvisionError
from medvision.nets.build import build_net
from medvision.nets.convnet import ConvNet
from medvision.nets.encoder import encoder, find_head, replace_head, untrained_encoder
from medvision.nets.keras_cnn import KerasCNN

NETS = {
    "convnet": (ConvNet, 128),
    "keras_cnn": (partial(KerasCNN, size=32), 512),
    "resnet18": (models.resnet18, 512),
    "squeezenet1_1": (models.squeezenet1_1, 512),
    "densenet121": (models.densenet121, 1024),
    "efficientnet_b0": (models.efficientnet_b0, 1280),
    "convnext_tiny": (models.convnext_tiny, 768),
}


@pytest.mark.parametrize("name", NETS)
def test_features_of_an_image_are_a_vector_of_the_stated_width(name):
    constructor, expected = NETS[name]
    net = build_net(constructor, num_classes=2, in_channels=1).eval()
    body, width = encoder(net)
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        features, logits = body(image), net(image)
    assert width == expected
    assert features.shape == (2, width)
    assert logits.shape == (2, 2), "the given net keeps its head"


def test_head_of_features_is_the_net():
    net = models.resnet18(num_classes=3).eval()
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(net.fc(encoder(net)[0](image)), net(image))


def test_parameters_are_shared_and_the_head_is_not_among_them():
    net = ConvNet(2)
    mine = {id(p) for p in net.parameters()}
    theirs = {id(p) for p in encoder(net)[0].parameters()}
    assert mine - theirs == {id(net.head.weight), id(net.head.bias)}
    assert theirs < mine


def test_a_convolutional_head_behind_a_map_is_averaged():
    net = nn.Sequential(nn.Conv2d(1, 5, 3), nn.Conv2d(5, 2, 1))
    body, width = encoder(net)
    image = torch.rand(2, 1, 8, 8)
    assert width == 5
    torch.testing.assert_close(body(image), net[0](image).mean((2, 3)))


def test_a_net_without_head_is_refused():
    with pytest.raises(MedvisionError, match=r"a 1x1 convolution, not 0 .Conv2d.; use another net"):
        encoder(nn.Sequential(nn.Conv2d(1, 2, 3)))
    with pytest.raises(MedvisionError, match="Flatten has no head"):
        encoder(nn.Flatten())


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_a_replaced_head_has_the_new_classes(name):
    net = NETS[name][0]()
    replace_head(net, 7)
    assert find_head(net)[1].weight.shape[0] == 7
    assert net.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 7)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 65, 32), (1, 256, 256)])
def test_the_untrained_net_gives_the_same_features_at_any_size_and_whatever_was_drawn_before(shape):
    image = torch.rand(2, *shape)
    one = untrained_encoder(shape[0], seed=4)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    two = untrained_encoder(shape[0], seed=4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert one(image).shape == (2, one.width)
    assert torch.equal(one(image), two(image))
    assert not torch.equal(one(image), untrained_encoder(shape[0], seed=5)(image))
    assert not any(p.requires_grad for p in one.parameters())


def test_the_untrained_net_tells_left_from_right():
    image = torch.zeros(1, 1, 32, 32)
    image[..., :16] = 1
    features = untrained_encoder(1)(torch.cat([image, image.flip(3)]))
    assert (features[0] - features[1]).norm() > 0.3 * features[0].norm()
