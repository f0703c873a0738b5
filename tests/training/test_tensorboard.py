import re

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture(scope="module")
def board(trained):
    """What TensorBoard shows of a run of three epochs."""
    read = EventAccumulator(str(trained), {"scalars": 0, "images": 0})
    read.Reload()
    return read


def test_the_first_screen_shows_curves(board):
    """Groups of tags stand in the order of their names, and the first two are open."""
    tags = [*board.Tags()["scalars"], *board.Tags()["images"]]
    groups = sorted({tag.partition("/")[0] for tag in tags})
    assert groups == ["train", "val", "visual", "weights_kept"]
    over_epochs = [tag for tag in tags if re.match("(train|val)/(?!.*_step$)", tag)]
    assert {"train/loss", "val/loss", "val/auroc", "train/lr"} < set(over_epochs)
    for tag in over_epochs:
        assert [event.step for event in board.Scalars(tag)] == [0, 1, 2], tag


def test_scores_of_the_kept_weights_are_columns_of_hparams(board):
    tags = [tag for tag in board.Tags()["scalars"] if tag.startswith("weights_kept/")]
    assert {"weights_kept/val/auroc", "weights_kept/test/auroc"} <= set(tags)
    assert "_hparams_/session_start_info" in board.summary_metadata


def test_the_preview_is_there_before_the_first_step(board):
    (preview,) = board.Images("visual/preview")
    assert preview.step == 0
    assert preview.wall_time < board.Scalars("val/loss")[0].wall_time
    assert len(board.Images("visual/roc")) == 1
