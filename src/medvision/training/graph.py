"""The net as a graph, in TensorBoard."""

import copy
import warnings
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from medvision.callbacks.event_files import EventFiles
from medvision.nets.entries import call_net
from medvision.tasks.trainable import Batch, Context, Trainable


class Graph(Callback):
    """Shows the net before the first step, as `log_graph=true` asks for it."""

    def __init__(self, task: Trainable, context: Context) -> None:
        self.task, self.context = task, context

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        boards = [one for one in trainer.loggers if isinstance(one, EventFiles)]
        if trainer.current_epoch or not trainer.is_global_zero or not boards:
            return
        rows = self.context.rows
        batch = self.task.example(next(rows.batches(rows.of("train")[:2])))
        net = copy.deepcopy(self.task.trained).cpu().eval()  # a copy is not compiled
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

    def __init__(self, net: nn.Module, batch: Batch) -> None:
        super().__init__()
        self.net, self.names = net, list(batch)

    def forward(self, *entries: Tensor) -> Any:
        return call_net(self.net, dict(zip(self.names, entries, strict=True)))
