"""How a net is called: with the entries of a batch that its `forward` names."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from medvision.errors import MedvisionError

OF_SERIES = ("length", "step")
"""Entries that a batch of series alone has."""


def call_net(net: nn.Module, batch: Mapping[str, Tensor]) -> Any:
    """Call a net with the entries of a batch that its `forward` names, in its own order.

    A first parameter that is no entry, such as torchvision's `x`, is given the image. Of a tuple,
    such as GoogLeNet's with its auxiliary logits, the first is the answer.

    Raises:
        MedvisionError: it needs an entry that the batch does not hold.
    """
    parameters = _named_entries(type(net))
    first, *others = parameters or {"image": False}
    given = [batch[first] if first in batch else batch["image"]]
    more = {name: batch[name] for name in others if name in batch}
    if lacking := [name for name in others if parameters[name] and name not in batch]:
        raise MedvisionError(
            f"the net {type(net).__name__} reads {', '.join(lacking)}, which the batches do not "
            f"hold (they hold {', '.join(batch)}); change data.unit, or take another net"
        )
    answer = net(*given, **more)
    return answer[0] if isinstance(answer, tuple) else answer


def answer_by_name(net: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Call a net as `call_net` does; what is no dictionary is its `logits`."""
    answer = call_net(net, batch)
    return dict(answer) if isinstance(answer, Mapping) else {"logits": answer}


def on_device(net: nn.Module) -> Callable[[Tensor], Tensor]:
    """Let a frozen net answer for images of the host on the best device there is."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = net.eval().to(device)
    return lambda image: net(image.to(device)).float()


def reads_series(kind: Any) -> bool | None:
    """Tell whether nets of this class read series: their `forward` names what only series have.

    Args:
        kind: a class, or a function that says by its annotation what it returns; of another
            function it is not known: None.
    """
    if not inspect.isclass(kind):
        kind = getattr(kind, "__annotations__", {}).get("return")
    return bool({*OF_SERIES} & {*_named_entries(kind)}) if inspect.isclass(kind) else None


def _named_entries(kind: type) -> dict[str, bool]:
    """Return the parameters of a class's `forward`, and whether each of them must be given."""
    forward = getattr(kind, "forward", None)
    return _parameters(forward) if callable(forward) else {}


@cache
def _parameters(forward: Callable[..., Any]) -> dict[str, bool]:
    try:
        _, *parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):  # scripted, or of C
        return {}
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {p.name: p.default is p.empty for p in parameters if p.kind not in several}
