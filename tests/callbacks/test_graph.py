from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from medvision.callbacks.event_files import EventFiles
from medvision.callbacks.graph import Graph
from medvision.nets.convnet import ConvNet
from medvision.nets.slice_rnn import SliceRNN
from medvision.tasks.classification.task import Classifier
from medvision.tasks.generation.task import DCGAN

IMAGES = {"image": torch.rand(2, 1, 32, 32), "label": torch.tensor([0, 1])}
SERIES = {
    "image": torch.rand(2, 3, 1, 16, 16), "length": torch.tensor([3, 2]),
    "step": torch.zeros(2, 3), "label": torch.tensor([0, 1]),
}  # fmt: skip


class Counting(nn.Module):
    """A net that answers by what no trace can hold."""

    def forward(self, image):
        raise TypeError("this one counts on its fingers\nand toes")


def small(**given):
    return ConvNet(widths=(4, 8), **given)


def show_graph(folder, task, batch):
    """Let the callback show the net; return whether TensorBoard has a graph then."""
    logger = EventFiles(folder)
    trainer = SimpleNamespace(loggers=[logger], current_epoch=0, is_global_zero=True)
    Graph(task.trained, lambda: task.example(batch)).on_train_start(trainer, task)
    logger.finalize("success")
    board = EventAccumulator(str(folder))
    board.Reload()
    return board.Tags()["graph"]


def classify(net):
    return Classifier(net)


@pytest.mark.parametrize(
    ("make", "batch"),
    [
        (lambda: classify(small(num_classes=2, in_channels=1)), IMAGES),
        (lambda: classify(SliceRNN(2, 1, encoder=small, hidden=4)), SERIES),
        (lambda: DCGAN(32, width=4), IMAGES),
    ],
    ids=["image", "series", "generator"],
)
def test_the_net_is_shown_as_a_graph(make, batch, tmp_path, capsys):
    assert show_graph(tmp_path, make(), batch)
    assert capsys.readouterr().out == ""


def test_a_net_that_cannot_be_traced_is_told_and_trains(tmp_path, capsys):
    assert not show_graph(tmp_path, classify(Counting()), IMAGES)
    told = capsys.readouterr().out
    assert (
        told
        == "note: log_graph=true, but the net cannot be traced: this one counts on its fingers\n"
    )
