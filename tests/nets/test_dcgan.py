import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from torch import nn

from medvision.errors import MedvisionError
from medvision.nets.dcgan import Critic, Generator, draw_noise, list_widths


def make(size=32, channels=1, classes=2, **more):
    both = {"size": size, "in_channels": channels, "num_classes": classes, "width": 4}
    return Generator(**both, latent=8, **more), Critic(**both)


@pytest.mark.parametrize(("size", "channels"), [(32, 1), (64, 3), (128, 1), (256, 3)])
def test_shapes_mirror_each_other(size, channels):
    generator, critic = make(size, channels, max_width=16)
    critic = Critic(size, channels, 2, width=4, max_width=16)
    noise, label = torch.randn(2, 8), torch.tensor([0, 1])
    image = jaxtyped(typechecker=beartype)(Generator.forward)(generator, noise, label)
    assert image.shape == (2, channels, size, size)
    assert image.abs().max() <= 1
    assert jaxtyped(typechecker=beartype)(Critic.forward)(critic, image, label).shape == (2,)
    up = [m for m in generator.layers if isinstance(m, nn.ConvTranspose2d)]
    down = [m for m in critic.layers if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in up[:-1]][::-1] == [m.out_channels for m in down]


def test_classic_has_the_shapes_and_start_of_the_paper():
    generator = Generator(64, 3, 1, latent=100, width=128, max_width=1024, embedding=0)
    layers = [m for m in generator.layers if isinstance(m, nn.ConvTranspose2d)]
    assert [m.out_channels for m in layers] == [1024, 512, 256, 128, 3]
    assert all(m.kernel_size == (4, 4) for m in layers)
    assert layers[2].weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert list_widths(64, 128, 1024) == [128, 256, 512, 1024]


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_signal_survives_the_first_pass(norm):
    torch.manual_seed(0)
    generator = Generator(64, 1, 2, width=32, norm=norm)
    image = generator(torch.randn(64, 100), torch.arange(64) % 2)
    assert 0.02 < image.std() < 0.95


def test_scaled_critic_keeps_the_variance():
    torch.manual_seed(0)
    critic = Critic(32, 1, 2, width=32, norm="none")
    assert 0.1 < critic(torch.randn(64, 1, 32, 32), torch.arange(64) % 2).std() < 10


def test_class_is_told_as_much_as_asked():
    generator, critic = make(norm="none")
    nn.init.normal_(critic.project.weight)
    noise, one, two = torch.randn(4, 8), torch.zeros(4).long(), torch.ones(4).long()
    image = generator(noise, one)
    assert not torch.equal(image, generator(noise, two))
    assert torch.equal(generator(noise, one, 0.0), generator(noise, two, 0.0))
    assert not torch.equal(critic(image, one), critic(image, two))
    assert torch.equal(critic(image, one, 0.0), critic(image, two, 0.0))


def test_unconditional_nets_do_not_ask_for_the_class():
    generator = Generator(32, 1, 2, latent=8, width=4, norm="none", embedding=0)
    critic = Critic(32, 1, 2, width=4, projection=False)
    noise, one, two = torch.randn(4, 8), torch.zeros(4).long(), torch.ones(4).long()
    assert torch.equal(generator(noise, one), generator(noise, two))
    image = generator(noise, one)
    assert torch.equal(critic.eval()(image, one), critic(image, two))


def test_spectral_norm_bounds_every_convolution():
    critic = Critic(32, 1, 2, width=8, norm="spectral")
    for _ in range(50):
        critic(torch.randn(2, 1, 32, 32), torch.tensor([0, 1]))
    for layer in [*critic.layers, critic.head]:
        if isinstance(layer, nn.Conv2d):
            norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
            assert norm.item() == pytest.approx(1, abs=0.1)


def test_noise_of_an_image_depends_on_nothing_else():
    label, index = torch.tensor([0, 1, 1, 0]), torch.tensor([3, 3, 4, 0])
    noise = draw_noise(7, label, index, 16)
    assert len({tuple(row.tolist()) for row in noise}) == 4
    torch.testing.assert_close(
        draw_noise(7, label[2:3], index[2:3], 16), noise[2:3], rtol=0, atol=0
    )
    assert not torch.equal(draw_noise(8, label, index, 16), noise)
    assert draw_noise(7, label[:0], index[:0], 16).shape == (0, 16)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"size": 28}, "size=28 (data.reader.size must be square: 32, 64, 128, 256)"),
        ({"channels": 2}, "in_channels=2 (1 or 3)"),
        ({"norm": "layer"}, "norm=layer (batch, none)"),
    ],
)
def test_what_cannot_be_built_says_so(words, told):
    with pytest.raises(MedvisionError, match="cannot be built") as error:
        make(**words)
    assert told in str(error.value)
