"""Any classifier without its head: images in, one vector of features an image out."""

import copy
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from medvision.errors import MedvisionError


class Encoder(nn.Module):
    """A net whose head is left out; features that still have H and W are averaged over them."""

    def __init__(self, headless: nn.Module, width: int) -> None:
        super().__init__()
        self.headless, self.width = headless, width

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Map images in [0, 1] to features."""
        features: Tensor = self.headless(image)
        return features.flatten(2).mean(2) if features.ndim > 2 else features


class UntrainedEncoder(nn.Module):
    """A net that no data has shaped: convolutions drawn from a seed, none of them ever trained.

    The features of every octave are averaged over the cells of a grid, not over the whole image:
    a mean over the image cannot tell left from right. There is no normalisation, which would hide
    brightness and contrast. D is the sum of the widths times `grid²`, at any size of image.

    Args:
        in_channels: C.
        seed: of all weights; the same on every machine.
        widths: channels of each octave.
        grid: cells a side.
    """

    def __init__(
        self, in_channels: int, seed: int = 0, widths: Sequence[int] = (32, 64), grid: int = 4
    ) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.grid, self.width = grid, sum(widths) * grid**2
        self.octaves = nn.ModuleList()
        for width_in, width in zip([in_channels, *widths], widths, strict=False):
            # Without its own start, which would draw from torch's global generator.
            layer = nn.utils.skip_init(  # type: ignore[no-untyped-call]
                nn.Conv2d, width_in, width, 3, padding=1, padding_mode="replicate"
            )
            scale = math.sqrt(2 / (9 * width_in))
            with torch.no_grad():
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=draw) * scale)
                layer.bias.copy_(torch.randn(width, generator=draw) * 0.1)
            self.octaves.append(layer)
        self.requires_grad_(False).eval()

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """Map images in [0, 1] to features."""
        features, seen = image * 2 - 1, []
        for octave in self.octaves:
            features = functional.leaky_relu(octave(features), 0.2)
            seen.append(functional.adaptive_avg_pool2d(features, self.grid).flatten(1))
            features = functional.avg_pool2d(features, 2)
        return torch.cat(seen, dim=1)


def untrained_encoder(in_channels: int, seed: int = 0) -> UntrainedEncoder:
    """Return the untrained net that judges generators.

    Of 40 combinations of depth, width, grid and scaling, tried on spoilt PneumoniaMNIST images, two
    octaves on a grid of 4 see noise and mirrored chests best without calling slight noise a
    failure; blur is seen by the encoder of a classifier.
    """
    return UntrainedEncoder(in_channels, seed)


def encoder(net: nn.Module) -> tuple[nn.Module, int]:
    """Return the net without its head, and the number D of its features.

    The head is the last linear layer, or the last 1x1 convolution where that comes later, in the
    order in which the net registers its layers. `net` is left as it is, and nothing is copied: both
    share all parameters, so training or moving one trains or moves the other. `deepcopy` the net
    first for an encoder of its own. A net of series gives the encoder of its slices.

    Raises:
        MedvisionError: the net has no such layer.
    """
    name, head = find_head(net)
    if isinstance(own := getattr(net, "encoder", None), Encoder):
        return own, own.width
    width = head.in_features if isinstance(head, nn.Linear) else head.in_channels
    return Encoder(_with_head(net, name, nn.Identity()), width), width


def find_head(net: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Return the head's dotted name and layer.

    Raises:
        MedvisionError: the last layer with weights is neither linear nor a 1x1 convolution.
    """
    weighted = [
        (name, module)
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
    ]
    name, head = weighted[-1] if weighted else ("", None)
    if name and isinstance(head, nn.Linear):
        return name, head
    if name and isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1:
        return name, head
    raise MedvisionError(
        f"{type(net).__name__} has no head to take off: its last layer must be linear or a 1x1 "
        f"convolution{f', not {name} ({type(head).__name__})' if name else ''}; use another net"
    )


def replace_head(net: nn.Module, num_classes: int) -> None:
    """Give the net, in place, a fresh head of `num_classes` outputs drawn at random.

    Raises:
        MedvisionError: the net has no head (`find_head`).
    """
    name, head = find_head(net)
    fresh: nn.Linear | nn.Conv2d
    if isinstance(head, nn.Linear):
        fresh = nn.Linear(head.in_features, num_classes)
    else:
        fresh = nn.Conv2d(head.in_channels, num_classes, 1)
    net.set_submodule(name, fresh)


def _with_head(module: nn.Module, name: str, head: nn.Module) -> nn.Module:
    """Copy only the modules on the way down to `name`; all others are shared."""
    first, _, rest = name.partition(".")
    twin = copy.copy(module)
    # A shallow copy shares the dictionary of children, which must differ.
    twin._modules = dict(module._modules)
    child = module.get_submodule(first)
    twin._modules[first] = _with_head(child, rest, head) if rest else head
    return twin
