from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medvision.tasks.generation.callback import FidelityCallback, pick_curves, tile

SCORES = {
    "gate_score": 0.4, "coverage": {"relative": 0.5}, "diversity": {"relative": 0.9},
    "label_agreement": None, "copying": {"copied": 0.1}, "distinct": {"relative": 1.0},
}  # fmt: skip


def test_what_was_not_judged_is_no_curve():
    told = {"gate_score": 0.4, "coverage": 0.5, "diversity": 0.9, "copied": 0.1}
    assert pick_curves(SCORES) == told
    assert pick_curves(SCORES | {"label_agreement": {"relative": 0.8}})["label_agreement"] == 0.8


def test_tile_lays_each_class_out_in_its_rows():
    label = torch.arange(48) % 2
    image = label.float()[:, None, None, None].expand(48, 1, 4, 4) / 2
    grid = tile(image, label, columns=10, rows=2)
    assert grid.shape == (4 * 6, 10 * 6, 3)
    assert (grid[1:5, 1:5] == 0).all()
    assert (grid[13:17, 55:59] == 128).all()
    assert grid.dtype == np.uint8


@pytest.mark.parametrize(("patience", "stopped"), [(2, True), (3, False), (0, False)])
def test_alarm_ends_what_keeps_looking_collapsed(patience, stopped, tmp_path, capsys):
    trainer = SimpleNamespace(should_stop=False)
    watch = FidelityCallback(None, torch.zeros(1), torch.zeros(1), tmp_path, patience, grace=0.25)
    watch._watch(trainer, "collapsed: one image", 1000, 0.1)  # too early to say
    assert capsys.readouterr().out == ""
    for reason in ("collapsed: one image", None, "collapsed: one image", "collapsed: one image"):
        assert not trainer.should_stop
        watch._watch(trainer, reason, 8000, 0.5)
    out = capsys.readouterr().out
    assert trainer.should_stop is stopped
    assert out.count("alarm at 8 kimg: collapsed") == 3
    assert ("stopped: 2 epochs in a row" in out) is stopped


def test_alarms_in_a_row_survive_a_restart(tmp_path):
    one = FidelityCallback(None, torch.zeros(1), torch.zeros(1), tmp_path)
    one.alarms = 2
    other = FidelityCallback(None, torch.zeros(1), torch.zeros(1), tmp_path)
    other.load_state_dict(one.state_dict())
    assert other.alarms == 2
