"""From the slices of a series to one answer, and how much each slice had to say in it."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid


class Aggregation(nn.Module):
    """Pool the states of a series; padding counts for nothing.

    Args:
        how: `last` (the state in which each direction ends: forwards at the last slice, backwards
            at the first), `mean`, `max` (feature by feature) or `attention` (a weighted mean; the
            weights are a softmax of a small tanh layer).
        width: D.
        bidirectional: the second half of D was read backwards.

    Reference:
        Ilse, Tomczak, Welling: Attention-based Deep Multiple Instance Learning, ICML 2018,
        arXiv:1802.04712 (`attention`, without the gate).
    """

    def __init__(self, how: str, width: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.how, self.bidirectional = how, bidirectional
        if how == "attention":
            hidden = max(1, width // 2)
            self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(
        self, states: Float[Tensor, "B S D"], valid: Bool[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B S"]]:
        """Return the pooled states and the weights of the slices: 0 on padding, their sum 1.

        Where the rule has no weights, they say where its features come from: `last`, its end or,
        by halves, both ends; `max`, the share of features that are largest there.
        """
        if self.how == "last":
            return self._take_ends(states, valid)
        if self.how == "max":
            return _take_largest(states, valid)
        if self.how == "attention":
            score = self.score(states)[:, :, 0].masked_fill(~valid, -torch.inf)
            weight = score.softmax(1)
        else:
            weight = valid.to(states) / valid.sum(1, keepdim=True)
        return torch.einsum("bs,bsd->bd", weight, states), weight

    def _take_ends(self, states: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        place = torch.arange(valid.shape[1], device=valid.device)
        last = (place == valid.sum(1, keepdim=True) - 1).to(states)
        end = torch.einsum("bs,bsd->bd", last, states)
        if not self.bidirectional:
            return end, last
        half = states.shape[2] // 2
        return torch.cat((end[:, :half], states[:, 0, half:]), 1), ((place == 0) + last) / 2


def _take_largest(states: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    largest = states.masked_fill(~valid[:, :, None], -torch.inf).amax(1)
    hits = (states == largest[:, None]).to(states) * valid[:, :, None]
    return largest, (hits / hits.sum(1, keepdim=True)).mean(2)  # equals share a feature


def noisy_or(
    slice_logits: Float[Tensor, "B S K"], valid: Bool[Tensor, "B S"], multilabel: bool = False
) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B S"]]:
    """Find in the series what is found in any slice: p = 1 - Π (1 - p_slice), as logits.

    Two classes: p is that of the second, and the first column of the logits is 0. Multi-label: each
    of the K columns for itself. Computed from logarithms, so that p near 0 or 1 keeps its digits.

    Returns:
        logits, and each slice's share of log Π (1 - p_slice), the mean over findings; 0 on padding.

    Reference:
        Maron, Lozano-Pérez: A Framework for Multiple-Instance Learning, NIPS 1997 (noisy-or).
    """
    found = slice_logits if multilabel else slice_logits[:, :, 1:] - slice_logits[:, :, :1]
    evidence = (-logsigmoid(-found)).masked_fill(~valid[:, :, None], 0)
    # The floor stands for a probability that float32 cannot hold; its logarithm stays finite.
    total = evidence.sum(1).clamp_min(torch.finfo(evidence.dtype).tiny)
    logits = total + torch.log(-torch.expm1(-total))
    share = (evidence / total[:, None]).mean(2)
    return logits if multilabel else torch.cat((torch.zeros_like(logits), logits), 1), share
