"""Where a step goes is found where it was planted."""

import json
import re
import socket
import sys
import time
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import pytorch_lightning as lightning
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from medvision import losses
from medvision.callbacks.profiling import BACKWARD, CLIPPING, FORWARD, OPTIMISER, PARTS, Profile
from medvision.callbacks.replay import Replay
from medvision.data.batches.datamodule import ImageDataModule
from medvision.errors import MedvisionError
from medvision.tasks.classification.task import Classifier
from medvision.tasks.generation import task as generation
from medvision.tasks.generation.task import Adversarial
from medvision.tasks.task import Task

pytestmark = pytest.mark.usefixtures("dots")

NAP = 0.012


def nap(*_):
    time.sleep(NAP)


def rested(function):
    def first_rest(*args, **more):
        nap()
        return function(*args, **more)

    return first_rest


def read_parts(folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """The ms and the shares of the page's table."""
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+) % \|$", page(folder), re.MULTILINE)
    return {k: float(ms) for k, ms, _ in rows}, {k: float(share) for k, _, share in rows}


def page(folder: Path) -> str:
    return (folder / "profile.md").read_text()


def read_trace(folder: Path):
    return json.loads((folder / "steps.pt.trace.json").read_text())


@pytest.fixture(scope="module")
def profiled(tiny, medvision, tmp_path_factory):
    """A run of three epochs of seven batches, with a nap in each part of a step."""
    top = tmp_path_factory.mktemp("profiled")
    compare = Classifier.loss

    def compare_and_nap(self, answer, batch):
        loss = compare(self, answer, batch)
        nap()
        if loss.requires_grad:
            loss.register_hook(nap)
        return loss

    stepping = register_optimizer_step_pre_hook(nap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVISION_RUNS", str(top))
        patch.setattr(Classifier, "loss", compare_and_nap)
        for owner, hook in (
            (ImageDataModule, "on_before_batch_transfer"),
            (ImageDataModule, "on_after_batch_transfer"),
            (Task, "configure_gradient_clipping"),
            (Replay, "on_train_batch_start"),
        ):
            patch.setattr(owner, hook, rested(getattr(owner, hook)))
        done = medvision(*tiny, "name=slow", "trainer=profile")
    stepping.remove()
    assert done.status == 0, done.err
    (folder,) = (path for path in (top / "slow").iterdir() if path.is_dir())
    return folder, done


def test_a_dear_part_is_found_in_its_row(profiled):
    parts, _ = read_parts(profiled[0])
    assert list(parts) == [*PARTS, "a step (mean)"]
    # Each row has its own nap; a nap in a wrong row is missing in another.
    assert min(parts[part] for part in PARTS) >= 1000 * NAP
    assert parts["a step (mean)"] >= 7 * 1000 * NAP


def test_parts_add_up_to_a_step(profiled):
    parts, shares = read_parts(profiled[0])
    assert sum(parts[p] for p in PARTS) == pytest.approx(parts["a step (mean)"], abs=0.04)
    assert sum(shares[p] for p in PARTS) == pytest.approx(100, abs=0.4)
    assert shares["a step (mean)"] == 100


def test_the_page_says_what_was_measured(profiled):
    folder, done = profiled
    text = page(folder)
    facts = ("machine: ", "device: cpu", "precision: ", "threads: 1", "batch: 16 × 1 × 32 × 32",
             "peak memory: ")  # fmt: skip
    assert all(f"\n- {fact}" in text for fact in facts)
    found = re.search(r"([\d.]+) ms a step \(median of 8: ([\d.]+) to ([\d.]+)\), ([\d.]+) images "
                      "a second on average", text)  # fmt: skip
    middle, least, most, rate = map(float, found.groups())
    assert 7 * 1000 * NAP <= least <= middle <= most
    assert rate == pytest.approx(16_000 / read_parts(folder)[0]["a step (mean)"], rel=0.01)
    assert found.group() in done.out
    assert str(folder / "profile.md") in done.out


def test_the_dearest_operators_are_ten_of_torch_in_order(profiled):
    table = page(profiled[0]).partition("## The dearest operators")[2].split("```")[1]
    rows = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines() if "%  " in line]
    head, *rows = rows
    assert (head[2], len(rows)) == ("Self CPU", 10)
    units = {"us": 1, "ms": 1e3, "s": 1e6}
    spent = [re.fullmatch(r"([\d.]+)(us|ms|s)", row[2]).groups() for row in rows]
    times = [float(number) * units[unit] for number, unit in spent]
    assert times == sorted(times, reverse=True)
    assert sum(float(row[1].rstrip("%")) for row in rows) <= 100.1
    names = [row[0] for row in rows]
    assert "aten::convolution_backward" in names
    assert not set(names) & {*PARTS, "ProfilerStep*"}


