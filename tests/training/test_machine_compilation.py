import copy
import pickle
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as lightning
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch.optim import AdamW
from torch.utils.data import DataLoader

from medvision import losses
from medvision.augment.draw import Augment
from medvision.augment.policy import DiffAugment
from medvision.callbacks.averaging import Averaging
from medvision.callbacks.replay import Replay
from medvision.errors import MedvisionError
from medvision.losses import cross_entropy
from medvision.model import load_model
from medvision.nets.build import build_net
from medvision.nets.convnet import ConvNet
from medvision.nets.dcgan import Critic, Generator
from medvision.nets.encoder import encoder
from medvision.nets.slice_rnn import SliceRNN
from medvision.runs import Run
from medvision.tasks.classification.task import Classifier
from medvision.tasks.generation.task import Adversarial
from medvision.training import machine
from medvision.training.config import conf_folder, register_resolvers
from medvision.training.finish import freeze_model
from medvision.training.fit import fit as run_training
from medvision.training.job import prepare_job
from medvision.training.machine import check_compile, choose_compile, compile_nets

TINY = partial(ConvNet, widths=(4,), dropout=0.2)


@pytest.fixture
def eager(monkeypatch):
    """Trace as for a GPU, but run the trace as it is: no compiler, and the same bits."""
    monkeypatch.setattr(machine, "BACKEND", "eager")
    monkeypatch.setattr(machine, "find_obstacles", lambda gpu: [])
    yield
    torch.compiler.reset()


def count_graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def classifier(**options):
    torch.manual_seed(0)
    net = build_net(TINY, 2, 3, normalise="imagenet")
    return Classifier(net, optimizer=partial(AdamW, lr=0.01), loss=cross_entropy, **options)


def sequence(**options):
    torch.manual_seed(0)
    net = SliceRNN(2, 1, encoder=TINY, hidden=5)
    return Classifier(net, optimizer=partial(AdamW, lr=0.01), loss=cross_entropy, **options)


def gan(norm="none", **options):
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.0, 0.9))
    policy = DiffAugment(Augment(shift_x=0.1, brightness=0.1))
    chosen = {"loss": losses.relativistic, "r1": 0.1, "r2": 0.1, "penalty_every": 2,
              "policy": policy, "kimg": 1.0} | options  # fmt: skip
    return Adversarial(Generator(32, 1, 2, latent=8, width=4), Critic(32, 1, 2, width=4, norm=norm),
                       optimizer=adam, critic_optimizer=adam, **chosen)  # fmt: skip


def images(rows, channels=3, size=8, batch=6):
    draw = torch.Generator().manual_seed(1)
    index, image = torch.arange(rows), torch.rand(rows, channels, size, size, generator=draw)
    return [{"image": image[part], "label": index[part] % 2, "index": part}
            for part in index.split(batch)]  # fmt: skip


def series(*lengths):
    draw = torch.Generator().manual_seed(1)
    length = torch.tensor(lengths)
    image = torch.rand(len(length), int(length.max()), 1, 8, 8, generator=draw)
    return {
        "image": image, "length": length, "step": torch.ones(image.shape[:2]),
        "label": torch.arange(len(length)) % 2, "index": torch.arange(len(length)),
        "slice_label": torch.full(image.shape[:2], 1),
    }  # fmt: skip


def fit(task, batches, folder, epochs=2, callbacks=(), how=False):
    compile_nets(task, how)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        callbacks=[Replay(0), *callbacks], default_root_dir=folder,
    )  # fmt: skip
    loader = DataLoader(batches, batch_size=None)
    trainer.fit(task, loader, loader)
    return task.state_dict()


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize(
    ("how", "gpu", "accelerator", "obstacles", "settled"),
    [
        ("auto", True, "auto", [], True), ("auto", True, "gpu", [], True),
        ("auto", True, "cpu", [], False), ("auto", False, "auto", [], False),
        ("auto", True, "auto", ["there is no compiler"], False),
        (True, False, "cpu", ["nothing is asked for"], True), (False, True, "auto", [], False),
        ("reduce-overhead", True, "auto", [], "reduce-overhead"),
    ],
)  # fmt: skip
def test_auto_compiles_on_a_gpu_that_can(
    monkeypatch, capsys, how, gpu, accelerator, obstacles, settled
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(machine, "find_obstacles", lambda gpu: obstacles)
    assert choose_compile(how, accelerator) == settled
    noted = how == "auto" and gpu and bool(obstacles)
    assert ("not compiled (compile=auto): there is no" in capsys.readouterr().out) == noted


def test_what_a_machine_lacks_is_named(monkeypatch, tmp_path):
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 1))
    assert machine.find_obstacles(gpu=True) == [
        "there is no compiler (gcc or clang, or one named by CC)",
        f"Python's headers are missing ({tmp_path / 'Python.h'}; install python3-dev)",
        "triton is not installed", "the GPU is too old",
    ]  # fmt: skip
    assert len(machine.find_obstacles(gpu=False)) == 2
    monkeypatch.setenv("CXX", "icpx")
    Path(tmp_path / "Python.h").touch()
    assert machine.find_obstacles(gpu=False) == []


