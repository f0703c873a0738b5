"""Video clips as frames: mp4 and avi through OpenCV's FFmpeg, gif through Pillow."""

import os
from io import BytesIO
from pathlib import Path
from struct import unpack
from typing import IO

import cv2
import numpy as np
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

from medvision.data.formats.arrays import tell_damage
from medvision.data.formats.images import COPY_AGAIN, check_pixels, refuse
from medvision.errors import MedvisionError

SUFFIXES = (".mp4", ".avi", ".gif")
_UNTIMED_S = 0.1  # what viewers show a gif's frame for that names no duration

# FFmpeg writes its own lines about broken files; they are told once, in our words.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Clip:
    """The frames of an mp4, avi or gif file, decoded in order from the first one.

    Frames are best asked for in order: a clip is never wound to a place, because where a decoder
    lands then depends on the file; it is decoded up to the frame, and anew for an earlier one.
    What a header tells is only compared with what can be decoded.

    Attributes:
        told: number of frames the header tells of, 0 where it does not.

    Raises:
        MedvisionError: missing, cut off, or no clip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._frames: _Movie | _Animation = _open(path)
        except MedvisionError:
            raise
        except Exception as error:
            raise tell_damage(path, error, "no frame can be decoded") from error
        self.told = self._frames.told

    def __len__(self) -> int:
        """Decode the clip to count it; one frame more where the header tells of more.

        That frame cannot be read, and so the damage is told by name.
        """
        decoded = len(self.times_s())
        return decoded + 1 if decoded < max(self.told, 1) else decoded

    def times_s(self) -> list[float]:
        """Decode the clip; seconds of each frame since the first one, as the container says."""
        times: list[float] = []
        while self._frames.seek(len(times)):
            times.append(self._frames.time_s())
        return [round(time - times[0], 6) for time in times]

    def frame(self, number: int) -> np.ndarray:
        """Return one frame as RGB, uint8 `[H,W,3]`.

        Raises:
            MedvisionError: no such frame, or it cannot be decoded.
        """
        try:
            if number >= 0 and self._frames.seek(number):
                return self._frames.shown()
        except Exception as error:
            raise tell_damage(self.path, error, f"frame {number} cannot be decoded") from error
        if 0 <= number < self.told:
            fault = f"is damaged (its header tells of {self.told} frames, not all can be decoded)"
            raise refuse(self.path, fault, COPY_AGAIN)
        raise refuse(self.path, f"has no frame {number}", "frames are counted from 0")


class _Movie:
    """What OpenCV decodes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture = self._start()
        height, width = (
            int(self._capture.get(side))
            for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH)
        )
        check_pixels(path, height, width)
        self.told = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def _start(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        if not capture.isOpened():
            fault = "holds no video that can be decoded"
            raise refuse(self._path, fault, "convert it to an mp4 (H.264) or avi file")
        self._next = 0
        return capture

    def seek(self, number: int) -> bool:
        if number < self._next - 1:
            self._capture.release()
            self._capture = self._start()
        while self._next <= number:
            if not self._capture.grab():
                return False
            self._next += 1
        return True

    def time_s(self) -> float:
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000

    def shown(self) -> np.ndarray:
        there, pixels = self._capture.retrieve()
        if not there:
            raise ValueError("no pixels")
        return np.asarray(pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


class _Animation:
    """What Pillow decodes: palettes looked up, frames laid over each other, on black."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._starts_s = _gif_starts_s(path, content)
        self.told = len(self._starts_s)
        self._image = GifImageFile(BytesIO(content))
        check_pixels(path, self._image.height, self._image.width)

    def seek(self, number: int) -> bool:
        if number >= self.told:
            return False
        try:
            self._image.seek(number)
            self._image.load()
        except Exception:  # a damaged file may raise anything
            return False
        return True

    def time_s(self) -> float:
        return self._starts_s[self._image.tell()]

    def shown(self) -> np.ndarray:
        black = Image.new("RGBA", self._image.size, (0, 0, 0, 255))
        return np.array(Image.alpha_composite(black, self._image.convert("RGBA")).convert("RGB"))


def _open(path: Path) -> _Movie | _Animation:
    """Tell the container by its first bytes and check that all of it is there.

    Nothing else is handed to FFmpeg, which also reads playlists that name other files.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(12)
        if start[:6] in (b"GIF87a", b"GIF89a"):
            return _Animation(path, start + stream.read())
        if start[:4] == b"RIFF" and start[8:] == b"AVI ":
            whole = _is_whole_avi(stream, size)
        elif start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            whole = _is_whole_mp4(stream, size)
        elif not start:
            raise EOFError
        else:
            raise refuse(path, "is not an mp4, avi or gif clip", "convert it to one of these")
    if not whole:
        raise refuse(path, "is truncated", COPY_AGAIN)
    return _Movie(path)


def _is_whole_avi(stream: IO[bytes], size: int) -> bool:
    """Look whether every RIFF chunk (long clips have several) ends inside the file."""
    end = 0
    while end + 8 <= size:
        stream.seek(end)
        name, length = unpack("<4sI", stream.read(8))
        if name != b"RIFF":
            break  # padding
        end += 8 + length
    return end <= size


def _is_whole_mp4(stream: IO[bytes], size: int) -> bool:
    """Look whether every box ends inside the file and one of them describes the frames."""
    end, names = 0, set()
    while end + 8 <= size:
        stream.seek(end)
        length, name = unpack(">I4s", stream.read(8))
        if length == 1:
            length = int.from_bytes(stream.read(8), "big")
        elif length == 0:  # to the end of the file
            length = size - end
        if length < 8:
            return False
        names.add(name)
        end += length
    return end <= size and b"moov" in names


def _gif_starts_s(path: Path, content: bytes) -> list[float]:
    """Walk through the blocks of a gif to its end mark; seconds at which each image is shown."""
    try:
        place, start, delay, starts = 13 + _palette(content[10]), 0.0, 0.0, []
        while (kind := content[place]) != ord(";"):
            if kind == ord("!"):
                if content[place + 1] == 0xF9:
                    delay = int.from_bytes(content[place + 4 : place + 6], "little") / 100
                place += 2
            elif kind == ord(","):
                starts.append(start)
                start, delay = start + (delay or _UNTIMED_S), 0.0
                place += 11 + _palette(content[place + 9])
            else:
                raise refuse(path, "is damaged", COPY_AGAIN)
            while length := content[place]:
                place += 1 + length
            place += 1
    except IndexError:
        raise refuse(path, "is truncated", COPY_AGAIN) from None
    return starts


def _palette(flags: int) -> int:
    """Return the bytes of a colour table, from the flags that announce it."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
