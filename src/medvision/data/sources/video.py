"""Video clips in folders: a row a frame."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medvision.data.formats.video import SUFFIXES, Clip
from medvision.data.sources.found import Found
from medvision.data.sources.recordings import describe_recordings, find_recordings
from medvision.errors import MedvisionError

_NEARLY = 1e-6  # seconds by which a frame may come too early: what rounding of times costs


def find(
    input: Path,  # noqa: A002 -- the command's own word
    *,
    columns: Mapping[str, str | None] | None = None,
    labels: str | Path | None = None,
    every: int = 1,
    seconds: float | None = None,
) -> Found:
    """Find the frames of all clips below a folder; a series is one clip, a position its frame.

    `time_s` is the container's, counted from the first frame. Every clip is decoded to count its
    frames; where its header tells of more, the first that is missing has a row too, so that the
    damage is told by name when the rows are decoded.

    Args:
        input: the folder on top, or one clip.
        columns: `patient=path` makes each clip its own patient; or a pattern with one group. With
            `labels`, `label` and `series` may name columns of it.
        labels: see `describe_recordings`.
        every: take the first of so many frames.
        seconds: take frames at least so far apart in time; then `every` must stay 1.

    Raises:
        MedvisionError: nothing found, no patient rule, a setting that cannot be.
    """
    every, seconds = _check(every, seconds)
    top, names, others = find_recordings(Path(input).absolute(), SUFFIXES, "video")
    found = describe_recordings(top, names, columns or {}, labels, "clip")
    rows = [row for name in names for row in _list_frames(name, top / name, every, seconds)]
    table = found.table.merge(pd.DataFrame(rows), on="name").drop(columns="name")
    facts = found.facts | {"skipped": others, "clips": len(names)}
    return Found(table, found.dataset, found.patient_rule, facts=facts)


def _check(every: Any, seconds: Any) -> tuple[int, float | None]:
    if not (isinstance(every, int) and every >= 1):
        raise MedvisionError(f"every={every} cannot be; give a whole number from 1")
    if seconds is None:
        return every, None
    if not (isinstance(seconds, int | float) and seconds > 0):
        raise MedvisionError(f"seconds={seconds} cannot be; give a number above 0")
    if every != 1:
        raise MedvisionError("every and seconds cannot both be given; choose one")
    return every, float(seconds)


def _list_frames(
    name: str, path: Path, every: int, seconds: float | None
) -> Iterator[dict[str, Any]]:
    try:
        clip = Clip(path)
        times, held = clip.times_s(), clip.told
    except MedvisionError:  # told when its row is decoded
        times, held = [], 1
    chosen = list(range(0, len(times), every)) if seconds is None else _thin(times, seconds)
    if len(times) < max(held, 1):
        chosen.append(len(times))
    for frame in chosen:
        time_s = times[frame] if frame < len(times) else None
        yield {"name": name, "frame": frame, "series": name, "position": frame, "time_s": time_s}


def _thin(times: Sequence[float], seconds: float) -> list[int]:
    """Choose the first frame and every next one at least `seconds` after the last chosen."""
    chosen: list[int] = []
    for frame, time in enumerate(times):
        if not chosen or time - times[chosen[-1]] >= seconds - _NEARLY:
            chosen.append(frame)
    return chosen
