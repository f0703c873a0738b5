"""Losses of numbers: pure functions of what a net answers and what is true, in float32.

The parameters of a loss before `value` name what a net answers of each of T targets; all are
`[B,T]`, in the units of `value`, of which nan is unknown. What is unknown counts neither above nor
below the fraction; a batch of nothing else gives 0, with a gradient of zeros.
"""

import torch
from jaxtyping import Float
from torch import Tensor

Numbers = Float[Tensor, "B T"]
Loss = Float[Tensor, ""]
_NARROWEST = -10.0  # a logarithm of a variance; below it one row would decide the whole step


def absolute_error(prediction: Numbers, value: Numbers) -> Loss:
    """Mean distance: what is predicted is the median."""
    error, known = _miss(prediction, value)
    return _mean(error.abs(), known)


def squared_error(prediction: Numbers, value: Numbers) -> Loss:
    """Mean squared distance: what is predicted is the mean."""
    error, known = _miss(prediction, value)
    return _mean(error.square(), known)


def gaussian(mean: Numbers, log_variance: Numbers, value: Numbers) -> Loss:
    """Negative log-likelihood of a normal distribution whose width is predicted as well.

    Its constant, the logarithm of 2π, is left out.

    Reference:
        Nix, Weigend: Estimating the mean and variance of the target probability distribution,
        ICNN 1994, doi:10.1109/ICNN.1994.374138.
    """
    error, known = _miss(mean, value)
    width = log_variance.float().clamp_min(_NARROWEST)
    return _mean((width + error.square() * torch.exp(-width)) / 2, known)


def quantile(
    low: Numbers, median: Numbers, high: Numbers, value: Numbers, level: float = 0.9
) -> Loss:
    """Pinball loss of the median and of the two quantiles that hold `level` between them.

    Reference:
        Koenker, Bassett: Regression Quantiles, Econometrica 46, 1978, doi:10.2307/1913643.
    """
    losses = []
    for answer, share in ((low, (1 - level) / 2), (median, 0.5), (high, (1 + level) / 2)):
        error, known = _miss(answer, value)
        losses.append(_mean(torch.maximum(-share * error, (1 - share) * error), known))
    return torch.stack(losses).mean()


def _miss(answer: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far above the truth an answer lies, 0 where it is unknown, and what is known."""
    known = ~value.isnan()
    # Filled, not only masked afterwards: a nan in the graph makes the gradient nan, 0 times or not.
    error = answer.float() - value.float().masked_fill(~known, 0)
    return error.masked_fill(~known, 0), known


def _mean(cost: Tensor, known: Tensor) -> Tensor:
    return (cost * known).sum() / known.sum().clamp_min(1)
