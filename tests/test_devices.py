"""On a GPU that is only imagined: nothing is computed, but every tensor has its device.

What CPU tests cannot see is seen here: numbers of the host that meet numbers of the device, and
copies to it that would be waited for.
"""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medvision.augment import device as augment_on_device
from medvision.augment import intensity
from medvision.augment.draw import Augment
from medvision.augment.sequence import SequenceAugment
from medvision.data.batches import datamodule
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.batches.device_store import DeviceStore
from medvision.data.store.reader import Reader
from medvision.losses import cross_entropy
from medvision.nets import slice_rnn
from medvision.nets.build import build_net
from medvision.nets.convnet import ConvNet
from medvision.nets.slice_rnn import SliceRNN
from medvision.tasks.classification.task import Classifier

COMMON = {"optimizer": None, "loss": cross_entropy, "channels_last": False}
GPU = torch.device("cuda", 0)
AUGMENT = Augment(rotate_degrees=20.0, shift_x=0.2, contrast=0.3, noise=0.05, blur=1.0, erase=0.1)
TINY = partial(ConvNet, widths=(4,))


class Moves(TorchDispatchMode):
    """Lists copies between host and device that are waited for."""

    def __init__(self):
        super().__init__()
        self.waited = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sides = [{t.device.type for t in tree_leaves(some) if isinstance(t, Tensor)}
                 for some in ((args, kwargs), out)]  # fmt: skip
        moved = sides[0] and sides[1] and sides[0] != sides[1]
        if moved and func is torch.ops.aten._to_copy.default:
            target = out.device.type
            if target == "cpu" or not (kwargs or {}).get("non_blocking"):
                self.waited.append((target, tuple(out.shape)))
        return out


@pytest.fixture
def imagined(monkeypatch):
    """The mode in which there is a GPU; pinned memory needs a real one."""
    monkeypatch.setattr(
        datamodule, "send", lambda value, device: value.to(device, non_blocking=True)
    )
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        pass
    yield mode
    augment_on_device._tape.cache_clear()


def take_steps(data, build, mode, monkeypatch):
    """Take two training steps as far as the loss; return the copies that were waited for."""
    data.trainer = SimpleNamespace(training=True, current_epoch=0, global_rank=0, world_size=1,
                                   strategy=SimpleNamespace(root_device=GPU))  # fmt: skip
    data.setup()
    if data.options.residency == "device":
        with mode:
            data._residents[GPU] = DeviceStore(data.ready.stores, GPU)
    with mode, torch.device(GPU):
        task = build(data)
    waited = []
    for batch in [data.on_before_batch_transfer(b, 0) for b in data.train_dataloader()][:2]:
        # What the host reads has values, which are known before imagination begins.
        draws = data._draws(batch["draw"].numpy(), data.ready.stores[0].array.shape[1:3])
        length = batch.get("length", torch.ones(1, dtype=torch.long))
        places = slice_rnn.find_places(length, int(length.max()))
        with monkeypatch.context() as patch, mode, Moves() as moves:
            patch.setattr(data, "_draws", lambda *_, draws=draws: draws)
            patch.setattr(slice_rnn, "find_places", lambda *_, places=places: places)
            sent = data.transfer_batch_to_device(batch, GPU, 0)
            served = data.on_after_batch_transfer(sent, 0)
            loss = task.training_step(served, 0)
        on_host = {name for name, value in served.items() if value.device.type == "cpu"}
        assert on_host == {"length"} & set(served)
        assert loss.device == GPU
        waited += moves.waited
    return waited


def classifier(data):
    net = build_net(TINY, 2, data.ready.channels, normalise="imagenet")
    weights = torch.ones(2)  # on the device, as every buffer
    return Classifier(net, class_weights=weights, l1=0.1, **COMMON)


def sequence(aggregation):
    def build(data):
        net = partial(SliceRNN, encoder=TINY, cell=None, aggregation=aggregation)
        return Classifier(build_net(net, 2, data.ready.channels, normalise="imagenet"), **COMMON)

    return build


@pytest.mark.parametrize("residency", ["host", "device"])
@pytest.mark.parametrize(
    ("unit", "build"),
    [("image", classifier), ("series", sequence("attention")), ("series", sequence("noisy_or"))],
)
def test_a_step_keeps_host_and_device_apart(residency, unit, build, imagined, monkeypatch, phantom):
    data = ImageDataModule(
        manifest=str(phantom), unit=unit, backend="device", residency=residency, augment=AUGMENT,
        reader=Reader(size=(16, 16), window=(-100, 200), depth=16), batch_size=4,
        sequence=SequenceAugment(drop=0.3), neighbours=int(unit == "series"), workers=1,
    )  # fmt: skip
    waited = take_steps(data, build, imagined, monkeypatch)
    tape = intensity.NOISE_STARTS + 16 * 16 * data.ready.channels
    assert waited == [("cuda", (tape,))]  # the noise, sent once
