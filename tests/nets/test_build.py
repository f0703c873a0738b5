import copy
from functools import partial
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision import models

from medvision.errors import MedvisionError
from medvision.nets.build import build_net
from medvision.nets.convnet import ConvNet
from medvision.nets.slice_rnn import SliceRNN


class TimmLike(nn.Module):
    def __init__(self, num_classes=1000, in_chans=3):
        super().__init__()
        self.body = nn.Conv2d(in_chans, 4, 1)
        self.head = nn.Linear(4, num_classes)

    def forward(self, image):
        return self.head(self.body(image).mean((2, 3)))


class Dense(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(4, num_classes)


@pytest.mark.parametrize("net", [ConvNet, TimmLike, models.resnet18])
@pytest.mark.parametrize("in_channels", [1, 3, 5])
def test_any_constructor_takes_the_facts_of_the_data(net, in_channels):
    built = build_net(net, num_classes=4, in_channels=in_channels).eval()
    assert built(torch.rand(2, in_channels, 32, 32)).shape == (2, 4)


class Segmenter(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.head = nn.Conv2d(in_channels, out_channels, 1)


class Regressor(nn.Module):
    def __init__(self, num_outputs, in_channels=1):
        super().__init__()
        self.stem, self.head = nn.Conv2d(in_channels, 2, 1), nn.Linear(2, num_outputs)


@pytest.mark.parametrize("net", [Segmenter, Regressor, TimmLike])
def test_the_number_of_outputs_has_a_few_names(net):
    head = build_net(net, num_classes=5, in_channels=3).head
    assert len(head.weight) == 5
    names = {Segmenter: "out_channels", Regressor: "num_outputs", TimmLike: "num_classes"}
    with pytest.raises(MedvisionError, match="but the data say 5"):
        build_net(partial(net, **{names[net]: 4}), num_classes=5, in_channels=3)


class Passing(Segmenter):
    def __init__(self, width=4, **others):
        super().__init__(**others)


def test_a_class_that_passes_arguments_on_gets_those_of_the_class_above():
    assert build_net(Passing, num_classes=5, in_channels=3).head.weight.shape[:2] == (5, 3)


@pytest.mark.parametrize(
    ("given", "labels", "settled"),
    [
        ({"slice_head": None}, False, False), ({"slice_head": None}, True, True),
        ({"slice_head": None, "aggregation": "noisy_or"}, False, True),
        ({"slice_head": False}, True, False), ({}, False, True),
    ],
)  # fmt: skip
def test_a_net_settles_what_it_was_not_told(given, labels, settled):
    net = partial(SliceRNN, encoder=partial(ConvNet, widths=(4,)), **given)
    assert (build_net(net, 2, 1, slice_labels=labels).slice_head is not None) == settled


def test_init_follows_the_activation_of_the_net():
    torch.manual_seed(0)
    net = build_net(partial(ConvNet, activation="tanh"), 2, 1, init="he")
    last = net.stages[2].body[3].weight
    assert last.var().item() == pytest.approx((5 / 3) ** 2 / (128 * 9), rel=0.05)


def test_the_enum_of_torchvision_keeps_its_weights_under_a_fresh_head(monkeypatch):
    source = models.resnet18()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: source.state_dict()
    )
    net = build_net(partial(models.resnet18, weights="IMAGENET1K_V1"), 2, 1)
    assert torch.equal(net.layer4[0].conv1.weight, source.layer4[0].conv1.weight)
    torch.testing.assert_close(net.conv1.weight, source.conv1.weight.sum(1, keepdim=True))
    assert net.fc.out_features == 2


def test_without_a_network_the_way_out_is_a_file(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(MedvisionError, match=r"cannot be downloaded \(no route\); .*weights=FILE"):
        build_net(partial(models.resnet18, weights="IMAGENET1K_V1"), 2, 1)


@pytest.mark.parametrize(
    ("net", "init", "text"),
    [
        (nn.Identity(), None, "the net Identity is built already; write `_partial_: true`"),
        (lambda width: None, None, "takes no num_classes; give its constructor that argument"),
        (partial(ConvNet, num_classes=9), None, "num_classes=9 but the data say 2; leave num_"),
        (partial(TimmLike, in_chans=3), None, "in_chans=3 but the data say 1; leave in_chans"),
        (partial(ConvNet, widht=3), None, r"takes no widht \(did you mean 'widths'\?\)"),
        (partial(models.resnet18, widht=3), None, "resnet18 cannot be built: .*'widht'"),
        (Dense, None, "Dense has no first convolution to adapt to 1 channels"),
        (lambda num_classes: num_classes, None, "returned a int, not a net"),
        (partial(models.resnet18, weights="DEFAULT"), "he", "init=he would erase the weights"),
    ],
)
def test_mistakes_end_in_one_sentence(net, init, text):
    with pytest.raises(MedvisionError, match=text):
        build_net(net, num_classes=2, in_channels=1, init=init)


def test_normalise_standardises_the_input_and_adds_no_weights() -> None:
    plain = build_net(partial(ConvNet, widths=(4,), dropout=0.0), 2, 3)
    hooked = build_net(partial(ConvNet, widths=(4,), dropout=0.0), 2, 3, normalise="imagenet")
    hooked.load_state_dict(plain.state_dict())
    image = torch.rand(2, 3, 8, 8)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        assert torch.allclose(hooked.eval()(image), plain.eval()((image - mean) / std), atol=1e-6)
    # They follow the net to its device, and a copy has its own.
    twin = copy.deepcopy(hooked).to("meta")
    assert twin.input_mean.device.type == twin.input_std.device.type == "meta"
    assert hooked.input_mean.device.type == "cpu"
    with pytest.raises(MedvisionError, match="did you mean 'imagenet'"):
        build_net(partial(ConvNet, widths=(4,)), 2, 1, normalise="imagenett")
