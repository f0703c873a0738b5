"""Running statistics of batch norm that belong to the weights they are used with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def find_moving(net: nn.Module) -> list[_BatchNorm]:
    """Return the batch norms whose running statistics training moves: none of a frozen body."""
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    return [norm for norm in norms if norm.training and norm.track_running_stats]


@torch.no_grad()
def estimate(
    norms: Sequence[_BatchNorm],
    passes: Sequence[Callable[[], object]],
    share: Callable[[Tensor], Tensor],
) -> None:
    """Make running statistics the plain mean over some passes of the weights as they are.

    Training's own lag behind the weights, the more the fewer steps it has taken (Wu, Johnson:
    Rethinking "Batch" in BatchNorm, 2021, arXiv:2105.07576).

    Args:
        norms: of the net, which is in evaluation mode: nothing is dropped out.
        passes: each sends a batch through the net; none leaves the statistics alone.
        share: averages a statistic over the processes of a training.
    """
    if not passes:
        return
    with _averaging(norms):
        for number, one in enumerate(passes, start=1):
            for norm in norms:
                norm.momentum = 1 / number  # a plain mean; None would wait for the device's count
            one()
    for norm in norms:
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            statistic.copy_(share(statistic))


@contextmanager
def _averaging(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Start statistics anew, and weigh all batches alike, whatever the momentum."""
    before = [(norm.momentum, _counter(norm).clone()) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.training = True
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.training = momentum, False
            _counter(norm).copy_(count)


def _counter(norm: _BatchNorm) -> Tensor:
    """Return how many batches a norm has seen: what tracks statistics counts them."""
    assert norm.num_batches_tracked is not None
    return norm.num_batches_tracked
