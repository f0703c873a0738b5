"""Any classifier without its head: images in, one vector of features an image out."""

import copy

from jaxtyping import Float
from torch import Tensor, nn

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
