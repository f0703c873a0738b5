from functools import partial

import pytest
import pytorch_lightning as lightning
import torch
from torch import nn

from medvision import losses
from medvision.augment.draw import Augment
from medvision.augment.policy import DiffAugment
from medvision.callbacks.replay import Replay
from medvision.errors import MedvisionError
from medvision.nets.dcgan import Critic, Generator
from medvision.tasks.generation.task import Adversarial, frozen

ADAM = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
FULL = {
    "loss": losses.relativistic, "r1": 0.1, "r2": 0.1, "penalty_every": 2, "final_lr": 0.1,
    "policy": DiffAugment(Augment(shift_x=0.1, brightness=0.1)), "policy_kimg": 0.1,
    "warmup_kimg": 0.2, "ema_kimg": 0.1, "clip": 1.0,
}  # fmt: skip


def make(norm="none", **more):
    torch.manual_seed(0)
    settings = {"loss": losses.non_saturating, "kimg": 0.4} | more
    return Adversarial(
        Generator(32, 1, 2, latent=8, width=4),
        Critic(32, 1, 2, width=4, norm=norm),
        optimizer=ADAM, critic_optimizer=ADAM, **settings,
    )  # fmt: skip


def batches(size=16):
    random = torch.Generator().manual_seed(1)
    return [
        {"image": torch.rand(size, 1, 32, 32, generator=random), "label": torch.arange(size) % 2}
        for _ in range(3)
    ]


def fit(task, epochs, folder=None, resume=None, precision="32-true", size=16):
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", precision=precision, logger=False,
        callbacks=[Replay(0)], default_root_dir=folder, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(batches(size), batch_size=None)
    trainer.fit(task, loader, loader, ckpt_path=resume, weights_only=True)
    return trainer


def state(task):
    return {name: value.clone() for name, value in task.state_dict().items()}


@pytest.mark.parametrize("name", ["non_saturating", "hinge", "least_squares", "relativistic"])
@pytest.mark.parametrize("norm", ["batch", "spectral", "none"])
def test_both_nets_and_the_average_learn(name, norm):
    task = make(norm, loss=getattr(losses, name))
    before = state(task)
    trainer = fit(task, 2)
    after = state(task)
    assert trainer.global_step == 12  # Lightning counts both sides
    assert (task.steps, task.seen) == (6, 96)
    for net in ("generator", "critic", "ema"):
        # A constant added to all logits is nothing to losses of their difference.
        weights = [n for n, p in getattr(task, net).named_parameters() if p.ndim > 1]
        assert weights
        assert all(not torch.equal(after[f"{net}.{n}"], before[f"{net}.{n}"]) for n in weights)


@pytest.mark.parametrize("norm", ["batch", "spectral", "none"])
def test_batches_of_one_are_taken(norm):
    task = make(norm, **FULL)
    before = state(task)
    trainer = fit(task, 1, size=1)
    assert (task.steps, task.seen) == (3, 3)
    assert torch.isfinite(trainer.callback_metrics["train/critic_loss"])
    assert not torch.equal(task.ema.layers[0].weight, before["ema.layers.0.weight"])


def test_wasserstein_takes_its_penalty():
    task = make(loss=losses.wasserstein, gradient_penalty=10.0)
    trainer = fit(task, 1)
    assert torch.isfinite(trainer.callback_metrics["train/critic_loss"])


def test_resumed_is_uninterrupted_bit_for_bit(tmp_path):
    whole = make(**FULL)
    fit(whole, 4)
    first = make(**FULL)
    fit(first, 2).save_checkpoint(tmp_path / "last.ckpt")
    rest = make(**FULL)
    fit(rest, 4, tmp_path, tmp_path / "last.ckpt")
    assert (rest.steps, rest.seen) == (whole.steps, whole.seen) == (12, 192)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


def test_settings_change_the_training():
    plain = fit(make(loss=losses.relativistic), 2).callback_metrics["train/generator_loss"]
    for key in ("r1", "policy", "warmup_kimg", "final_lr", "clip"):
        changed = {"policy_kimg": 0.0, "penalty_every": 2, key: FULL[key]}
        if key == "clip":
            changed["clip"] = 1e-4
        task = make(loss=losses.relativistic, **changed)
        assert fit(task, 2).callback_metrics["train/generator_loss"] != plain, key


def test_class_fades_in():
    task = make(warmup_kimg=0.2)
    told = []
    for task.seen in (0, 50, 100, 150, 200, 999):
        told.append(task.condition)
    assert told == [0, 0, 0, 0.5, 1, 1]
    assert make().condition == 1


def test_rates_fall_along_a_half_cosine():
    task = make(final_lr=0.1, kimg=0.096)
    trainer = fit(task, 2)
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    share = 80 / 96  # seen before the last step
    expected = 2e-4 * (0.1 + 0.9 * (1 + torch.cos(torch.tensor(torch.pi * share))) / 2)
    assert rate == pytest.approx(expected.item())


def test_average_is_what_its_half_life_says():
    task = make(ema_kimg=0.016)
    task.seen = 10_000
    nn.init.zeros_(task.ema.layers[0].weight)
    nn.init.ones_(task.generator.layers[0].weight)
    task._average(16)
    torch.testing.assert_close(task.ema.layers[0].weight, torch.full_like(
        task.ema.layers[0].weight, 0.5))  # fmt: skip


def test_samples_are_what_eight_bits_keep():
    task = make()
    noise, label = torch.randn(5, 8), torch.tensor([0, 1, 0, 1, 1])
    image = task.eval().sample(noise, label, size=2)
    assert image.shape == (5, 1, 32, 32)
    assert torch.equal((image * 255).round() / 255, image)
    assert image.min() >= 0
    assert image.max() <= 1
    torch.testing.assert_close(image, task(noise, label).detach(), atol=0.501 / 255, rtol=0)


def test_divergence_is_told_in_one_sentence():
    task = make()
    nn.init.constant_(task.critic.head.weight, float("nan"))
    with pytest.raises(MedvisionError, match="not a number after 48 images; lower"):
        fit(task, 1)


def test_penalties_are_taken_in_float32(monkeypatch):
    task, seen = make(**FULL), []
    plain = task.critic.forward
    monkeypatch.setattr(task.critic, "forward", lambda *a: seen.append((o := plain(*a)).dtype) or o)
    fit(task, 1, precision="bf16-mixed")
    assert set(seen) == {torch.bfloat16, torch.float32}


def test_frozen_lets_gradients_through():
    net, image = nn.Linear(3, 1), torch.rand(2, 3, requires_grad=True)
    with frozen(net):
        net(image).sum().backward()
    assert image.grad is not None
    assert net.weight.grad is None
    assert net.weight.requires_grad


def test_after_a_failed_gate_no_command_is_offered_that_would_be_refused():
    assert Adversarial.next_step({"gate": {"passed": True}}).startswith("medvision generate")
    assert "medvision generate" not in Adversarial.next_step({"gate": {"passed": False}})
    assert "medvision generate" not in Adversarial.next_step({})
