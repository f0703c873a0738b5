"""From a net's constructor and the data's facts to the net itself."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from medvision.errors import MedvisionError, did_you_mean
from medvision.nets.encoder import Encoder, replace_head
from medvision.nets.initialise import initialise
from medvision.nets.transfer import adapt_stem

_CHANNEL_NAMES = ("in_channels", "in_chans", "n_input_channels")
_OUTPUT_NAMES = ("num_classes", "out_channels", "num_outputs")
_STATISTICS = {"imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])}


def build_net(
    net: Callable[..., nn.Module],
    num_classes: int,
    in_channels: int,
    init: str | None = None,
    normalise: str | None = None,
    multilabel: bool = False,
    slice_labels: bool = False,
) -> nn.Module:
    """Build a net of ours, of torchvision, MONAI, timm or the user for given data.

    A constructor that takes none of `_CHANNEL_NAMES` has its first convolution adapted. One with
    `weights=` (torchvision's enum) is built with the weights' own classes and gets a fresh head.

    Args:
        net: constructor with all else filled in (`_partial_: true`); it must take `num_classes`,
            `out_channels` or `num_outputs`. One with a method `complete` (arguments, facts →
            arguments) settles itself what it was not told.
        num_classes: K, the number of outputs.
        in_channels: C.
        init: how weights start (`initialise.INITIALISATIONS`); None leaves that to the net.
        normalise: `imagenet` shifts and scales the net's input in 0..1 to what nets trained on
            ImageNet expect (the mean over channels, for another number of them); None leaves it.
        multilabel: whether an image may show several classes, for a net that takes this argument.
        slice_labels: whether slices of series have labels of their own, for `complete`.

    Raises:
        MedvisionError: the constructor does not fit, its numbers contradict the data, `init` would
            erase given weights, or these cannot be had.
    """
    name = _name(net)
    net = _complete(net, {"slice_labels": slice_labels})
    given = dict(net.keywords) if isinstance(net, partial) else {}
    takes = _parameters(net, given, name)
    output = next((key for key in _OUTPUT_NAMES if key in takes), _OUTPUT_NAMES[0])
    facts: dict[str, Any] = {output: num_classes}
    facts |= {key: in_channels for key in _CHANNEL_NAMES if key in takes}
    facts |= {"multilabel": multilabel} if "multilabel" in takes else {}
    pretrained = given.get("weights") is not None
    _check(name, given, facts, pretrained or bool(given.get("pretrained")), init)
    if pretrained:
        del facts[output]
    built = _call(net, facts, name)
    if pretrained:
        replace_head(built, num_classes)
    if not takes & set(_CHANNEL_NAMES):
        adapt_stem(built, in_channels)
    if normalise is not None:
        # The encoder of a series' slices, so that cached features are standardised as well.
        own = getattr(built, "encoder", None)
        _standardise_input(own if isinstance(own, Encoder) else built, normalise, in_channels)
    activation = getattr(built, "activation", "relu")
    return initialise(built, init, activation if isinstance(activation, str) else "relu")


def _complete(net: Callable[..., nn.Module], facts: dict[str, Any]) -> Callable[..., nn.Module]:
    """Let a constructor settle what its arguments leave open."""
    if not isinstance(net, partial) or not hasattr(net.func, "complete"):
        return net
    return partial(net.func, *net.args, **net.func.complete(net.keywords, facts))


def _standardise_input(net: nn.Module, statistics: str, in_channels: int) -> None:
    """Let a net standardise its input, in place; state dicts stay as they were.

    Raises:
        MedvisionError: there are no such statistics.
    """
    if statistics not in _STATISTICS:
        raise MedvisionError(
            f"normalise={statistics} is unknown{did_you_mean(statistics, _STATISTICS)}; "
            f"use {' or '.join(_STATISTICS)}, or null"
        )
    for name, values in zip(("input_mean", "input_std"), _STATISTICS[statistics], strict=True):
        value = torch.tensor(values)
        if in_channels != len(value):
            value = value.mean().repeat(in_channels)
        # They move with the net, so that no step has to send them to its device.
        net.register_buffer(name, value.view(1, -1, 1, 1), persistent=False)
    net.register_forward_pre_hook(_standardise)


def _standardise(net: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    image, *rest = inputs
    mean, std = net.get_buffer("input_mean"), net.get_buffer("input_std")
    return ((image - mean) / std, *rest)


def _parameters(net: Callable[..., nn.Module], given: dict[str, Any], name: str) -> set[str]:
    if not callable(net) or isinstance(net, nn.Module):
        raise MedvisionError(f"the net {name} is built already; write `_partial_: true` beside it")
    constructor = net.func if isinstance(net, partial) else net
    parameters = inspect.signature(constructor).parameters
    names = ", ".join(parameters) or "nothing"
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return {*parameters, *_passed_on(constructor)}
    if not {*_OUTPUT_NAMES} & {*parameters}:
        raise MedvisionError(
            f"the net {name} takes no num_classes; give its constructor that argument "
            f"(it takes {names})"
        )
    if unknown := [key for key in given if key not in parameters]:
        hint = did_you_mean(unknown[0], parameters)
        raise MedvisionError(f"the net {name} takes no {unknown[0]}{hint}; it takes {names}")
    return set(parameters)


def _passed_on(constructor: Callable[..., nn.Module]) -> set[str]:
    """Return what the classes above a class take, to which it passes on what it does not name."""
    above = constructor.__mro__[1:] if inspect.isclass(constructor) else ()
    own = (kind for kind in above if issubclass(kind, nn.Module) and kind is not nn.Module)
    return {name for kind in own for name in inspect.signature(kind).parameters}


def _check(
    name: str, given: dict[str, Any], facts: dict[str, Any], pretrained: bool, init: str | None
) -> None:
    for key, value in facts.items():
        if key in given and given[key] != value:
            raise MedvisionError(
                f"the net {name} was given {key}={given[key]} but the data say {value}; "
                f"leave {key} out, it is filled in"
            )
    if pretrained and init is not None:
        raise MedvisionError(
            f"init={init} would erase the weights the net {name} was given; set one of them to null"
        )


def _call(net: Callable[..., nn.Module], facts: dict[str, Any], name: str) -> nn.Module:
    try:
        built = net(**facts)
    except URLError as error:
        raise MedvisionError(
            f"the weights of {name} cannot be downloaded ({error.reason}); "
            "download them elsewhere and give the file as model.weights=FILE"
        ) from error
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise MedvisionError(f"the net {name} cannot be built: {error}; change its keys") from error
    if not isinstance(built, nn.Module):
        raise MedvisionError(f"{name} returned a {type(built).__name__}, not a net; choose another")
    return built


def _name(net: Any) -> str:
    target = net.func if isinstance(net, partial) else net
    return str(getattr(target, "__name__", type(target).__name__))
