"""The one loop that decodes: rows of a file together, in threads, handed on in order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from medvision.data.formats.decode import Decoded, load_frames
from medvision.errors import MedvisionError

AHEAD = 256  # files, or streamed images, decoded before they are asked for: what bounds the memory

T = TypeVar("T")
Results = list[tuple[int, T | MedvisionError]]


def decode_all(
    files: Sequence[Path],
    frames: Sequence[int],
    use: Callable[[int, Decoded], T],
    *,
    stream: bool = False,
    workers: int | None = None,
    task: str = "",
) -> Iterator[tuple[int, T | MedvisionError]]:
    """Decode the image of every row and yield the row with what `use` makes of it, or its error.

    Args:
        files: of each row.
        frames: of each row.
        use: called in a thread, with the row; a MedvisionError it raises is yielded.
        stream: keep the order as given, where what `use` returns is large: neighbouring rows of a
            file are then read one by one. Otherwise rows come file by file, in order of frames,
            each file opened once and read by one thread.
        workers: threads; None takes one a processor.
        task: what a bar on a terminal says; "" shows none.
    """
    rows = range(len(files)) if stream else _by_file(files, frames)
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        with _bar(task) as bar:
            results = _in_order(_submit(pool, files, frames, rows, use, stream))
            yield from bar.track(results, len(files), description=task)
    finally:
        pool.shutdown(cancel_futures=True)


def _by_file(files: Sequence[Path], frames: Sequence[int]) -> list[int]:
    """Return the rows file by file, as files first come up, in order of frames."""
    place = {file: number for number, file in enumerate(dict.fromkeys(files))}
    return sorted(range(len(files)), key=lambda row: (place[files[row]], frames[row]))


def _submit(
    pool: ThreadPoolExecutor, files: Sequence[Path], frames: Sequence[int], rows: Iterable[int],
    use: Callable[[int, Decoded], T], stream: bool,
) -> Iterator[Future[Results[T]]]:  # fmt: skip
    """Hand out the decoding as it is asked for."""
    for file, group in groupby(rows, key=files.__getitem__):
        own = list(group)
        images = load_frames(file, [frames[row] for row in own])
        if stream and len(own) > 1:
            for row, image in zip(own, images, strict=True):
                yield pool.submit(_use, [row], [image], use)
        else:
            yield pool.submit(_use, own, images, use)


def _use(
    rows: Sequence[int],
    images: Iterable[Decoded | MedvisionError],
    use: Callable[[int, Decoded], T],
) -> Results[T]:
    results: Results[T] = []
    for row, image in zip(rows, images, strict=True):
        try:
            results.append((row, use(row, image) if isinstance(image, Decoded) else image))
        except MedvisionError as error:
            results.append((row, error))
    return results


def _in_order(coming: Iterable[Future[Results[T]]]) -> Iterator[tuple[int, T | MedvisionError]]:
    waiting: deque[Future[Results[T]]] = deque()
    for future in coming:
        waiting.append(future)
        if len(waiting) > AHEAD:
            yield from waiting.popleft().result()
    while waiting:
        yield from waiting.popleft().result()


def _bar(task: str) -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shown = bool(task) and console.is_terminal
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not shown)