def test_the_trace_names_the_parts_and_nothing_private(profiled):
    folder, _ = profiled
    trace = read_trace(folder)
    spans = [e for e in trace["traceEvents"] if e.get("cat") == "user_annotation"]
    steps = [e["name"] for e in spans if e["name"].startswith("ProfilerStep#")]
    assert steps == ["ProfilerStep#13", "ProfilerStep#14", "ProfilerStep#15"]
    parts = sorted((e["ts"], e["ts"] + e["dur"]) for e in spans if e["name"] in PARTS)
    assert {e["name"] for e in spans} >= set(PARTS)
    assert all(end <= start for (_, end), (start, _) in pairwise(parts))
    text = (folder / "steps.pt.trace.json").read_text()
    patients = set(pd.read_csv(folder / "manifest.csv")["patient"])
    places = {str(folder), str(Path.cwd()), sys.prefix, f'"{socket.gethostname()}"'}
    assert len(patients) == 40
    assert not [word for word in places | patients if word in text]


def test_the_test_part_stays_closed(profiled):
    assert [p.stem for p in (profiled[0] / "predictions").glob("*.csv")] == ["val"]


def test_a_plain_run_has_no_profile(trained):
    assert not (trained / "profile.md").exists()
    assert not [*trained.rglob("*.trace.json*")]


class Batches(torch.utils.data.Dataset):
    """Tiny batches as the datamodule makes them."""

    def __init__(self, count, **more):
        self.count, self.more = count, more

    def __len__(self):
        return self.count

    def __getitem__(self, place):
        label = torch.arange(4) % 2
        return {"image": torch.rand(4, 1, 8, 8), "label": label, "index": label, **self.more}


def fit(task, profile, folder, steps, accelerator="cpu", **batch):
    trainer = lightning.Trainer(
        max_epochs=1, accelerator=accelerator, devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        default_root_dir=folder, callbacks=[profile],
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(Batches(steps, **batch), batch_size=None)
    trainer.fit(task, loader)
    assert not torch.autograd._profiler_enabled()


class Paint(nn.Module):
    """A generator that naps."""

    latent = 3

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 64)

    def forward(self, noise, label, condition):
        nap()
        return torch.tanh(self.net(noise)).reshape(-1, 1, 8, 8)


