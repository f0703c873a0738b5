from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medvision.data.batches import datamodule, device_store
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.batches.device_store import DeviceStore, send
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def stores(dtype, *sizes):
    random = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    return [SimpleNamespace(array=random.integers(0, top, (n, 4, 5, 2), dtype, endpoint=True))
            for n in sizes]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("rows", [1, 3, 1000])  # copied at once
def test_images_of_all_stores_come_back_as_they_were(monkeypatch, dtype, rows):
    given = stores(dtype, 7, 3)
    monkeypatch.setattr(device_store, "CHUNK_BYTES", rows * given[0].array[:1].nbytes)
    resident = DeviceStore(given, CPU)
    where = np.array([[0, 6], [1, 0], [1, 2], [0, 0], [1, 0]])
    pixels = resident.gather(resident.places(where))
    expected = np.stack([given[store].array[row] for store, row in where])
    assert pixels.dtype == getattr(torch, expected.dtype.name)
    np.testing.assert_array_equal(pixels.numpy(), expected)
    assert resident.pixels.nbytes == sum(store.array.nbytes for store in given)  # no float copy
    assert resident.places(where[:, None]).shape == (5, 1)


def test_the_store_stays_as_it_is():
    (given,) = stores(np.uint8, 4)
    resident = DeviceStore([given], CPU)
    resident.pixels.zero_()
    assert given.array.any()


def test_a_gpu_is_sent_to_from_pinned_memory_and_not_waited_for():
    calls = []

    def to(device, **how):
        calls.append((device, how))
        return "there"

    pinned = SimpleNamespace(to=to)
    assert send(SimpleNamespace(pin_memory=lambda: pinned), GPU) == "there"
    assert calls == [(GPU, {"non_blocking": True})]
    value = torch.ones(2)
    assert send(value, CPU) is value


def module(manifest, device, **options):
    data = ImageDataModule(manifest=str(manifest), workers=1, batch_size=4,
                           reader=Reader(size=(32, 32)), **options)  # fmt: skip
    data.trainer = SimpleNamespace(training=True, current_epoch=0, global_rank=0, world_size=1,
                                   strategy=SimpleNamespace(root_device=device))  # fmt: skip
    return data


@pytest.mark.parametrize(
    ("residency", "device", "free", "stays"),
    [("auto", GPU, 2.0, True), ("auto", GPU, 1.9, False), ("auto", CPU, 9.0, False),
     ("device", CPU, 0.0, True), ("device", GPU, 1.0, True), ("host", GPU, 9.0, False)],
)  # fmt: skip
def test_pixels_live_on_a_gpu_that_keeps_half_of_its_memory_free(
    monkeypatch, phantom, residency, device, free, stays
):
    data, copied = module(phantom, device, residency=residency), []
    needed = sum(store.array.nbytes for store in data.ready.stores)
    memory = [int(free * needed)]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (memory[0], 10 * needed))
    monkeypatch.setattr(datamodule, "DeviceStore", lambda *given: copied.append(given) or given)
    assert (data._resident() is not None) is stays
    memory[0] = 0 if not stays else 99 * needed
    assert (data._resident() is not None) is stays  # settled once
    assert len(copied) == stays


def test_more_than_a_gpu_has_is_refused(monkeypatch, phantom):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**10, 2**30))
    with pytest.raises(MedvisionError, match=r"needs 0\.0 GB on cuda:0, where .*residency=host"):
        module(phantom, GPU, residency="device")._resident()


def test_training_and_validation_share_one_copy(phantom):
    data = module(phantom, CPU, residency="device")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batch = data.on_before_batch_transfer(next(iter(loader)), 0)
        data.on_after_batch_transfer(batch, 0)
    assert len(data._residents) == 1


@pytest.mark.parametrize("unit", ["image", "series"])
def test_what_the_host_reads_again_stays_there(phantom, unit):
    """`meta` stands for a GPU."""
    data = module(phantom, CPU, unit=unit, backend="device")
    batch = data.on_before_batch_transfer(next(iter(data.train_dataloader())), 0)
    sent = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert sent.keys() == batch.keys()
    stays = {name for name, value in sent.items() if value.device.type == "cpu"}
    assert stays == ({"draw", "length"} if unit == "series" else {"draw"})
