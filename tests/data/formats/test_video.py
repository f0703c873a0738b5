import cv2
import numpy as np
import pytest
from PIL import Image

from medvision.data.formats import video
from medvision.data.formats.decode import decode, load_frames
from medvision.data.formats.listing import count_frames
from medvision.data.formats.video import Clip
from medvision.errors import MedvisionError

FRAMES = np.random.default_rng(0).integers(0, 255, (9, 16, 24, 3), dtype=np.uint8)
LOSSLESS = {"ffv1.avi": "FFV1", "png.avi": "MPNG", "ffv1.mp4": "FFV1"}


def write(path, frames=FRAMES, code="FFV1", fps=25.0):
    fourcc = cv2.VideoWriter_fourcc(*code)
    size = frames.shape[2], frames.shape[1]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, fps, size)
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def write_uneven(path, ticks):
    """An mp4 whose frames come at uneven times (in 1/25 s), each of one grey."""
    raw = [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1, cv2.VIDEOWRITER_PROP_KEY_INTERVAL, 1]
    fourcc = cv2.VideoWriter_fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 25, (24, 16), raw)
    for number, tick in enumerate(ticks):
        writer.set(cv2.VIDEOWRITER_PROP_PTS, tick)
        writer.write(cv2.imencode(".jpg", np.full((16, 24, 3), 20 * number, np.uint8))[1])
    writer.release()
    return path


def write_gif(path, colours=8, duration=(40, 60, 200)):
    """A gif of few colours, so that its palette holds them all; returns its frames too."""
    greys = FRAMES[: len(duration)] // (256 // colours) * (256 // colours)
    greys = np.repeat(greys[..., :1], 3, axis=-1)
    images = [Image.fromarray(frame) for frame in greys]
    images[0].save(path, save_all=True, append_images=images[1:], duration=list(duration), loop=0)
    return greys


def refusal(path, frame=0):
    with pytest.raises(MedvisionError) as caught:
        decode(path, frame)
    return str(caught.value).removeprefix(f"{path} ")


@pytest.mark.parametrize("name", LOSSLESS)
def test_frames_of_a_lossless_clip_are_those_written(tmp_path, name):
    path = write(tmp_path / name, code=LOSSLESS[name])
    assert count_frames(path) == len(FRAMES)
    for number in (0, 5, 2, 8, 8, 3):  # in any order
        assert np.array_equal(decode(path, number), FRAMES[number])
    clip = Clip(path)
    for number in (0, 5, 2, 8, 8, 3):
        assert np.array_equal(clip.frame(number), FRAMES[number])
    assert clip.times_s() == pytest.approx([k / 25 for k in range(9)])
    assert refusal(path, 9) == "has no frame 9, frames are counted from 0"
    assert "has no frame -1" in refusal(path, -1)


def test_grey_clips_have_one_channel(tmp_path):
    grey = np.repeat(FRAMES[..., :1], 3, axis=-1)
    found = decode(write(tmp_path / "a.avi", grey), 1)
    assert found.shape == (16, 24, 1)
    assert np.array_equal(found[..., 0], grey[1, ..., 0])


def test_times_are_those_of_the_container(tmp_path):
    ticks = [0, 1, 2, 7, 8, 20]
    path = write_uneven(tmp_path / "a.mp4", ticks)
    assert Clip(path).times_s() == pytest.approx([tick / 25 for tick in ticks])
    assert [int(decode(path, k).mean()) for k in range(6)] == [0, 20, 40, 60, 80, 100]


def test_gif_frames_and_times(tmp_path):
    truth = write_gif(tmp_path / "a.gif")
    assert count_frames(tmp_path / "a.gif") == 3
    for number in (2, 0, 1):
        assert np.array_equal(decode(tmp_path / "a.gif", number), truth[number][..., :1])
    assert Clip(tmp_path / "a.gif").times_s() == pytest.approx([0, 0.04, 0.1])
    write_gif(tmp_path / "b.gif", duration=(0, 0, 0))
    assert Clip(tmp_path / "b.gif").times_s() == pytest.approx([0, 0.1, 0.2])
    assert "has no frame 3" in refusal(tmp_path / "a.gif", 3)


def test_a_gif_is_laid_over_black_and_over_its_earlier_frames(tmp_path):
    first = Image.new("RGBA", (8, 6), (0, 0, 0, 0))
    first.paste((255, 0, 0, 255), (0, 0, 4, 6))
    second = Image.new("RGBA", (8, 6), (0, 0, 0, 0))
    second.paste((0, 0, 255, 255), (6, 0, 8, 6))
    path = tmp_path / "a.gif"
    first.save(path, save_all=True, append_images=[second], disposal=1, duration=50)
    expected = np.zeros((6, 8, 3), np.uint8)
    expected[:, :4] = 255, 0, 0
    assert np.array_equal(decode(path, 0), expected)
    expected[:, 6:] = 0, 0, 255
    assert np.array_equal(decode(path, 1), expected)


def test_a_clip_is_opened_once_for_its_frames(tmp_path, monkeypatch):
    path = write(tmp_path / "a.avi")
    opened = []
    start = video._Movie._start
    monkeypatch.setattr(video._Movie, "_start", lambda self: opened.append(1) or start(self))
    found = list(load_frames(path, [*range(9), 50]))
    for number in range(9):
        assert np.array_equal(found[number].pixels, FRAMES[number])
    assert isinstance(found[9], MedvisionError)
    assert opened == [1]


@pytest.mark.parametrize("name", [*LOSSLESS, "mjpg.avi", "a.gif"])
def test_a_cut_clip_is_refused_wherever_it_was_cut(tmp_path, name):
    path = tmp_path / name
    write_gif(path) if name == "a.gif" else write(path, code=LOSSLESS.get(name, "MJPG"))
    whole = path.read_bytes()
    for end in range(0, len(whole), max(1, len(whole) // 80)):
        path.write_bytes(whole[:end])
        told = refusal(path)
        assert any(word in told for word in ("is truncated", "is empty", "is not an mp4, avi"))
        assert count_frames(path) == 1


def test_a_header_that_tells_of_more_frames_is_not_believed(tmp_path):
    path = write(tmp_path / "a.avi", code="MPNG")
    whole = path.read_bytes()
    place = whole.rfind(b"\x89PNG")
    path.write_bytes(whole[:place] + bytes(40) + whole[place + 40 :])  # the last frame is broken
    clip = Clip(path)
    assert (clip.told, len(clip.times_s()), len(clip)) == (9, 8, 9)
    assert np.array_equal(decode(path, 7), FRAMES[7])
    assert refusal(path, 8) == (
        "is damaged (its header tells of 9 frames, not all can be decoded), "
        "copy it again from its source"
    )


def test_what_is_no_clip_is_said(tmp_path, capfd):
    path = tmp_path / "a.mp4"
    assert refusal(path) == "does not exist, check the path"
    path.touch()
    assert refusal(path) == "is empty (0 bytes), copy it again from its source"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")  # never followed
    assert refusal(path) == "is not an mp4, avi or gif clip, convert it to one of these"
    path.write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08moov" + b"\0\0\0\x08mdat")
    assert "holds no video that can be decoded" in refusal(path)
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + b"\xff" * 50)
    assert "copy it again from its source" in refusal(tmp_path / "a.gif")
    assert capfd.readouterr() == ("", "")
