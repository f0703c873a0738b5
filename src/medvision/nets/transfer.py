"""Weights learned elsewhere: load them, adapt the first convolution, freeze, rates by depth."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medvision.errors import MedvisionError
from medvision.files import find_input
from medvision.nets.encoder import find_head
from medvision.nets.weights import match_prefix, read_weights, tensors_of

CONTAINERS = (nn.Sequential, nn.ModuleList)
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class Loaded:
    """What became of the tensors of a file; names are the net's own, `unused` the file's."""

    matched: int
    adapted: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{self.matched} tensors loaded"]
        for what in ("adapted", "missing", "mismatched", "unused"):
            names = getattr(self, what)
            if names:
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                parts.append(f"{len(names)} {what} ({', '.join(names[:3])}{more})")
        return "; ".join(parts)


def load_weights(net: nn.Module, path: str | Path) -> Loaded:
    """Copy a file's weights into `net`, in place, by name and shape.

    The file is a state_dict as `torch.save` writes it, bare or under `weights` (medvision's
    model.pt), `state_dict` or `model`. One prefix may differ (`module.`, `net.`, `features.`); a
    first convolution of other channels is adapted; a head of other classes stays as it is and is
    listed under `mismatched`.

    Raises:
        MedvisionError: the file is missing, holds no weights, or fits less than half of the net's
            tensors outside its head; the net is then unchanged.
    """
    path = find_input(path)
    weights = match_prefix(read_weights(path), net)
    adapted, fitting = [], {}
    own = tensors_of(net.state_dict())
    stem = f"{_find_stem(net)[0]}.weight"
    for name in own.keys() & weights.keys():
        if weights[name].shape == own[name].shape:
            fitting[name] = weights[name]
        elif name == stem and _differs_in_channels(weights[name], own[name]):
            fitting[name] = _adapt_weight(weights[name], own[name].shape[1])
            adapted.append(name)
    _check_fit(net, own, weights, fitting, path)
    net.load_state_dict(fitting, strict=False)
    return Loaded(
        matched=len(fitting),
        adapted=adapted,
        missing=[name for name in own if name not in weights],
        mismatched=[name for name in own if name in weights and name not in fitting],
        unused=[name for name in weights if name not in own],
    )


def _adapt_weight(weight: Tensor, in_channels: int) -> Tensor:
    """Spread a convolution's weight [D,C,h,w] over other input channels.

    A grey image answers as before, however often it is repeated: RGB to 1 channel sums over the
    channels, 1 to 3 repeats a third of the weight.
    """
    summed = weight.sum(1, keepdim=True)
    return summed.repeat(1, in_channels, 1, 1) / in_channels


def adapt_stem(net: nn.Module, in_channels: int) -> nn.Module:
    """Make the first convolution take `in_channels`, in place, keeping what it has learned.

    Raises:
        MedvisionError: the net has no such convolution or it is grouped.
    """
    stem = _find_stem(net)[1]
    if stem is not None and stem.in_channels == in_channels:
        return net
    if stem is None or stem.groups != 1:
        raise MedvisionError(
            f"{type(net).__name__} has no first convolution to adapt to {in_channels} channels; "
            "choose a net that takes in_channels, or set the channels of the reader to its own"
        )
    stem.weight = nn.Parameter(_adapt_weight(stem.weight.detach(), in_channels))
    stem.in_channels = in_channels
    return net


def _find_stem(net: nn.Module) -> tuple[str, nn.Conv2d | None]:
    """Return name and layer of the first registered 2-D convolution, or `("", None)`."""
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module
    return "", None


def _differs_in_channels(one: Tensor, other: Tensor) -> bool:
    return one.ndim == 4 and one.shape[:1] + one.shape[2:] == other.shape[:1] + other.shape[2:]


def _check_fit(
    net: nn.Module,
    own: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    fitting: Mapping[str, Tensor],
    path: Path,
) -> None:
    try:
        head = f"{find_head(net)[0]}."
    except MedvisionError:
        head = " "  # no name begins so: without a head, every tensor counts
    body = [name for name in own if not name.startswith(head)]
    fit = sum(name in fitting for name in body)
    if 2 * fit >= len(body) and fit:
        return
    expected = ", ".join([name for name in body if name not in fitting][:3])
    there = ", ".join([name for name in weights if name not in fitting][:3])
    raise MedvisionError(
        f"{path} fits {fit} of the {len(body)} tensors of {type(net).__name__}: the net has "
        f"{expected}, …, the file has {there}, …; give the weights of this architecture"
    )


def layer_groups(net: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
    """Return all parameters in groups from input to head, each once, named by their layer.

    Children are groups; a `Sequential` or `ModuleList` gives one group an element. A norm layer
    joins the group before it. The order is that of registration.
    """
    groups: list[tuple[str, list[nn.Parameter]]] = []
    seen: set[int] = set()
    # The net itself comes last: what no layer holds are tokens and positions, part of the input.
    for name, module in [*_layers(net, ""), ("", net)]:
        fresh = [p for p in module.parameters() if id(p) not in seen]
        seen.update(map(id, fresh))
        if groups and module is net:
            groups[0][1].extend(fresh)
        elif groups and isinstance(module, NORMS):
            groups[-1][1].extend(fresh)
        elif fresh:
            groups.append((name or "net", fresh))
    return groups


def _layers(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, CONTAINERS):
            yield from ((f"{prefix}{name}.{inner}", part) for inner, part in child.named_children())
        elif _is_trunk(child, module):
            yield from _layers(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _is_trunk(child: nn.Module, parent: nn.Module) -> bool:
    """Whether most of the parent is in this child, which holds its blocks one level deeper."""
    sizes = [sum(p.numel() for p in module.parameters()) for module in (child, parent)]
    return 2 * sizes[0] > sizes[1] and any(isinstance(c, CONTAINERS) for c in child.children())


def parameter_groups(
    net: nn.Module, lr: float, weight_decay: float = 0.0, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Return optimiser groups: no weight decay on norms and biases, lower rates near the input.

    Frozen parameters are included, so that they may thaw later.

    Args:
        net: the net.
        lr: learning rate of the head.
        weight_decay: of all parameters with two axes or more.
        layer_decay: above 0, at most 1; a layer group (`layer_groups`) d steps from the head learns
            with lr · layer_decay^d.

    Raises:
        MedvisionError: `layer_decay` is out of range.

    Reference:
        Howard, Ruder: Universal Language Model Fine-tuning for Text Classification, ACL 2018,
        arXiv:1801.06146 (rates that fall with depth).
    """
    if not 0 < layer_decay <= 1:
        raise MedvisionError(f"layer_decay={layer_decay} must be above 0 and at most 1; change it")
    layers = layer_groups(net)
    if layer_decay == 1:
        layers = [("net", [p for _, group in layers for p in group])]
    groups = []
    for depth, (name, parameters) in enumerate(reversed(layers)):
        rate = lr * layer_decay**depth
        for kind, decay, chosen in (
            ("weights", weight_decay, [p for p in parameters if p.ndim > 1]),
            ("norms and biases", 0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            if chosen:
                label = f"{name} {kind}"
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "name": label})
    return groups[::-1]


