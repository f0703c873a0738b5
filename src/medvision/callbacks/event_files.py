"""TensorBoard's event files: in the run folder itself, and with a mark where an epoch ends."""

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

import medvision.files as files

_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\..*\.(\d+)")
_HEAD, _FOOT = 12, 4  # bytes around an event: its length and a checksum, and a checksum of its own


class EventFiles(TensorBoardLogger):
    """Lightning's logger, whose files lie where TensorBoard calls a run by its folder.

    TensorBoard's own way to forget what a killed run had logged, `purge_step`, knows one x-axis.
    Ours are epochs, images and steps, and callbacks of others have theirs: so a mark stands behind
    each epoch, and a resumed run cuts the files off behind the mark of its checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="", default_hp_metric=False)

    @property
    def log_dir(self) -> str:
        return self.root_dir.rstrip(os.sep)

    def save(self) -> None:
        """Write what waits; Lightning's own leaves an empty `hparams.yaml` as well."""
        self.experiment.flush()

    @rank_zero_only
    def mark(self, epochs: int) -> None:
        """Say that all is written that was logged of so many epochs."""
        event = Event(session_log=SessionLog(status=SessionLog.CHECKPOINT))
        self.experiment.file_writer.add_event(event, epochs)
        self.experiment.flush()


def cut_events(folder: Path, epochs: int | None = None) -> None:
    """Take away what was logged behind the mark of so many epochs; None: behind the last mark.

    Files without such a mark stay as they are.
    """
    paths = _list_in_order(folder)
    marks = [
        (place, end)
        for place, path in enumerate(paths)
        for event, end in _read_events(path)
        if event.session_log.status == SessionLog.CHECKPOINT and epochs in (None, event.step)
    ]
    if marks:
        place, end = marks[-1]
        for path in reversed(paths[place + 1 :]):
            path.unlink()
        os.truncate(paths[place], end)


def _list_in_order(folder: Path) -> list[Path]:
    """List files of ours by the second they were begun in, then by their number in a process."""
    found = ((_NAME.fullmatch(path.name), path) for path in files.list_visible(folder, "events.*"))
    ranked = [(int(name[1]), int(name[2]), path) for name, path in found if name]
    return [path for *_, path in sorted(ranked)]


def _read_events(path: Path) -> Iterator[tuple[Event, int]]:
    """Yield each whole event of a file, and where it ends; a kill leaves half of the last one."""
    with path.open("rb") as stream:
        while len(head := stream.read(_HEAD)) == _HEAD:
            size = struct.unpack("<Q", head[:8])[0]
            body = stream.read(size + _FOOT)
            if len(body) < size + _FOOT:
                return
            yield Event.FromString(body[:size]), stream.tell()
