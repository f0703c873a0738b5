from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import RichProgressBar

from medvision.callbacks.progress import EpochLines, choose_progress


def end(number, main=True, **metrics):
    values = {name.replace("_", "/"): torch.tensor(value) for name, value in metrics.items()}
    return SimpleNamespace(
        current_epoch=number, max_epochs=12, callback_metrics=values, is_global_zero=main
    )


def test_a_line_an_epoch_with_losses_and_monitor(capsys):
    EpochLines("val/auroc").on_train_epoch_end(
        end(2, train_loss=0.5, val_loss=0.25, val_auroc=0.91234, val_f1=0.1), None
    )
    line = "epoch   2 of 0–11  train/loss 0.5000  val/loss 0.2500  val/auroc 0.9123  0 s\n"
    assert capsys.readouterr().out == line


def test_a_monitored_loss_is_told_once(capsys):
    EpochLines("val/loss").on_train_epoch_end(end(0, train_loss=0.5, val_loss=0.25), None)
    assert capsys.readouterr().out.count("val/loss") == 1


def test_only_the_first_process_prints(capsys):
    EpochLines("val/loss").on_train_epoch_end(end(0, main=False, val_loss=0.25), None)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("bar", [True, False])
def test_a_bar_is_a_choice_and_lines_are_for_all(bar):
    chosen = choose_progress("val/loss", bar)
    assert [isinstance(c, RichProgressBar) for c in chosen] == ([True] if bar else []) + [False]
    assert isinstance(chosen[-1], EpochLines)
