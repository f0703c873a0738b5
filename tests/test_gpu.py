"""What only a GPU can show: `pytest -m gpu`. Without one, all of this is skipped."""

import warnings
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from pytorch_lightning import Callback

from medvision.augment.draw import Augment
from medvision.data.batches.datamodule import ImageDataModule
from medvision.data.store.reader import Reader
from medvision.inference import predictor
from medvision.inference.predictor import predict_samples
from medvision.model import load_generator, load_model
from medvision.nets.convnet import ConvNet
from medvision.nets.slice_rnn import SliceRNN
from medvision.runs import Run
from medvision.training.config import conf_folder, register_resolvers
from medvision.training.fit import fit
from medvision.training.job import prepare_job
from medvision.training.machine import choose_precision, find_obstacles

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900)]
GPU = torch.device("cuda", 0)
COMMON = (
    "data=manifest", "data.reader.size=[32,32]", "data.reader.window=[-100,200]", "data.workers=1",
)  # fmt: skip
IMAGES = (
    "data.batch_size=8", "augment=ct", "augment.noise=0.05", "model.net.widths=[8,16]",
    "model.normalise=imagenet", "model.mixup=0.4", "callbacks=ema",
)  # fmt: skip
SERIES = (
    "model=rnn", "data.unit=series", "data.batch_size=4", "data.sequence.drop=0.3",
    "model.net.encoder.widths=[8,16]", "model.net.hidden=8",
)  # fmt: skip
GAN = (
    "experiment=dcgan_phantom", "data.batch_size=16", "data.epoch_size=128", "model.kimg=0.256",
    "model.penalty_every=2", "model.generator.width=8", "model.critic.width=8",
    "data.shares.train=0.6", "data.shares.val=0.3", "data.shares.test=0.1",
)  # fmt: skip
ALL = pytest.mark.parametrize("words", [IMAGES, SERIES, GAN], ids=["images", "series", "gan"])


@pytest.fixture(scope="module")
def crowd(places, medvision):
    """The manifest of 120 patients with 3 slices each: enough of each class to judge by."""
    done = medvision("prepare", "source=phantom", f"output={places / 'gpu_crowd'}", "patients=120",
                     "slices=3", "size=32", "difficulty=0")  # fmt: skip
    assert done.status == 0, done.err
    return places / "gpu_crowd" / "manifest.csv"


@pytest.fixture(autouse=True)
def settings_restored() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.cuda.set_sync_debug_mode("default")


def train(folder, manifest, *words, callbacks=()):
    """Fit as the command does; return the task, and what `history.csv` tells."""
    register_resolvers()
    GlobalHydra.instance().clear()
    given = ["name=tested", *COMMON, f"data.manifest='{manifest}'", *words]
    # An experiment brings its data: what is said here comes after it.
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", given)
    job, run = prepare_job(config), Run(folder)
    trainer, task, _, _ = fit(run, job, "new", callbacks)
    assert trainer.strategy.root_device == GPU
    return task, pd.read_csv(folder / "history.csv").drop(columns="seconds")


def serve(manifest, part="train", stage="train", **options):
    """Batches as Lightning would move them to the GPU."""
    chosen = {"reader": Reader(size=(32, 32), window=(-100, 200)), "batch_size": 8} | options
    data = ImageDataModule(manifest=str(manifest), **chosen)
    data.trainer = SimpleNamespace(
        training=stage == "train", current_epoch=0, global_rank=0, world_size=1,
        strategy=SimpleNamespace(root_device=GPU),
    )  # fmt: skip
    for batch in data.train_dataloader() if part == "train" else data.val_dataloader():
        sent = data.transfer_batch_to_device(data.on_before_batch_transfer(batch, 0), GPU, 0)
        yield data.on_after_batch_transfer(sent, 0)


def test_auto_means_the_gpu(phantom):
    modern = torch.cuda.get_device_capability() >= (8, 0)
    assert choose_precision("auto") == ("bf16-mixed" if modern else "32-true")
    assert choose_precision("auto", "cpu") in ("bf16-mixed", "32-true")
    data = ImageDataModule(manifest=str(phantom), reader=Reader(size=(32, 32)))
    data.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=GPU))
    assert data._backend() == "device"
    resident = data._resident()
    assert resident is data._resident()  # copied once
    assert resident.pixels.device == GPU
    assert resident.pixels.shape == (160, 32, 32, 1)


