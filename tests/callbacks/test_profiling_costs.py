from types import SimpleNamespace

import pytest

from medvision.callbacks.profiling import (
    BACKWARD,
    FORWARD,
    keep_steps,
    measure_busy,
    rank_operators,
)


def event(name, start, end, device="CPU", named=False, own=0.0, on_device=0.0):
    """An event of a trace, in µs."""
    return SimpleNamespace(
        name=name, time_range=SimpleNamespace(start=start, end=end), is_user_annotation=named,
        device_type=SimpleNamespace(name=device), self_cpu_time_total=own,
        self_device_time_total=on_device,
    )  # fmt: skip


STEPS = [
    event(FORWARD, 0, 1000, named=True),
    event(BACKWARD, 1000, 3000, named=True),
    event(FORWARD, 9000, 10000, named=True),
]


def test_what_lies_between_two_steps_is_left_out():
    inside = [event("conv", 0, 500), event("mm", 2999, 3100), event("conv", 9000, 9500)]
    between = [event("conv", 3000, 4000), event("conv", 8999, 9001), event("conv", 10000, 10001)]
    on_device = event(FORWARD, 3000, 9000, device="CUDA", named=True)  # the device's view of it
    kept, spent = keep_steps([*STEPS, *between, on_device, *inside])
    assert kept == inside
    assert spent == 4.0


def test_operators_are_ranked_by_what_they_cost_themselves():
    events = [
        event("a", 0, 1, own=1000, on_device=6000), event("b", 0, 1, own=5000),
        event("a", 0, 1, own=3000), event("kernel", 0, 1, "CUDA", own=9000, on_device=9000),
    ]  # fmt: skip
    assert rank_operators(events, 2, on_cuda=False) == [("b", 2.5, 0.5), ("a", 2.0, 1.0)]
    assert rank_operators(events, 2, on_cuda=True) == [("a", 3.0, 1.0), ("b", 0.0, 0.5)]
    assert rank_operators(events, 2, on_cuda=False, count=1) == [("b", 2.5, 0.5)]


def test_a_device_is_busy_once_however_many_streams_run():
    kernels = [(0, 2000), (500, 1000), (1500, 3000), (4000, 4500)]
    events = [event("k", *span, device="CUDA") for span in kernels] + [event("op", 0, 9000)]
    assert measure_busy(events) == pytest.approx(3.5)
    assert measure_busy([]) == 0.0
