"""The one loop that decodes: order, threads, errors as values, and what it holds at once."""

import threading
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from medvision.data.formats import decode
from medvision.data.store import parallel
from medvision.data.store.parallel import decode_all
from medvision.errors import MedvisionError


@pytest.fixture
def frames(tmp_path):
    """Three files of ten frames; all pixels of a frame are 10 × file + frame."""
    for file in range(3):
        held = np.arange(10 * file, 10 * file + 10, dtype=np.uint8)
        np.save(tmp_path / f"{file}.npy", np.broadcast_to(held[:, None, None], (10, 4, 4)))
    return [tmp_path / f"{file}.npy" for file in range(3)]


@pytest.fixture
def opened(monkeypatch):
    paths = []
    begin = decode._open
    monkeypatch.setattr(decode, "_open", lambda path: paths.append(path) or begin(path))
    return paths


def value(row, image):
    return int(image.pixels[0, 0, 0])


def test_rows_in_any_order_come_file_by_file_each_opened_once(frames, opened):
    rows = np.random.default_rng(0).permutation(30)
    files, numbers = [frames[row // 10] for row in rows], [int(row % 10) for row in rows]
    found = list(decode_all(files, numbers, value, workers=2))
    assert len(opened) == 3
    assert sorted(found) == list(enumerate(rows))
    first_seen = list(dict.fromkeys(rows // 10))
    assert [v for _, v in found] == [10 * f + n for f in first_seen for n in range(10)]


def test_a_stream_keeps_its_order_and_opens_neighbours_once(frames, opened):
    order = [5, 7, 9, 22, 23, 1, 0]
    files, numbers = [frames[n // 10] for n in order], [n % 10 for n in order]
    found = list(decode_all(files, numbers, value, stream=True, workers=2))
    assert found == list(enumerate(order))
    assert len(opened) == 3


def test_two_threads_read_two_files_and_each_only_its_own(frames):
    both, by_thread = threading.Barrier(2, timeout=20), {}

    def use(row, image):
        if row % 10 == 0:
            both.wait()  # passes only where another thread is inside another file
        by_thread.setdefault(threading.get_ident(), set()).add(image.path)
        return value(row, image)

    files, numbers = [frames[0]] * 10 + [frames[1]] * 10, [*range(10)] * 2
    found = list(decode_all(files, numbers, use, workers=2))
    assert found == list(enumerate(range(20)))
    assert sorted(map(sorted, by_thread.values())) == [[frames[0]], [frames[1]]]


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_read_or_used_comes_as_its_error(frames, tmp_path, stream):
    (tmp_path / "no.png").write_text("text")

    def use(row, image):
        if row == 2:
            raise MedvisionError("no use")
        return value(row, image)

    files, numbers = [frames[0]] * 4 + [tmp_path / "no.png"], [0, 99, 2, 3, 0]
    found = dict(decode_all(files, numbers, use, stream=stream))
    assert (found[0], found[3], str(found[2])) == (0, 3, "no use")
    assert "has no frame 99" in str(found[1])
    assert "no.png is not an image" in str(found[4])


def test_any_other_error_ends_the_loop(frames):
    def use(row, image):
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        list(decode_all(frames, [0] * 3, use))


@pytest.mark.parametrize("files", [50, 1])
def test_no_more_is_decoded_ahead_than_memory_is_meant_for(tmp_path, monkeypatch, files):
    monkeypatch.setattr(parallel, "AHEAD", 5)
    pixels = np.zeros((50, 8, 8), np.uint8)
    if files == 1:
        np.save(tmp_path / "0.npy", pixels)
        paths, numbers = [tmp_path / "0.npy"] * 50, [*range(50)]
    else:
        paths, numbers = [tmp_path / f"{n}.png" for n in range(50)], [0] * 50
        for path in paths:
            Image.fromarray(pixels[0]).save(path)
    decoded, tidy = Counter(), decode.tidy
    monkeypatch.setattr(decode, "tidy", lambda path, p: decoded.update([path]) or tidy(path, p))
    results = decode_all(paths, numbers, value, stream=True)
    next(results)
    assert decoded.total() <= 6
    assert len(list(results)) == 49
    assert decoded.total() == 50
