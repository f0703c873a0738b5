"""How weights start, and the activations whose gain decides it."""

import math
from collections.abc import Callable

from torch import nn

from medvision.errors import MedvisionError, did_you_mean

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}
INITIALISATIONS = ("normal", "xavier", "he", "orthogonal")


def activate(name: str) -> nn.Module:
    """Return a fresh activation layer.

    Raises:
        MedvisionError: there is no such activation.
    """
    return ACTIVATIONS[_known("activation", name, tuple(ACTIVATIONS))]()


def initialise(net: nn.Module, how: str | None, activation: str = "relu") -> nn.Module:
    """Draw the weights of all linear and convolution layers anew, in place; biases become zero.

    Norm layers, recurrent layers and free parameters keep what they have. All is drawn at random
    from torch's global generator.

    Args:
        net: changed in place and returned.
        how: `normal` (variance 1/n for n inputs), `xavier` (uniform, variance 2/(inputs +
            outputs)), `he` (normal, variance gain²/inputs), `orthogonal` (times the gain) or None
            (the net's own start).
        activation: decides the gain of `he` and `orthogonal`: √2 for the rectifier and its smooth
            relatives (gelu, silu, …), torch's value for the others.

    Raises:
        MedvisionError: there is no such initialisation or activation.

    Reference:
        LeCun, Bottou, Orr, Müller: Efficient BackProp, 1998 (`normal`).
        Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks,
        AISTATS 2010 (`xavier`).
        He, Zhang, Ren, Sun: Delving Deep into Rectifiers, ICCV 2015, arXiv:1502.01852 (`he`).
        Saxe, McClelland, Ganguli: Exact solutions to the nonlinear dynamics of learning in deep
        linear neural networks, ICLR 2014, arXiv:1312.6120 (`orthogonal`).
    """
    if how is None:
        return net
    _known("initialisation", how, INITIALISATIONS)
    gain = _gain(activation)
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            _draw(module, how, gain)
    return net


def _draw(layer: nn.Linear | nn.modules.conv._ConvNd, how: str, gain: float) -> None:
    weight = layer.weight
    inputs = nn.init._calculate_correct_fan(weight, "fan_in")
    if how == "normal":
        nn.init.normal_(weight, std=1 / math.sqrt(inputs))
    elif how == "xavier":
        nn.init.xavier_uniform_(weight)
    elif how == "he":
        nn.init.normal_(weight, std=gain / math.sqrt(inputs))
    else:
        nn.init.orthogonal_(weight, gain=gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _gain(activation: str) -> float:
    _known("activation", activation, tuple(ACTIVATIONS))
    if activation == "tanh":
        return nn.init.calculate_gain("tanh")
    if activation == "selu":
        return nn.init.calculate_gain("selu")
    if activation == "leaky_relu":
        return nn.init.calculate_gain("leaky_relu", 0.01)
    return 1.0 if activation == "sigmoid" else math.sqrt(2)


def _known(what: str, name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        hint = did_you_mean(str(name), names)
        raise MedvisionError(
            f"no {what} is called {name!r}{hint}; choose one of {', '.join(names)}"
        )
    return name
