import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medvision.callbacks.event_files import EventFiles, cut_events


def read_points(folder):
    """Return the points of every curve, as TensorBoard reads them."""
    board = EventAccumulator(str(folder), {"scalars": 0})
    board.Reload()
    return {tag: sorted((e.step, e.value) for e in board.Scalars(tag))
            for tag in board.Tags()["scalars"]}  # fmt: skip


def log_epoch(logger, epoch):
    """An epoch of fifty steps, of which a callback of somebody else tells two."""
    logger.log_metrics({"theirs": 1.0}, 50 * epoch + 25)
    logger.log_metrics({"theirs": 2.0}, 50 * epoch + 50)
    logger.log_metrics({"val/loss": 10.0 + epoch}, epoch)
    logger.mark(epoch + 1)


@pytest.fixture
def two_epochs(tmp_path):
    """Of two sessions, the second killed in the third epoch."""
    first, second = EventFiles(tmp_path), EventFiles(tmp_path)
    log_epoch(first, 0)
    first.finalize("success")
    log_epoch(second, 1)
    second.log_metrics({"theirs": 9.0}, 125)
    second.finalize("success")
    newest = max(tmp_path.glob("events.out.*"))
    newest.write_bytes(newest.read_bytes()[:-3])  # a kill leaves half of the last event
    return tmp_path


def test_what_was_logged_behind_a_checkpoint_is_cut_on_every_axis(two_epochs):
    cut_events(two_epochs, 1)
    assert read_points(two_epochs) == {"theirs": [(25, 1), (50, 2)], "val/loss": [(0, 10)]}
    assert len(list(two_epochs.iterdir())) == 1  # no file is left of what came later


def test_what_was_logged_before_it_stays(two_epochs):
    cut_events(two_epochs)
    theirs = [(25, 1), (50, 2), (75, 1), (100, 2)]
    assert read_points(two_epochs) == {"theirs": theirs, "val/loss": [(0, 10), (1, 11)]}


def test_the_tenth_file_of_a_process_comes_after_its_ninth(tmp_path):
    for number, name in enumerate(("5.vm.1.9", "5.vm.1.10", "15.vm.1.2")):
        logger = EventFiles(tmp_path / "a")
        log_epoch(logger, number)
        logger.finalize("success")
        (path,) = (tmp_path / "a").iterdir()
        path.rename(tmp_path / f"events.out.tfevents.{name}")
    (tmp_path / "events.out.tfevents.7.vm.1.0.v2").touch()  # of another library
    cut_events(tmp_path, 2)
    assert [step for step, _ in read_points(tmp_path)["val/loss"]] == [0, 1]
    cut_events(tmp_path, 1)
    left = {path.name.removeprefix("events.out.tfevents.") for path in tmp_path.glob("e*")}
    assert left == {"5.vm.1.9", "7.vm.1.0.v2"}


def test_files_without_the_mark_stay_as_they_are(two_epochs):
    before = {path.name: path.read_bytes() for path in two_epochs.iterdir()}
    cut_events(two_epochs, 7)
    assert before == {path.name: path.read_bytes() for path in two_epochs.iterdir()}


def test_a_run_is_called_by_its_folder_and_nothing_else_lies_there(tmp_path):
    logger = EventFiles(tmp_path / "seed=1-abc")
    logger.log_metrics({"val/loss": 1.0}, 0)
    logger.finalize("success")
    (path,) = (tmp_path / "seed=1-abc").iterdir()
    assert path.name.startswith("events.out.tfevents.")
