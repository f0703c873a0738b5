import pytest
import torch
from torch import nn
from torchvision import models

from medvision.errors import MedvisionError
from medvision.nets.convnet import ConvNet
from medvision.nets.entries import answer_by_name, call_net, reads_series
from medvision.nets.slice_rnn import SliceRNN

BATCH = {
    "index": torch.arange(2), "image": torch.ones(2, 1, 4, 4), "label": torch.tensor([0, 1]),
    "length": torch.tensor([1, 2]), "step": torch.full((2, 3), 5.0),
}  # fmt: skip


def made(source):
    """A net with the `forward` of a line of code, which answers with what it was given."""
    space = {"nn": nn}
    exec(f"class Net(nn.Module):\n    def forward(self, {source}): return locals()", space)
    return space["Net"]()


@pytest.mark.parametrize(
    ("parameters", "given"),
    [
        ("image", {"image": "image"}), ("x", {"x": "image"}),
        ("image, length, step=None", {"image": "image", "length": "length", "step": "step"}),
        ("step, image", {"step": "step", "image": "image"}),
        ("x, length", {"x": "image", "length": "length"}),
        ("image, tabular=None", {"image": "image", "tabular": None}),
    ],
)  # fmt: skip
def test_a_net_is_called_with_the_entries_that_its_forward_names(parameters, given):
    called = call_net(made(parameters), BATCH)
    for name, entry in given.items():
        assert called[name] is (None if entry is None else BATCH[entry]), name


def test_one_that_names_none_gets_the_image():
    assert call_net(nn.Flatten(), BATCH).shape == (2, 16)
    assert call_net(torch.jit.script(nn.Flatten()), BATCH).shape == (2, 16)
    assert call_net(models.resnet18(num_classes=2), BATCH | {"image": torch.ones(2, 3, 8, 8)}).shape


def test_of_a_tuple_the_first_is_the_answer():
    net = models.googlenet(num_classes=2, init_weights=False, aux_logits=True)
    batch = {"image": torch.ones(2, 3, 64, 64)}
    assert call_net(net, batch).shape == answer_by_name(net, batch)["logits"].shape == (2, 2)


def test_what_the_batch_does_not_hold_is_named():
    with pytest.raises(MedvisionError, match=r"the net Net reads tabular, which .* change data"):
        call_net(made("image, tabular"), BATCH)


def test_nets_of_series_are_known_by_what_they_read():
    assert reads_series(SliceRNN) is True
    assert reads_series(ConvNet) is False
    assert reads_series(models.resnet18) is False
    assert reads_series(lambda num_classes: nn.Linear(1, num_classes)) is None