def refuse(how, accumulate=1, unit="image", task=Classifier):
    trainer = {"accelerator": "auto", "accumulate_grad_batches": accumulate}
    parts = {"data": {"unit": unit}, "trainer": trainer}
    check_compile(OmegaConf.create({"compile": how} | parts), task)


def test_what_cannot_be_compiled_is_refused(monkeypatch):
    monkeypatch.setattr(machine, "find_obstacles", lambda gpu: ["there is no compiler"])
    refuse("auto")
    refuse(False)
    with pytest.raises(MedvisionError, match=r"compile=true cannot be: there is no compiler"):
        refuse(True)
    monkeypatch.setattr(machine, "find_obstacles", lambda gpu: [])
    refuse(True, 2, "series", Adversarial)
    with pytest.raises(MedvisionError, match=r"CUDA graphs need a GPU.*say compile=false"):
        refuse("reduce-overhead")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    refuse("reduce-overhead")
    with pytest.raises(MedvisionError, match=r"series differ in length.*GAN take turns.*add up"):
        refuse("reduce-overhead", 2, "series", Adversarial)


def test_a_compiled_classifier_learns_the_same(tmp_path, eager):
    batches = images(14)  # the last one is smaller
    options = {"frozen_epochs": 1, "mixup": 0.4}
    plain = fit(classifier(**options), batches, tmp_path)
    task = classifier(**options)
    compiled = fit(task, batches, tmp_path, how=True)
    assert task.net._compiled_call_impl is not None
    assert count_graphs() > 1
    assert_same(compiled, plain)


def test_the_mean_of_a_compiled_nets_weights_is_a_plain_net(tmp_path, eager):
    batches, means = images(12), [Averaging(decay=0.7), Averaging(decay=0.7)]
    plain = fit(classifier(), batches, tmp_path, callbacks=means[:1])
    assert_same(fit(classifier(), batches, tmp_path, callbacks=means[1:], how=True), plain)
    assert means[1]._average_model.module.net._compiled_call_impl is None


def test_of_a_net_of_series_the_encoder_is_compiled_once_for_all_lengths(tmp_path, eager):
    batches = [series(3, 1, 2), series(5, 4)]
    plain = fit(sequence(), batches, tmp_path)
    before, task = count_graphs(), sequence()
    compiled = fit(task, batches, tmp_path, how=True)
    assert (task.net._compiled_call_impl, task.net.cell._compiled_call_impl) == (None, None)
    assert task.net.encoder._compiled_call_impl is not None
    assert count_graphs() - before == 2  # in training and in validation
    assert_same(compiled, plain)


def test_what_is_encoded_once_is_not_compiled():
    task = sequence(frozen_epochs=-1, cache_features=True)
    assert list(task.compiled()) == []


def test_a_compiled_gan_learns_the_same(tmp_path, eager):
    batches = images(24, channels=1, size=32, batch=8)
    plain = fit(gan(), batches, tmp_path)
    task = gan()
    assert_same(fit(task, batches, tmp_path, how=True), plain)
    assert task.critic._compiled_call_impl is not None
    assert task.ema._compiled_call_impl is None