class Judge(nn.Module):
    """A critic whose backward naps, once in each of its two and once in the generator's."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(64, 1)

    def forward(self, image, label, condition):
        logit = self.net(image.flatten(1))[:, 0]
        logit.register_hook(nap)
        return logit


def test_a_task_that_steps_by_hand_is_cut_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "clip_grad_norm_", rested(generation.clip_grad_norm_))
    adam = partial(torch.optim.Adam, lr=1e-3)
    task = Adversarial(Paint(), Judge(), loss=losses.hinge, optimizer=adam, critic_optimizer=adam,
                       kimg=1)  # fmt: skip
    stepping = register_optimizer_step_pre_hook(nap)
    fit(task, Profile(warmup=1, timed=2, traced=1), tmp_path, 5)
    stepping.remove()
    parts, shares = read_parts(tmp_path)
    for part, count in {FORWARD: 1, BACKWARD: 3, CLIPPING: 2, OPTIMISER: 2}.items():
        assert parts[part] >= 1000 * NAP * count, part  # one in a wrong row is missing in another
    assert sum(shares[p] for p in PARTS) == pytest.approx(100, abs=0.4)
    assert "is of both nets" in page(tmp_path)


class Learner(lightning.LightningModule):
    """The least task there is; fails at a step if told so."""

    def __init__(self, fails_at=None):
        super().__init__()
        self.net, self.fails_at = nn.Linear(64, 1), fails_at

    def training_step(self, batch, batch_idx):
        if batch_idx == self.fails_at:
            raise RuntimeError("killed")
        return self.net(batch["image"].flatten(1)).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_series_are_counted_as_series(tmp_path):
    fit(Learner(), Profile(1, 2, 1), tmp_path, 5, length=torch.ones(4))
    assert "series a second" in page(tmp_path)


@pytest.mark.parametrize("steps", [1, 3, 4])  # stopped before, while tracing starts, in a trace
def test_too_few_steps_give_no_profile_and_say_so(steps, tmp_path, capsys):
    fit(Learner(), Profile(warmup=1, timed=2, traced=1), tmp_path, steps)
    told = f"note: no profile; it takes 5 steps at a stretch, not {steps}: raise trainer.max_steps"
    assert told in capsys.readouterr().out
    assert not [*tmp_path.rglob("*")]


@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_a_run_that_fails_leaves_no_trace_running(step, tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        fit(Learner(fails_at=step), Profile(1, 2, 2), tmp_path, 7)
    assert not torch.autograd._profiler_enabled()
    fit(Learner(), Profile(1, 2, 2), tmp_path, 7)  # the next job of a sweep
    assert page(tmp_path)


SIGNS: Mapping[str, tuple[str, ...]] = {
    "[_TrainingEpochLoop].train_dataloader_next": (),
    "[Strategy]S.batch_to_device": (),
    "[Strategy]S.training_step": (),
    "[Callback]C.on_train_batch_end": (),
    "[LightningModule]L.on_train_batch_end": (),
}


def test_parts_wait_for_a_device_in_the_second_half(tmp_path, monkeypatch):
    """Free steps wait at their ends alone, so that a device and its host work side by side."""
    waits = []
    trainer = SimpleNamespace(is_global_zero=True, default_root_dir=tmp_path, precision="32-true")
    task = SimpleNamespace(device=torch.device("meta"), automatic_optimization=True)
    profile = Profile(warmup=1, timed=4, traced=2)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: waits[-1].append(device))
    profile.on_train_start(trainer, task)
    for _ in range(8):
        waits.append([])
        for action in SIGNS:
            with trainer.profiler.profile(action):
                pass
        profile.on_train_batch_start(trainer, task, Batches(1)[0], 0)
    waits.append([])
    trainer.profiler.start("run_training_epoch")  # whatever comes next ends a step
    profile.on_train_end(trainer, task)
    # What ends a step is the start of the next, and is counted there.
    assert [len(each) for each in waits] == [0, 1, 1, 5, 5, 1, 1, 1, 1]
    assert "(median of 2: " in page(tmp_path)
    assert "each part waits" in page(tmp_path)


@pytest.mark.parametrize("counts", [(0, 8, 3), (4, 1, 3), (4, 8, 0)])
def test_counts_that_measure_nothing_are_refused(counts):
    with pytest.raises(MedvisionError, match="choose at least 1, 2 and 1"):
        Profile(*counts)


@pytest.mark.gpu
def test_a_device_is_named_with_its_busy_share(tmp_path):
    fit(Learner(), Profile(1, 4, 2), tmp_path, 9, accelerator="gpu")
    text = page(tmp_path)
    assert f"device: {torch.cuda.get_device_name()}" in text
    assert re.search(r"peak memory of the device: \d+ MB", text)
    assert "Self CUDA" in text
    assert any(e.get("cat") == "kernel" for e in read_trace(tmp_path)["traceEvents"])
