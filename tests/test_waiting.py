"""No training step waits for the device it runs on: an epoch of more steps waits as often."""

import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from medvision.callbacks.averaging import Mean
from medvision.data.batches import datamodule
from medvision.runs import Run
from medvision.training import build
from medvision.training.build import build_task, build_trainer
from medvision.training.config import conf_folder, register_resolvers

aten = torch.ops.aten
ASKING = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default,
    aten._unique2.default, aten.bincount.default, aten.repeat_interleave.Tensor, aten.equal.default,
}  # fmt: skip
INDEXING = {
    aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
    aten._index_put_impl_.default,
}  # fmt: skip
PACKING = {aten._pack_padded_sequence.default, aten._pad_packed_sequence.default}
READING = ("cpu", "numpy", "tolist", "__array__")


class Pretend(TorchDispatchMode):
    """Takes some tensors of the host for tensors of a device, and notes who waits for them.

    What is computed from such a tensor lies on the device as well.
    """

    def __init__(self) -> None:
        super().__init__()
        self.there, self.waits = WeakIdKeyDictionary(), Counter[str]()

    def put(self, value: Tensor) -> Tensor:
        self.there[value] = True
        return value

    def has(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value in self.there

    def note(self) -> None:
        stack = [f for f in traceback.extract_stack() if "medvision" in f.filename]
        place = stack[-1] if stack else traceback.extract_stack()[-4]
        self.waits[f"{Path(place.filename).name}:{place.lineno} {place.line}"] += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = tree_leaves((args, kwargs or {}))
        if any(map(self.has, given)):
            chosen = tree_leaves(args[1]) if func in INDEXING else []
            masks = any(isinstance(i, Tensor) and i.dtype == torch.bool for i in chosen)
            if func in ASKING or masks:
                self.note()
        out = func(*args, **(kwargs or {}))
        if any(map(self.has, given)):
            # How many series are left at each slice, torch counts on the host.
            for value in out[:1] if func in PACKING else tree_leaves(out):
                if isinstance(value, Tensor):
                    self.put(value)
        return out


@pytest.fixture
def pretend(monkeypatch) -> Pretend:
    mode = Pretend()
    monkeypatch.setattr(datamodule, "send", lambda value, device: mode.put(value.clone()))
    for name in READING:
        plain: Callable[..., Any] = getattr(Tensor, name)

        def read(value, *args, _plain=plain, **kwargs):
            if mode.has(value):
                mode.note()
            return _plain(value, *args, **kwargs)

        monkeypatch.setattr(Tensor, name, read)
    return mode


def test_who_asks_a_device_is_noted(pretend):
    value = pretend.put(torch.arange(4.0))
    askers = (
        lambda: float((value + 1).sum()), lambda: value[value > 1], lambda: bool(value.any()),
        lambda: value.mul(2).tolist(), lambda: value.cpu(), lambda: torch.zeros(4)[value > 1],
        lambda: value.nonzero(),
    )  # fmt: skip
    free = (
        lambda: value[torch.tensor([1, 2])], lambda: torch.where(value > 1, value, 0),
        lambda: torch.arange(4.0).tolist(), lambda: float(torch.ones(())), lambda: len(value),
    )  # fmt: skip
    with pretend:
        for expected, asked in ((len(askers), askers), (0, free)):
            pretend.waits.clear()
            for ask in asked:
                ask()
            assert pretend.waits.total() == expected


@pytest.fixture
def config():
    register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield lambda *words: compose("train", ["name=tested", *words])


def count_waits(pretend: Pretend, config: Any, folder: Path, steps: int) -> Counter[str]:
    """Train an epoch of so many steps with all that a run has, and return who waited how often."""
    torch.manual_seed(0)
    data = instantiate(config.data)
    data.setup()
    task = build_task(config, data, None)
    config.trainer.limit_train_batches = steps
    trainer = build_trainer(Run(folder), config, data, task)
    for value in (*task.parameters(), *task.buffers()):
        pretend.put(value)
    pretend.waits.clear()
    with pretend:
        trainer.fit(task, data)
    assert trainer.global_step == (steps if task.predicts else 2 * steps)  # of both sides
    return pretend.waits.copy()


IMAGES = (
    "augment=ct", "augment.noise=0.05", "augment.erase=0.1", "model.net.widths=[4,8]",
    "model.normalise=imagenet", "model.mixup=0.4", "model.l1=1e-5", "callbacks=ema",
)  # fmt: skip
SERIES = (
    "experiment=rnn_phantom", "data.sequence.drop=0.3", "data.neighbours=1", "data.batch_size=2",
    "model.net.encoder.widths=[4,8]", "model.net.hidden=4",
)  # fmt: skip
GAN = (
    "experiment=dcgan_phantom", "model=dcgan_r3", "model.generator.width=4", "model.critic.width=4",
    "model.penalty_every=1", "model.warmup_kimg=0.02", "model.kimg=0.01", "model.clip=1.0",
    "+model.policy._target_=medvision.augment.policy.DiffAugment",
    "+model.policy.change.shift_x=0.1",
    "+model.policy.change._target_=medvision.augment.draw.Augment",
)  # fmt: skip


def test_a_mean_of_weights_asks_once_how_many_there_were(pretend):
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    mean = Mean(net, 0.9)
    for value in (*mean.parameters(), *mean.buffers(), *net.parameters(), *net.buffers()):
        pretend.put(value)
    with pretend:
        for _ in range(3):
            mean.update_parameters(net)
    assert pretend.waits.total() == 1
    assert mean.n_averaged == 3


@pytest.mark.parametrize(
    ("words", "residency"),
    [(IMAGES, "host"), (IMAGES, "device"), (SERIES, "device"), (GAN, "host")],
    ids=["images on the host", "images on the device", "series", "gan"],
)
def test_more_steps_wait_no_more(words, residency, pretend, config, phantom, tmp_path, monkeypatch):
    chosen = config(
        f"data.manifest='{phantom}'", "data.source=null", "data.reader.size=[32,32]",
        "data.reader.window=[-100,200]", "data.batch_size=4", "data.workers=1",
        "trainer.max_epochs=1", "trainer.accelerator=cpu", "data.backend=device",
        f"data.residency={residency}", *words,
    )  # fmt: skip
    if words is GAN:  # judged by a callback, which has its own tests
        chosen.monitor = "val/critic_real"
        monkeypatch.setattr(build, "direction", lambda *_: "max")
    few, many = (
        count_waits(pretend, chosen.copy(), tmp_path / str(steps), steps) for steps in (3, 6)
    )
    assert few  # the epoch itself is scored
    assert many - few == Counter()
