import cv2
import numpy as np

from medvision.data.audit.scan import scan_images
from medvision.data.formats import arrays
from medvision.data.store.fill import Images


def write(path, pixels):
    cv2.imwrite(str(path), pixels)
    return path


def look_at(paths, frames):
    seen, problems = scan_images(Images.find(paths, frames), {})
    return {row: one.look for row, one in seen.items()}, problems


def test_a_file_is_opened_once_for_all_its_rows(tmp_path, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 255, (40, 8, 9), dtype=np.uint8)
    np.savez(tmp_path / "all.npz", frames)
    opened = []
    read = arrays.ArrayFile._read

    def counting(self, name):
        opened.append(name)
        return read(self, name)

    monkeypatch.setattr(arrays.ArrayFile, "_read", counting)
    rows = np.random.default_rng(1).permutation(40)
    looks, problems = look_at([tmp_path / "all.npz"] * 40, rows)
    assert len(opened) == 1
    assert problems == {}
    assert list(looks) == list(range(40))
    assert [look.border for look in looks.values()] == [
        np.mean([frame[0].mean(), frame[-1].mean(), frame[:, 0].mean(), frame[:, -1].mean()])
        for frame in frames[rows]
    ]


def test_what_cannot_be_used_is_told_by_row(tmp_path):
    (tmp_path / "no.png").write_text("text")
    np.save(tmp_path / "two.npy", np.zeros((2, 4, 4), np.uint8))
    paths = [tmp_path / name for name in ("no.png", "two.npy", "two.npy")]
    looks, problems = look_at(paths, [0, 1, 5])
    assert list(looks) == [1]
    assert list(problems) == [0, 2]
    assert "no.png is not an image" in problems[0]
    assert "has no frame 5" in problems[2]


def test_a_look_says_what_the_audit_asks(tmp_path):
    picture = np.full((8, 12), 10, np.uint8)
    picture[2:6, 3:9] = 200  # the middle
    picture[0, 0] = 20
    paths = [write(tmp_path / "a.png", picture), write(tmp_path / "b.tiff", picture * 0)]
    looks, _ = look_at(paths, [0, 0])
    look = looks[0]
    assert (look.size, look.kind) == ("8x12", ".png uint8 grey")
    assert (look.white, look.ends) == (1, 95 / 96)
    assert look.descriptor is None
    assert looks[1].digest == ""  # a blank is no copy
    assert look.digest
