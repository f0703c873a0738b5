"""Generator and critic of the DCGAN, mirror images of each other, conditional on the class."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from medvision.errors import MedvisionError
from medvision.ranges import Whole

SIZES = (32, 64, 128, 256)
NORMS = ("batch", "none")
_REACH = 1.05
"""The last tanh is stretched by this and cut: on its own it leaves a black background grey."""


class Generator(nn.Module):
    """Noise → 4x4 map → one transposed convolution an octave → image.

        noise [B,Z] and class [B,E] → [B,8W,4,4] → [B,4W,8,8] → … → [B,W,H/2,W/2] → [B,C,H,W]

    Args:
        size: height and width of the image: 32, 64, 128 or 256.
        in_channels: C of the image (the word every net of ours has for it).
        num_classes: K.
        latent: Z.
        width: channels at half the size; they double with each octave towards 4x4, up to
            `max_width`.
        norm: `batch` or `none`, after every layer but the last.
        embedding: E; 0 leaves the class out.

    Raises:
        MedvisionError: an argument is out of range.

    Reference:
        Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional
        Generative Adversarial Networks, ICLR 2016, arXiv:1511.06434 (shapes, norm, activations,
        start; the stretch of the tanh is ours). The class, as an embedding beside the noise, is
        Mirza, Osindero 2014, arXiv:1411.1784.
    """

    def __init__(
        self,
        size: int,
        in_channels: int,
        num_classes: int,
        latent: Annotated[int, Whole(1)] = 100,
        width: int = 64,
        max_width: int = 512,
        norm: str = "batch",
        embedding: Annotated[int, Whole(0)] = 32,
    ) -> None:
        super().__init__()
        _check("Generator", size, in_channels, num_classes, width, norm)
        self.latent, self.num_classes = latent, num_classes
        self.embed = nn.Linear(num_classes, embedding, bias=False) if embedding else None
        widths = [latent + embedding, *list_widths(size, width, max_width)[::-1], in_channels]
        self.layers = nn.Sequential()
        for number, (below, above) in enumerate(pairwise(widths)):
            last = number == len(widths) - 2
            plain = norm == "none" or last
            # 1x1 → 4x4 first, then twice the size each time.
            stride, padding = (2, 1) if number else (1, 0)
            self.layers.append(nn.ConvTranspose2d(below, above, 4, stride, padding, bias=plain))
            self.layers.extend([] if plain else [nn.BatchNorm2d(above)])
            self.layers.append(nn.Tanh() if last else nn.ReLU())
        _start_as_dcgan(self, scaled=norm == "none")
        if self.embed is not None:
            nn.init.normal_(self.embed.weight)  # as loud as the noise beside it

    def forward(
        self,
        noise: Float[Tensor, "B Z"],
        label: Int[Tensor, "B"],
        condition: float | Tensor = 1.0,
    ) -> Float[Tensor, "B C H W"]:
        """Make images in [-1, 1].

        Args:
            noise: standard normal.
            label: class numbers.
            condition: how much of the class is told, 0 to 1; below 1 in the warm-up of training.
        """
        start = noise
        if self.embed is not None:
            told = condition * self.embed(_mark(label, self.num_classes, noise))
            start = torch.cat([noise, told], dim=1)
        image: Tensor = self.layers(start[:, :, None, None])
        return (_REACH * image).clamp(-1, 1)


class Critic(nn.Module):
    """Image → one strided convolution an octave → 4x4 map → logit; the generator mirrored.

        image [B,C,H,W] → [B,W,H/2,W/2] → … → [B,8W,4,4] → logit [B]

    Args:
        size, in_channels, num_classes, width, max_width: as the generator's.
        norm: `batch`, `spectral` or `none`; batch norm spares the first layer.
        projection: adds the inner product of the pooled features with the class's own vector.

    Raises:
        MedvisionError: an argument is out of range.

    Reference:
        Radford et al. 2016 as above. Projection: Miyato, Koyama: cGANs with Projection
        Discriminator, ICLR 2018, arXiv:1802.05637. Spectral norm: Miyato, Kataoka, Koyama,
        Yoshida, ICLR 2018, arXiv:1802.05957.
    """

    def __init__(
        self, size: int, in_channels: int, num_classes: int, width: int = 64,
        max_width: int = 512, norm: str = "batch", projection: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        _check("Critic", size, in_channels, num_classes, width, norm, "spectral")
        self.num_classes = num_classes
        widths = [in_channels, *list_widths(size, width, max_width)]
        self.layers = nn.Sequential()
        for number, (below, above) in enumerate(pairwise(widths)):
            normed = norm == "batch" and number > 0
            self.layers.append(nn.Conv2d(below, above, 4, 2, 1, bias=not normed))
            self.layers.extend([nn.BatchNorm2d(above)] if normed else [])
            self.layers.append(nn.LeakyReLU(0.2))
        self.head = nn.Conv2d(widths[-1], 1, 4)
        self.project = nn.Linear(num_classes, widths[-1], bias=False) if projection else None
        _start_as_dcgan(self, scaled=norm != "batch")
        if norm == "spectral":
            for layer in [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear)]:
                spectral_norm(layer)
        elif self.project is not None:
            nn.init.zeros_(self.project.weight)  # no class is preferred at the start

    def forward(
        self,
        image: Float[Tensor, "B C H W"],
        label: Int[Tensor, "B"],
        condition: float | Tensor = 1.0,
    ) -> Float[Tensor, "B"]:
        """Map images in [-1, 1] of classes `label` to logits: high is real."""
        features = self.layers(image)
        logit: Tensor = self.head(features).flatten()
        if self.project is not None:
            own = self.project(_mark(label, self.num_classes, features))
            logit = logit + condition * (own * features.sum((2, 3))).sum(1)
        return logit


def list_widths(size: int, width: int, max_width: int) -> list[int]:
    """Return the channels at half the size, a quarter of it, … down to 4x4."""
    return [min(width * 2**octave, max_width) for octave in range(int(math.log2(size)) - 2)]


def draw_noise(seed: int, label: Int[Tensor, "B"], index: Int[Tensor, "B"], latent: int) -> Tensor:
    """Draw `[B,Z]`, each row from (seed, class, index) alone: an image is the same in any batch."""
    pairs = zip(label.tolist(), index.tolist(), strict=True)
    rows = [np.random.default_rng([seed, *pair]).standard_normal(latent) for pair in pairs]
    drawn = np.stack(rows) if rows else np.empty((0, latent))
    return torch.from_numpy(drawn.astype(np.float32))


def _start_as_dcgan(net: nn.Module, *, scaled: bool) -> None:
    """Draw the weights of a net.

    Args:
        net: is changed in place.
        scaled: by the number of inputs (He et al. 2015, arXiv:1502.01852), which nets without batch
            norm need; else N(0, .02), and N(1, .02) for the norms, as the paper says.
    """
    for module in _layers(net):
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        elif scaled:
            _scale(module)
        else:
            nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d


def _layers(net: nn.Module) -> Iterator[Layer]:
    return (module for module in net.modules() if isinstance(module, Layer))


def _scale(layer: nn.Module) -> None:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.ConvTranspose2d):
        # Each output pixel sums kernel / stride² of the taps.
        taps = weight[0, 0].numel() / math.prod(layer.stride)
        inputs = weight.shape[0] * (taps if layer.stride[0] > 1 else 1)
    else:
        inputs = weight[0].numel()
    nn.init.normal_(weight, 0.0, math.sqrt(2 / inputs))


def _mark(label: Tensor, classes: int, like: Tensor) -> Tensor:
    return (label[:, None] == torch.arange(classes, device=label.device)).to(like)


def _check(
    net: str, size: int, channels: int, classes: int, width: int, norm: str, *norms: str
) -> None:
    known = (*NORMS, *norms)
    wrong = {
        f"size={size} (data.reader.size must be square: {', '.join(map(str, SIZES))})":
            size not in SIZES,
        f"in_channels={channels} (1 or 3)": channels not in (1, 3),
        f"num_classes={classes} (at least 1)": classes < 1,
        f"width={width} (at least 1)": width < 1,
        f"norm={norm} ({', '.join(known)})": norm not in known,
    }  # fmt: skip
    if problems := [problem for problem, is_wrong in wrong.items() if is_wrong]:
        raise MedvisionError(f"{net} cannot be built: {'; '.join(problems)}; change these keys")