@pytest.mark.parametrize("unit", ["image", "series"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("backend", ["host", "device"])
def test_where_pixels_live_changes_no_bit_of_a_batch(phantom, unit, depth, backend):
    augment = Augment(rotate_degrees=20, contrast=0.3, noise=0.05)
    served = [
        list(serve(phantom, unit=unit, backend=backend, residency=residency, augment=augment,
                   reader=Reader(size=(32, 32), window=(-100, 200), depth=depth)))
        for residency in ("disk", "host", "device")
    ]  # fmt: skip
    for others in served[1:]:
        for batch, same in zip(served[0], others, strict=True):
            assert all(torch.equal(batch[name], value) for name, value in same.items())
    on_host = {name for name, value in served[0][0].items() if value.device.type == "cpu"}
    assert on_host == ({"length"} if unit == "series" else set())


def test_batches_are_those_of_a_cpu(phantom, monkeypatch):
    there = list(serve(phantom, stage="val"))
    monkeypatch.setattr(f"{__name__}.GPU", torch.device("cpu"))
    for batch, same in zip(there, serve(phantom, stage="val"), strict=True):
        assert torch.equal(batch["index"].cpu(), same["index"])
        # A GPU divides by 255 in its own way.
        torch.testing.assert_close(batch["image"].cpu(), same["image"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("words", [IMAGES, SERIES], ids=["images", "series"])
def test_where_pixels_live_changes_no_bit_of_a_training(words, phantom, tmp_path):
    given = (*words, "data.backend=device", "+trainer.deterministic=warn", "compile=false",
             "trainer.max_epochs=2")  # fmt: skip
    states, told = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what has no deterministic form
        for residency in ("disk", "host", "device"):
            folder, place = tmp_path / residency, f"data.residency={residency}"
            task, history = train(folder, phantom, *given, place)
            states.append(task.state_dict())
            told.append(history)
    for state, history in zip(states[1:], told[1:], strict=True):
        assert all(torch.equal(state[name], value) for name, value in states[0].items())
        pd.testing.assert_frame_equal(history, told[0], check_exact=True)


class Impatient(Callback):
    """Lets CUDA raise an error wherever a step waits, once the first ones have warmed up."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.steps = first, last, 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps += 1
        if self.steps == self.first:
            torch.cuda.set_sync_debug_mode("error")
        if self.steps == self.last:
            torch.cuda.set_sync_debug_mode("default")


@ALL
@pytest.mark.parametrize("residency", ["device", "host"])
def test_no_step_waits_for_the_gpu(words, residency, crowd, tmp_path):
    impatient = Impatient(2, 6)
    more = ("judge.patience=0",) if words is GAN else ("model.l1=1e-5",)
    epochs = () if words is GAN else ("trainer.max_epochs=1",)
    given = (*words, *more, *epochs, f"data.residency={residency}", "compile=false")
    train(tmp_path, crowd, *given, "trainer.limit_train_batches=6", callbacks=[impatient])
    assert impatient.steps >= impatient.last


@ALL
def test_a_compiled_run_from_end_to_end(words, crowd, apart, medvision):
    given = (*COMMON, f"data.manifest={crowd}", "compile=auto", "name=gpu")
    epochs = () if words is GAN else ("trainer.max_epochs=2",)
    done = medvision("train", *words, *given, *epochs)
    assert done.status == 0, done.err
    (folder,) = (f for f in (apart / "gpu").iterdir() if f.is_dir())
    record = Run(folder).record
    assert record["compile"] is (not find_obstacles(gpu=True))
    assert record["device"] == torch.cuda.get_device_name(0)
    load = load_generator if words is GAN else load_model
    assert not [name for name in load(folder / "model.pt").net.state_dict() if "_orig_mod" in name]


@pytest.mark.parametrize("words", [IMAGES, SERIES], ids=["images", "series"])
def test_compiled_and_plain_agree(words, phantom, tmp_path):
    if obstacles := find_obstacles(gpu=True):
        pytest.skip("; ".join(obstacles))
    exact = ("trainer.precision=32-true", "trainer.max_epochs=1", "model.optimizer.lr=0.0001",
             "augment=none")  # fmt: skip
    words = [w for w in words if not w.startswith(("model.mixup", "augment"))]
    told = [train(tmp_path / how, phantom, *words, *exact, f"compile={how}")[1]
            for how in ("true", "false")]  # fmt: skip
    # TF32 in convolutions, and dropout that draws in another order.
    np.testing.assert_allclose(told[0]["val/loss"], told[1]["val/loss"], rtol=0.05)


def test_cuda_graphs_serve_a_small_net(phantom, tmp_path):
    if obstacles := find_obstacles(gpu=True):
        pytest.skip("; ".join(obstacles))
    given = ("data.batch_size=8", "model.net.widths=[8,16]", "trainer.max_epochs=2")
    task, history = train(tmp_path, phantom, *given, "compile=reduce-overhead")
    assert np.isfinite(history.to_numpy(float)).all()
    assert all(value.isfinite().all() for value in task.state_dict().values())


@pytest.mark.parametrize("words", [IMAGES, SERIES], ids=["images", "series"])
def test_a_processor_predicts_as_the_gpu_does(words, phantom, apart, medvision, monkeypatch):
    given = (*COMMON, f"data.manifest={phantom}", "compile=false", "name=gpu", "test=false")
    done = medvision("train", *words, *given, "trainer.max_epochs=2")
    assert done.status == 0, done.err
    (folder,) = (f for f in (apart / "gpu").iterdir() if f.is_dir())
    unit = "series" if words is SERIES else "image"
    data = ImageDataModule(manifest=str(phantom), reader=Reader(size=(32, 32), window=(-100, 200)),
                           unit=unit)  # fmt: skip
    rows = data.ready.rows("val")

    def answer():
        logits = predict_samples(load_model(folder / "model.pt"), data.ready, rows)["logits"]
        return torch.from_numpy(logits).softmax(1)

    there = answer()
    monkeypatch.setattr(predictor.torch.cuda, "is_available", lambda: False)
    here = answer()
    # Convolutions of a GPU may use TF32, whose fractions have ten bits.
    torch.testing.assert_close(there, here, atol=0.01, rtol=0)


@ALL
def test_the_same_seed_tells_the_same_history(words, crowd, tmp_path):
    """Within 2 %: some of CUDA's sums have no fixed order."""
    epochs = () if words is GAN else ("trainer.max_epochs=2",)
    told = [train(tmp_path / name, crowd, *words, *epochs, "compile=false")[1]
            for name in ("once", "again")]  # fmt: skip
    losses = [name for name in told[0] if name.endswith("loss")]
    assert losses
    np.testing.assert_allclose(told[0][losses], told[1][losses], rtol=0.02)
    assert told[0]["epoch"].tolist() == told[1]["epoch"].tolist()


def test_averaged_weights_live_on_the_gpu(phantom, tmp_path):
    seen = []

    class Look(Callback):
        def on_train_batch_end(self, trainer, *_):
            (averaging,) = (c for c in trainer.callbacks if hasattr(c, "_average_model"))
            seen.append({t.device for t in averaging._average_model.state_dict().values()})

    train(tmp_path, phantom, *IMAGES, "compile=false", "trainer.max_epochs=1", callbacks=[Look()])
    assert seen
    assert all(devices == {GPU} for devices in seen)


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn", None])
@pytest.mark.parametrize("pool", ["last", "attention", "noisy_or"])
def test_lengths_may_lie_on_either_side(cell, pool):
    if (cell, pool) == (None, "last"):
        pytest.skip("reads one slice alone")
    torch.manual_seed(0)
    encoder = partial(ConvNet, widths=(4,))
    net = SliceRNN(2, 1, encoder=encoder, cell=cell, hidden=4, aggregation=pool).eval()
    image, length, step = torch.rand(3, 5, 1, 8, 8), torch.tensor([2, 5, 3]), torch.rand(3, 5)
    with torch.no_grad():
        here = net(image, length, step)["logits"]
        net = net.to(GPU)
        for where in ("cpu", GPU):
            there = net(image.to(GPU), length.to(where), step.to(GPU))["logits"]
            torch.testing.assert_close(there.cpu(), here, atol=5e-3, rtol=0)
