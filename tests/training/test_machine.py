import logging
import sys
import warnings

import pytest
import torch

from medvision.training import machine
from medvision.training.machine import choose_precision, cpu_has_bf16, quieten, set_allocator


def test_the_systems_allocator_is_left_alone(monkeypatch):
    def refuse(*_):
        raise AssertionError("called")

    monkeypatch.setattr(machine.ctypes, "CDLL", refuse)
    assert not set_allocator("system")


@pytest.mark.parametrize(("platform", "done"), [("linux", True), ("darwin", False)])
def test_freed_memory_is_kept_where_glibc_can(monkeypatch, platform, done):
    calls = []

    def mallopt(option, value):
        calls.append((option, value))
        return 1

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: type("C", (), {"mallopt": mallopt}))
    assert set_allocator("keep") is done
    assert calls == ([(-4, 0), (-1, 2**31 - 1)] if done else [])


def test_another_libc_has_no_such_switch(monkeypatch):
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: object())
    monkeypatch.setattr(sys, "platform", "linux")
    assert set_allocator("keep") is False


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("gpu", [True, False])
def test_precision_follows_what_computes(monkeypatch, bf16, gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    # Where there is a GPU, the processor has no say.
    monkeypatch.setattr(machine, "cpu_has_bf16", lambda: bf16 != gpu)
    assert choose_precision("auto") == ("bf16-mixed" if bf16 else "32-true")
    assert choose_precision("16-mixed") == "16-mixed"
    # The processor of a machine with a GPU may be asked for.
    here = bf16 if not gpu else not bf16
    assert choose_precision("auto", "cpu") == ("bf16-mixed" if here else "32-true")


def test_a_torch_without_the_probe_has_no_bf16(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert cpu_has_bf16() is False
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert cpu_has_bf16() is True


def test_only_warnings_nobody_can_act_on_are_silenced():
    level = logging.getLogger("pytorch_lightning").level
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            quieten()
            warnings.warn("The 'train_dataloader' does not have many workers", stacklevel=1)
            warnings.warn("your data are odd", stacklevel=1)
        assert [str(w.message) for w in heard] == ["your data are odd"]
        assert logging.getLogger("pytorch_lightning").level == logging.WARNING
    finally:
        logging.getLogger("pytorch_lightning").setLevel(level)
