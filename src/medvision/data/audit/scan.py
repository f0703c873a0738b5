"""Every image of a table decoded once, and what is written down of it."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from medvision.data.audit.descriptor import Descriptor, describe_look
from medvision.data.formats.decode import Decoded
from medvision.data.store.facts import Facts, describe_image
from medvision.data.store.fill import Images
from medvision.data.store.parallel import decode_all
from medvision.data.store.reader import Reader
from medvision.data.store.store import keep_rows, open_store
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
        descriptor: what it is recognised by; None where it is too small or plain.
    """

    digest: str
    height: int
    width: int
    kind: str
    white: float
    ends: float
    border: float
    descriptor: Descriptor | None

    @property
    def size(self) -> str:
        return f"{self.height}x{self.width}"

    @classmethod
    def of(
        cls, facts: Facts, kind: str, white: float, ends: float, border: float,
        descriptor: Descriptor | None,
    ) -> "ImageFacts":  # fmt: skip
        """Put together what was seen and what is kept of every image."""
        native = facts.native
        digest = "" if native.low == native.high else facts.digest
        return cls(digest, native.height, native.width, kind, white, ends, border, descriptor)


class Seen(NamedTuple):
    """An image that was looked at."""

    facts: Facts
    look: ImageFacts


Inspected = tuple[dict[int, Seen], dict[int, str]]
"""What was seen of each row, and what is wrong with those that cannot be used."""


def _scan_image(image: Decoded) -> Seen:
    """Write down what is kept of one image."""
    pixels = image.pixels
    height, width, channels = pixels.shape
    low, high = pixels.min(), pixels.max()
    middle = pixels[height // 4 : height - height // 4, width // 4 : width - width // 4]
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    colour = "grey" if channels == 1 else "colour"
    facts = describe_image(image)
    look = ImageFacts.of(
        facts,
        kind=f"{_ending(image.path)} {pixels.dtype} {colour}",
        white=float((middle == high).mean()),
        ends=float(((pixels == high) | (pixels == low)).mean()),
        border=float(np.mean([edge.mean(dtype=np.float64) for edge in edges])),
        descriptor=describe_look(pixels),
    )
    return Seen(facts, look)


def _ending(path: Path) -> str:
    """Return the ending of a file name; what follows a dot in the ids of DICOM files is none."""
    ending = PurePosixPath(path.name.lower()).suffix
    return ending if ending[1:].isalnum() and not ending[1:].isdigit() else ""


def scan_images(images: Images, known: Mapping[int, Seen]) -> Inspected:
    """Decode the images of rows that are not known, at full depth."""
    left = [row for row in range(len(images.files)) if row not in known]
    rest, seen, problems = images.take(left), dict(known), {}
    looks = decode_all(
        rest.files, rest.frames, lambda _, image: _scan_image(image), task="checking files"
    )
    for number, found in looks:
        if isinstance(found, Seen):
            seen[left[number]] = found
        else:
            problems[left[number]] = str(found)
    return dict(sorted(seen.items())), dict(sorted(problems.items()))


def inspect_into_store(
    images: Images, reader: Reader, workers: int | None, *, exclude: bool
) -> Inspected:
    """Look at images while the store of those that can be used is built: each is decoded once.

    Args:
        images: of all rows.
        reader: of the store.
        workers: decoding threads.
        exclude: keep that store where some cannot be used.

    Returns:
        Nothing where no image was decoded: there is a store, or there can be none, which is told
        by who opens it.
    """
    seen: dict[int, Seen] = {}

    def look(row: int, image: Decoded) -> Facts:
        seen[row] = _scan_image(image)
        return seen[row].facts

    try:
        store = open_store(images.files, images.frames, reader, on_unreadable="exclude",
                           workers=workers, describe=lambda _: look)  # fmt: skip
    except MedvisionError:
        return {}, {}
    problems = {row: reason for row, reason in store.unreadable.items() if row not in seen}
    if seen and problems:
        if exclude:
            keep_rows(store, sorted(seen), images, reader)
        shutil.rmtree(store.folder)
    return (dict(sorted(seen.items())), problems) if seen else ({}, {})
