from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom.data import get_testdata_file

from medvision.data.formats.listing import count_frames
from medvision.data.inputs.stream import read_batches
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError


def draw(path: Path, *shape: int) -> np.ndarray:
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, shape, dtype=np.uint8)
    np.save(path, pixels) if path.suffix == ".npy" else cv2.imwrite(str(path), pixels)
    return pixels


def test_images_come_as_the_reader_reads_them_in_order(tmp_path):
    draw(tmp_path / "many.npy", 7, 20, 30)
    draw(tmp_path / "grey.png", 24, 30)
    reader = Reader(size=16, window=(20, 200))
    rows = [(tmp_path / "many.npy", frame) for frame in range(7)] + [(tmp_path / "grey.png", 0)]
    batches = list(read_batches(*zip(*rows, strict=True), reader, [3, 1, 4], {}, stop=True))
    assert [len(batch) for batch in batches] == [3, 1, 4]
    expected = np.stack([reader.read(*row) for row in rows])
    np.testing.assert_array_equal(np.concatenate(batches), expected)


def test_without_a_size_all_images_must_agree(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    draw(paths[0], 20, 30)
    draw(paths[1], 30, 20)
    with pytest.raises(MedvisionError, match=r"b.png is 30 x 20 and the first image 20 x 30"):
        list(read_batches(paths, [0, 0], Reader(None), [2], {}, stop=True))
    reasons: dict[int, str] = {}
    (batch,) = read_batches(paths, [0, 0], Reader(None), [2], reasons, stop=False)
    assert batch.shape == (2, 20, 30, 1)
    assert list(reasons) == [1]


def test_all_faults_are_told_at_once(tmp_path):
    paths = [tmp_path / f"{n}.png" for n in range(4)]
    draw(paths[0], 8, 8)
    paths[3].write_text("text")
    with pytest.raises(MedvisionError, match=r"cannot read 3 of 4 .*1.png.*2.png.*3.png is not an"):
        list(read_batches(paths, [0] * 4, Reader(8), [1] * 4, {}, stop=True))


def test_frames_are_counted_and_what_is_broken_is_one(tmp_path):
    draw(tmp_path / "many.npy", 7, 20, 30)
    (tmp_path / "broken.npz").write_text("text")
    assert count_frames(tmp_path / "many.npy") == 7
    assert count_frames(tmp_path / "broken.npz") == 1
    np.save(tmp_path / "empty.npy", np.zeros((0, 8, 8), np.uint8))
    assert count_frames(tmp_path / "empty.npy") == 1
    assert count_frames(tmp_path / "none.dcm") == 1
    assert count_frames(Path(get_testdata_file("MR_small.dcm"))) == 1
    assert count_frames(Path(get_testdata_file("rtdose.dcm"))) == 15