def freeze_body(net: nn.Module, unfrozen: int | None = 1) -> list[str]:
    """Let only the last `unfrozen` layer groups learn; return the names of the frozen ones.

    1 trains the head alone, None everything. Calling it again with another number thaws or freezes:
    a schedule is a series of calls. Norm layers that are frozen keep their running statistics only
    while in evaluation mode: call `hold_statistics` after each `net.train()`.

    Raises:
        MedvisionError: the net has fewer groups, or nothing would be left to learn.
    """
    groups = layer_groups(net)
    count = len(groups) if unfrozen is None else unfrozen
    if not 1 <= count <= len(groups):
        raise MedvisionError(
            f"unfrozen={unfrozen} must lie between 1 and {len(groups)}, the number of layer groups "
            f"of {type(net).__name__}; null trains all"
        )
    frozen = len(groups) - count
    for number, (_, parameters) in enumerate(groups):
        for parameter in parameters:
            parameter.requires_grad_(number >= frozen)
    hold_statistics(net)
    return [name for name, _ in groups[:frozen]]


def hold_statistics(net: nn.Module) -> None:
    """Put frozen norm layers into evaluation mode, the others into the mode of `net`, in place."""
    for module in net.modules():
        parameters = list(module.parameters(recurse=False))
        if isinstance(module, NORMS) and parameters:
            module.train(net.training and any(p.requires_grad for p in parameters))
