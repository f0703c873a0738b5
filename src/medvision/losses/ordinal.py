"""Classes in an order, by their cumulative logits: how likely a case lies above each of them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

SMALLEST = 1e-6  # between two thresholds, so that no grade is impossible


def cumulative_logits(answer: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Return the logits of lying above each grade but the last: descending, whatever a net answers.

    The first answer is a logit, each further one how far the next lies below: that distance is the
    softplus of it. With distances that are the same for all images these are proportional odds;
    here they may differ by image, which needs no parameters beside those of the net.

    Reference:
        McCullagh: Regression Models for Ordinal Data, JRSS B 42, 1980 (cumulative logits).
        Cao, Mirjalili, Raschka: Rank consistent ordinal regression for neural networks (CORAL),
        2020, arXiv:1901.07884; its logits are consistent by shared weights, ours by construction.
    """
    first, steps = _divide(answer)
    return first - torch.cat([torch.zeros_like(first), steps.cumsum(1)], dim=1)


def cumulative(answer: Float[Tensor, "B T"], label: Int[Tensor, "B"]) -> Float[Tensor, ""]:
    """Negative log-likelihood of K = T + 1 grades under `cumulative_logits`; −1 is unknown.

    What is unknown does not count; a batch of nothing else gives 0, with a gradient of zeros.

    Reference: McCullagh, as above.
    """
    above, (first, steps) = cumulative_logits(answer), _divide(answer)
    zero = torch.zeros_like(first)
    # σ(a) − σ(b) = σ(a) σ(−b) (1 − exp(b − a)), of which no factor loses its digits.
    reached = torch.cat([zero, logsigmoid(above)], dim=1)
    ended = torch.cat([logsigmoid(-above), zero], dim=1)
    between = torch.cat([zero, torch.log(-torch.expm1(-steps)), zero], dim=1)
    likelihood = reached + ended + between
    known = label >= 0
    own = likelihood.gather(1, label.clamp_min(0)[:, None].long())[:, 0]
    return -(own * known).sum() / known.sum().clamp_min(1)


def _divide(answer: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first logit `[B,1]` and how far each further one lies below the last `[B,T-1]`."""
    wide = answer.to(torch.promote_types(answer.dtype, torch.float32))
    return wide[:, :1], softplus(wide[:, 1:]) + SMALLEST
