"""Tests of what the bench of experiments/speed measures and says."""

import json
import runpy
import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[1] / "experiments" / "speed"


def net(name, epoch, ceiling, peers=None):
    ours = {"epoch": epoch, "stepping": 0.9 * epoch, "cold": 30.0, "peak_mb": 2048.0}
    bare = {"epoch": ceiling, "step": 0.085 * ceiling, "steps": 10, "batch": 0.001,
            "images": 320, "batch_size": 32}  # fmt: skip
    return {"net": name, "ours": ours, "ceiling": bare} | ({"peers": peers} if peers else {})


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page's script, writing into a folder of the test."""
    script = runpy.run_path(str(STUDY / "page.py"))
    (tmp_path / "speed").mkdir()
    text = "**Question.** How fast?\n\n<!-- results -->\n<!-- /results -->\n"
    (tmp_path / "speed" / "README.md").write_text(text)
    monkeypatch.setitem(script["main"].__globals__, "HERE", tmp_path / "speed")
    monkeypatch.syspath_prepend(str(STUDY.parent))
    import ledger

    monkeypatch.setattr(ledger, "fill_ledgers", lambda: None)
    return script


def write(page, folder, **results):
    (folder / "results.json").write_text(json.dumps(results))
    page["main"](str(folder))
    return (folder / "speed" / "README.md").read_text()


def test_ratios_are_of_the_same_round_and_misses_are_told(page, tmp_path):
    slow = {"Keras script": {"rate": 40.0, "peak_mb": 4096.0}}
    nets = [net("article, 1 channel", 2.0, 1.0, slow), net("article, 1 channel", 4.0, 3.9, slow),
            net("article, 3 channels", 4.0, 3.9, slow), net("tiny", 0.062, 0.010)]  # fmt: skip
    text = write(page, tmp_path, nets=nets)
    # epoch ÷ ceiling: 1/2 and 3.9/4, so .74 in the middle; 320 images in 4 and 2 s against 40.
    assert "article, 1 channel, epoch ÷ ceiling 0.74 (≥ 0.97: missed)" in text
    assert "article, 3 channels, epoch ÷ ceiling 0.97 (≥ 0.97: reached)" in text
    assert "**0.74 (0.50–0.97)**" in text
    assert "| Keras script | 40.0 | **3.00 (2.00–4.00)** | 40.0 | **2.00** | 4.0 |" in text
    # 55.8 ms for 10 steps, less .85 of the net and 1 of the data path each.
    assert "cost **3.7 ms** a step beside net and data path (goal ≤ 3 ms: missed)" in text
    assert "From 4 measurements" in text


def test_start_data_sweep_and_growth_are_told(page, tmp_path):
    text = write(
        page, tmp_path,
        start=[{"import": 5, "help": 0.1, "first": 6}, {"import": 4, "help": 0.4, "first": 6}],
        data=[{"who": who, "channels": c, "rate": rate} for c in (1, 3)
              for who, rate in (("medvision", 3000.0), ("Lightning + MONAI cache", 150.0))],
        sweep=[{"cells": 20, "seconds": 120.0, "fitted": 20.0}],
        growth=[{"images": 500, "side": 100, "cold": 9.0, "epoch": 1.0, "peak_mb": 1024.0},
                {"series": 4, "slices": 10, "cold": 9.0, "epoch": 1.0, "peak_mb": 1024.0}],
    )  # fmt: skip
    assert "| 1.35 (1.20–1.50) | ≤ 1.3: missed |" in text
    assert "| 0.25 | ≤ 0.3: reached |" in text
    assert "data path ÷ MONAI 20.00 (≥ 15: reached)" in text
    assert "**5.0 s a cell**" in text
    assert "| 500 images of 100² | 5 M | 9.0 | 1.00 | 200.0 | 1.00 |" in text
    assert "| 4 series of 10 slices of 96² | 0 M |" in text


def test_a_command_is_watched_from_outside():
    measure = runpy.run_path(str(STUDY / "measure.py"))
    held = "import time; kept = bytearray(80_000_000); time.sleep(1.2); print('done')"
    ran = measure["run"]([sys.executable, "-c", held])
    assert ran.output == "done\n"
    assert ran.seconds > 1.2
    if Path("/proc").exists():
        assert 80 < ran.peak_mb < 200
    with pytest.raises(SystemExit, match="nothing of that kind"):
        measure["run"]([sys.executable, "-c", "raise ValueError('nothing of that kind')"])