def test_penalties_are_not_taken_through_what_is_compiled(eager, monkeypatch):
    """Torch refuses a second derivative of what it has differentiated ahead of time."""
    monkeypatch.setattr(machine, "BACKEND", "aot_eager")
    (batch,) = images(4, channels=1, size=32)
    real, fake, label = batch["image"], batch["image"].flip(0), batch["label"]
    plain, task = (gan(gradient_penalty=10.0) for _ in range(2))
    compile_nets(task, True)
    for each in (plain, task):
        torch.manual_seed(0)
        each._penalise(real, fake, label).backward()
    for one, other in zip(task.critic.parameters(), plain.critic.parameters(), strict=True):
        assert one.grad is other.grad is None or torch.equal(one.grad, other.grad)
    image = real.clone().requires_grad_()
    penalty = losses.zero_centred_penalty(task.critic(image, label), image)
    with pytest.raises(RuntimeError, match="double backward"):
        penalty.backward()


@pytest.mark.slow
def test_penalties_stand_beside_compiled_losses(tmp_path, eager, monkeypatch):
    monkeypatch.setattr(machine, "BACKEND", "aot_eager")
    batches = images(8, channels=1, size=32, batch=8)
    plain = fit(gan(gradient_penalty=10.0), batches, tmp_path, 1)
    compiled = fit(gan(gradient_penalty=10.0), batches, tmp_path, 1, how=True)
    for name, value in compiled.items():
        torch.testing.assert_close(value, plain[name], msg=name)


@pytest.mark.slow
def test_warm_up_and_batch_norm_are_compiled_as_well(tmp_path, eager):
    batches = images(24, channels=1, size=32, batch=8)
    plain = fit(gan("batch", warmup_kimg=0.06), batches, tmp_path, 4)
    assert_same(fit(gan("batch", warmup_kimg=0.06), batches, tmp_path, 4, how=True), plain)


@pytest.mark.parametrize(("norm", "sides"), [("none", 2), ("batch", 2), ("spectral", 1)])
def test_a_critic_with_spectral_norm_is_not_compiled(norm, sides):
    task = gan(norm)
    assert [net for net, _ in task.compiled()] == [task.generator, task.critic][:sides]


def test_a_compiled_net_is_copied_stored_and_taken_apart_as_a_plain_one(eager):
    task = classifier()
    net, image = task.net, torch.rand(2, 3, 8, 8)
    names = list(net.state_dict())
    compile_nets(task, True)
    expected = net.eval()(image)
    assert list(net.state_dict()) == names
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.copy(net)):
        assert twin._compiled_call_impl is None
        assert torch.equal(twin(image), expected)
    part, width = encoder(net)
    assert part(image).shape == (2, width)
    net.load_state_dict({name: torch.zeros_like(value) for name, value in net.state_dict().items()})
    assert not net(image).any()
    assert net.train().training
    assert torch.equal(net.stem[1].running_mean, torch.zeros(4))
    net(image)
    assert net.stem[1].num_batches_tracked == 1


def test_a_model_is_frozen_as_a_plain_net(phantom, tmp_path, eager):
    register_resolvers()
    GlobalHydra.instance().clear()
    words = (
        "name=tested", "data=manifest", f"data.manifest='{phantom}'", "data.workers=1",
        "data.reader.size=[16,16]", "model.net.widths=[4]", "trainer.max_epochs=1",
    )  # fmt: skip
    models = []
    for how in ("true", "false"):
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            job = prepare_job(compose("train", [*words, f"compile={how}"]))
        run = Run(tmp_path / how)
        _, task, context, _ = run_training(run, job, "new")
        freeze_model(run, job, task, context)
        assert (task.net._compiled_call_impl is None) == (how == "false")
        models.append(load_model(run.model))
    compiled, plain = models
    assert_same(compiled.net.state_dict(), plain.net.state_dict())
    assert (compiled.temperature, compiled.threshold) == (plain.temperature, plain.threshold)


@pytest.mark.slow
def test_a_compiled_run_is_another_run_with_the_same_model(tiny, trained, apart, medvision, eager):
    done = medvision(*tiny, "name=tiny", "compile=true")
    assert done.status == 0, done.err
    (folder,) = apart.glob("tiny/*compile=true*/")
    assert folder.name[-8:] != trained.name[-8:]
    assert Run(folder).record["compile"] is True
    compiled, plain = (load_model(each / "model.pt") for each in (folder, trained))
    assert_same(compiled.net.state_dict(), plain.net.state_dict())
    assert (compiled.temperature, compiled.threshold) == (plain.temperature, plain.threshold)
