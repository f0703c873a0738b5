"""The net as a graph, in TensorBoard."""

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from medvision.callbacks.event_files import EventFiles
from medvision.nets.entries import call_net


class Graph(Callback):
    """Shows the net before the first step, as `log_graph=true` asks for it.

    Args:
        net: that is shown; a copy is, on the CPU.
        batch: → a small batch of it, on the host.
    """

    def __init__(self, net: nn.Module, batch: Callable[[], Mapping[str, Tensor]]) -> None:
        self.net, self.batch = net, batch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        boards = [one for one in trainer.loggers if isinstance(one, EventFiles)]
        if trainer.current_epoch or not trainer.is_global_zero or not boards:
            return
        batch = self.batch()
        net = copy.deepcopy(self.net).cpu().eval()  # a copy is not compiled
        try:
            with warnings.catch_warnings(action="ignore"):  # a graph to look at may be of one size
                boards[0].experiment.add_graph(
                    _Net(net, batch), tuple(batch.values()), use_strict_trace=False
                )
        except Exception as error:  # whatever a net of others does that cannot be traced
            reason = (str(error) or type(error).__name__).splitlines()[0]
            print(f"note: log_graph=true, but the net cannot be traced: {reason}")


class _Net(nn.Module):
    """Takes the entries of a batch in their order, since a trace knows no names."""

    def __init__(self, net: nn.Module, batch: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.net, self.names = net, list(batch)

    def forward(self, *entries: Tensor) -> Any:
        return call_net(self.net, dict(zip(self.names, entries, strict=True)))
