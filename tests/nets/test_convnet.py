import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from medvision.errors import MedvisionError
from medvision.nets.convnet import ConvNet


def small(**changes):
    torch.manual_seed(0)
    return ConvNet(**{"num_classes": 2, "widths": (8, 16), "dropout": 0.0} | changes)


def test_the_default_is_compact():
    assert 300_000 <= sum(p.numel() for p in ConvNet(2).parameters()) <= 1_500_000


@pytest.mark.parametrize("size", [(28, 28), (1, 1), (7, 13), (33, 50), (160, 160)])
@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_any_size_gives_logits_of_the_stated_shape(size, stem_stride):
    net = small(num_classes=3, in_channels=2, stem_stride=stem_stride).eval()
    forward = jaxtyped(typechecker=beartype)(ConvNet.forward)
    assert forward(net, torch.rand(2, 2, *size)).shape == (2, 3)


def test_stem_and_stages_divide_the_image():
    net = small(widths=(4, 8, 16), stem_stride=4)
    image = torch.rand(1, 1, 64, 48)
    assert net.stem(image).shape == (1, 4, 16, 12)
    assert net.stages(net.stem(image)).shape == (1, 16, 4, 3)


def test_blocks_may_differ_by_stage():
    assert len(small(blocks=(1, 3)).stages) == 4
    assert len(small(blocks=2).stages) == 4


@pytest.mark.parametrize("choice", [{"activation": "gelu"}, {"norm": "group"}, {}])
def test_it_overfits_one_batch(choice):
    net = small(**choice)
    image, label = torch.rand(16, 1, 12, 12), torch.arange(16) % 2
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(image), label)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05


def test_the_same_seed_gives_the_same_step():
    def step():
        net = small(dropout=0.5)
        net(torch.rand(4, 1, 9, 9)).square().mean().backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()])

    assert torch.equal(step(), step())


def test_blocks_start_as_shortcuts():
    block = small().stages[0]
    features = torch.rand(2, 8, 6, 6)
    assert torch.equal(block(features), features.relu())


def test_group_norm_keeps_images_apart():
    net = small(norm="group")
    image = torch.rand(3, 1, 10, 10)
    together, alone = net(image)[0], net(image[:1])[0]
    torch.testing.assert_close(together, alone)


def test_memory_format_and_autocast_change_no_more_than_rounding():
    net = small().eval()
    image = torch.rand(2, 1, 16, 16)
    plain = net(image)
    last = net.to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(image.to(memory_format=torch.channels_last)), plain)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(last(image).float(), plain, atol=0.05, rtol=0.05)


def test_all_wrong_arguments_are_named_at_once():
    with pytest.raises(MedvisionError) as caught:
        small(blocks=(1, 2, 3), dropout=1.0, norm="layer", stem_stride=3)
    assert str(caught.value) == (
        "ConvNet cannot be built: blocks=[1, 2, 3] (a positive number for each of the 2 widths); "
        "dropout=1.0 (from 0 to below 1); norm=layer (batch or group); "
        "stem_stride=3 (1, 2, 4 or 8); change these keys"
    )


def test_a_mistyped_activation_is_named():
    with pytest.raises(MedvisionError, match=r"'rellu' \(did you mean 'relu'\?\)"):
        small(activation="rellu")
