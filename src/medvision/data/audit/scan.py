"""Every image of a table decoded once, and what is written down of it."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track

from medvision.data.audit.near_duplicates import ImageHash, hash_image
from medvision.data.formats.decode import Decoded, load_frames, pixel_digest
from medvision.errors import MedvisionError


@dataclass(frozen=True)
class ImageFacts:
    """What was seen of an image.

    Attributes:
        digest: of its pixels; "" where they are all one value, which is no copy of another.
        height, width: in pixels.
        kind: ending of the file, type of the values and `grey` or `colour`.
        white: share of the middle (half of each side) that has the image's largest value.
        ends: share of all pixels that have its largest or smallest value.
        border: mean grey of the outermost pixels.
        likeness: None where it is too small or plain to be recognised.
    """

    digest: str
    height: int
    width: int
    kind: str
    white: float
    ends: float
    border: float
    likeness: ImageHash | None

    @property
    def size(self) -> str:
        return f"{self.height}x{self.width}"


def scan_image(image: Decoded) -> ImageFacts:
    """Write down what is kept of one image."""
    pixels = image.pixels
    height, width, channels = pixels.shape
    low, high = pixels.min(), pixels.max()
    middle = pixels[height // 4 : height - height // 4, width // 4 : width - width // 4]
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    colour = "grey" if channels == 1 else "colour"
    return ImageFacts(
        digest="" if low == high else pixel_digest(pixels),
        height=height,
        width=width,
        kind=f"{_ending(image.path)} {pixels.dtype} {colour}",
        white=float((middle == high).mean()),
        ends=float(((pixels == high) | (pixels == low)).mean()),
        border=float(np.mean([edge.mean(dtype=np.float64) for edge in edges])),
        likeness=hash_image(pixels),
    )


def _ending(path: Path) -> str:
    """Return the ending of a file name; what follows a dot in the ids of DICOM files is none."""
    ending = PurePosixPath(path.name.lower()).suffix
    return ending if ending[1:].isalnum() and not ending[1:].isdigit() else ""


def scan_images(table: pd.DataFrame) -> tuple[dict[int, ImageFacts], dict[int, str]]:
    """Decode every image at full depth, each file opened once for all its rows.

    Args:
        table: with `path` and perhaps `frame`.

    Returns:
        What was seen of a row, and what is wrong with those that cannot be used.
    """
    frames = table["frame"] if "frame" in table else np.zeros(len(table), dtype=int)
    files: dict[str, list[tuple[int, int]]] = {}
    for row, path, frame in zip(table.index, table["path"], frames, strict=True):
        files.setdefault(path, []).append((int(frame), row))
    looks: dict[int, ImageFacts] = {}
    problems: dict[int, str] = {}

    def inspect_file(path: str) -> None:
        for row, found in _look_through(path, files[path]).items():
            if isinstance(found, ImageFacts):
                looks[row] = found
            else:
                problems[row] = str(found)

    console = Console(stderr=True)
    with ThreadPoolExecutor() as pool:
        list(track(pool.map(inspect_file, files), "checking files", len(files), console=console,
                   disable=not console.is_terminal))  # fmt: skip
    return looks, dict(sorted(problems.items()))


def _look_through(
    path: str, wanted: list[tuple[int, int]]
) -> Mapping[int, ImageFacts | MedvisionError]:
    """Look at some frames of a file, in order, one in memory at a time; row → what was seen."""
    wanted = sorted(wanted)
    images = load_frames(Path(path), [frame for frame, _ in wanted])
    return {
        row: scan_image(image) if isinstance(image, Decoded) else image
        for (_, row), image in zip(wanted, images, strict=True)
    }
