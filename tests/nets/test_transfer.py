import pytest
import torch
from torch import nn
from torchvision import models

from medvision.errors import MedvisionError
from medvision.nets.convnet import ConvNet
from medvision.nets.encoder import find_head
from medvision.nets.transfer import (
    adapt_stem,
    freeze_body,
    hold_statistics,
    layer_groups,
    load_weights,
    parameter_groups,
)


def small(num_classes=2, in_channels=1, seed=0, **changes):
    torch.manual_seed(seed)
    return ConvNet(num_classes, in_channels, widths=(4, 8), **changes)


def saved(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def named(net, prefix):
    return {prefix + name: tensor for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("old", [1, 2, 3])
@pytest.mark.parametrize("new", [1, 3, 4])
def test_an_adapted_stem_answers_a_grey_image_as_before(old, new):
    net = small(in_channels=old).eval()
    grey = torch.rand(2, 1, 9, 9)
    before = net(grey.expand(-1, old, -1, -1))
    adapt_stem(net, new)
    torch.testing.assert_close(net(grey.expand(-1, new, -1, -1)), before)


@pytest.mark.parametrize("prefix", ["", "module.", "net.", "model.backbone."])
def test_weights_come_back_whatever_the_prefix(tmp_path, prefix):
    source, net = small(seed=1), small(seed=2)
    loaded = load_weights(net, saved(tmp_path, named(source, prefix)))
    assert loaded.missing == loaded.mismatched == loaded.adapted == loaded.unused == []
    for name, tensor in source.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor), name


def test_features_saved_without_their_prefix(tmp_path):
    source = models.squeezenet1_1()
    net = adapt_stem(models.squeezenet1_1(num_classes=2), 1)
    loaded = load_weights(net, saved(tmp_path, source.features.state_dict()))
    assert loaded.matched == 50
    assert loaded.missing == ["classifier.1.weight", "classifier.1.bias"]
    assert loaded.adapted == ["features.0.weight"]
    assert torch.equal(net.features[3].squeeze.weight, source.features[3].squeeze.weight)
    assert str(loaded) == (
        "50 tensors loaded; 1 adapted (features.0.weight); "
        "2 missing (classifier.1.weight, classifier.1.bias)"
    )


@pytest.mark.parametrize("key", ["weights", "state_dict", "model"])
def test_a_model_file_with_other_channels_and_classes(tmp_path, key):
    source, net = small(5, 3, seed=1), small(2, 1, seed=2)
    head = net.head.weight.clone()
    loaded = load_weights(net, saved(tmp_path, {key: source.state_dict(), "classes": ["a"]}))
    assert loaded.adapted == ["stem.0.weight"]
    assert loaded.mismatched == ["head.weight", "head.bias"]
    assert torch.equal(net.head.weight, head)
    torch.testing.assert_close(net.stem[0].weight, source.stem[0].weight.sum(1, keepdim=True))


def test_old_names_of_densenet(tmp_path):
    source = models.densenet121(num_classes=2)
    older = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor
        for name, tensor in source.state_dict().items()
    }
    loaded = load_weights(models.densenet121(num_classes=2), saved(tmp_path, older))
    assert loaded.missing == loaded.unused == []


def test_foreign_weights_are_refused_and_change_nothing(tmp_path):
    net = small()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    path = saved(tmp_path, models.resnet18().state_dict())
    with pytest.raises(MedvisionError) as caught:
        load_weights(net, path)
    assert "fits 0 of the " in str(caught.value)
    assert "tensors of ConvNet: the net has stem.0.weight, " in str(caught.value)
    assert "the file has conv1.weight, bn1.weight" in str(caught.value)
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())


def test_files_that_hold_no_weights(tmp_path):
    with pytest.raises(MedvisionError, match=r"absent.pth does not exist"):
        load_weights(small(), tmp_path / "absent.pth")
    text = tmp_path / "text.pth"
    text.write_text("not weights")
    with pytest.raises(MedvisionError, match=r"text.pth is no file of weights .*; give a state_di"):
        load_weights(small(), text)
    with pytest.raises(MedvisionError, match=r"holds no named tensors; give a state_dict"):
        load_weights(small(), saved(tmp_path, {"epoch": 3}))
    broken = small().state_dict() | {"head.bias": torch.tensor([0.0, float("nan")])}
    with pytest.raises(MedvisionError, match=r"holds NaN or infinity in head.bias; use another"):
        load_weights(small(), saved(tmp_path, broken))


@pytest.mark.parametrize(
    "constructor",
    [
        models.resnet18,
        models.squeezenet1_1,
        models.densenet121,
        models.efficientnet_b0,
        models.convnext_tiny,
        models.swin_t,
        models.vit_b_16,
        ConvNet,
    ],
)
def test_layer_groups_hold_each_parameter_once_and_end_at_the_head(constructor):
    with torch.device("meta"):
        net = constructor(num_classes=2)
    groups = layer_groups(net)
    grouped = [id(p) for _, parameters in groups for p in parameters]
    assert sorted(grouped) == sorted(map(id, net.parameters()))
    assert len({name for name, _ in groups}) == len(groups) >= 5
    name, head = find_head(net)
    assert groups[-1][0] == name
    assert {id(p) for p in groups[-1][1]} == {id(p) for p in head.parameters()}
    assert any(p is next(iter(net.parameters())) for p in groups[0][1])


def test_rates_fall_from_the_head_and_norms_do_not_decay():
    net = small()
    groups = parameter_groups(net, lr=1.0, weight_decay=0.1, layer_decay=0.5)
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == {
        "stem.0 weights": 0.125,
        "stem.0 norms and biases": 0.125,
        "stages.0 weights": 0.25,
        "stages.0 norms and biases": 0.25,
        "stages.1 weights": 0.5,
        "stages.1 norms and biases": 0.5,
        "head weights": 1.0,
        "head norms and biases": 1.0,
    }
    norms = {id(m.weight) for m in net.modules() if isinstance(m, nn.BatchNorm2d)}
    for group in groups:
        plain = group["name"].endswith("norms and biases")
        assert group["weight_decay"] == (0.0 if plain else 0.1)
        assert plain or not norms & {id(p) for p in group["params"]}
    torch.optim.AdamW(groups)


def test_one_rate_needs_two_groups():
    groups = parameter_groups(small(), lr=0.1, weight_decay=0.1)
    assert [g["lr"] for g in groups] == [0.1, 0.1]
    assert sum(len(g["params"]) for g in groups) == len(list(small().parameters()))
    with pytest.raises(MedvisionError, match=r"layer_decay=1.5 must be above 0 and at most 1"):
        parameter_groups(small(), lr=0.1, layer_decay=1.5)


def test_a_frozen_net_learns_in_its_head_alone():
    net = small().train()
    assert freeze_body(net) == ["stem.0", "stages.0", "stages.1"]
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.rand(4, 1, 8, 8)).square().sum().backward()
    optimiser.step()
    changed = {n for n, t in net.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"head.weight", "head.bias"}, "running statistics hold as well"


def test_thawing_brings_norms_back_to_training():
    net = small().train()
    freeze_body(net)
    freeze_body(net, unfrozen=2)
    assert [m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d)][-1]
    assert not net.stem[1].training
    net.train()
    hold_statistics(net)
    assert not net.stem[1].training
    assert freeze_body(net, unfrozen=None) == []
    assert net.stem[1].training
    assert all(p.requires_grad for p in net.parameters())


def test_freezing_more_than_there_is():
    with pytest.raises(MedvisionError, match=r"unfrozen=9 must lie between 1 and 4, the number of"):
        freeze_body(small(), unfrozen=9)
