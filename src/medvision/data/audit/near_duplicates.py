"""Near copies: images that look alike although their pixels differ.

Two images are near copies where 64 bits of their coarse structure agree but for four, and where
their finer structure, seen at 32 x 32, correlates. The bits alone take different eyes, or livers
of one phantom, for copies; the correlation alone would have to be asked of every pair.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from medvision.data.splits.groups import Ints

SMALLEST = 64  # pixels a side; below, images of one kind differ too little
SIDE, LOW = 32, 8
APART = 4  # bits; images have an even number of them apart, for half of all bits are always set
ALIKE = 0.985  # re-encoded, resized or brightened copies: 0.985 to 1; different eyes: up to 0.982
SAME = 0.998  # from here on one image of a patient stands for another
_BLOCKS = 6  # with 4 bits apart at least two of six blocks are equal

Pairs = NDArray[np.int64]


class ImageHash(NamedTuple):
    """What an image is recognised by.

    Attributes:
        bits: 64 bits of its coarse structure.
        fine: float16 `[32 * 32]`, its finer structure, of length 1.
    """

    bits: np.uint64
    fine: NDArray[np.float16]


def hash_image(pixels: np.ndarray) -> ImageHash | None:
    """Describe an image `[H,W,C]` whatever its size, type or range of values.

    Returns:
        None for images of less than 64 pixels a side, or of one value.

    Reference:
        The bits are those of Zauner, Implementation and Benchmarking of Perceptual Image Hash
        Functions, 2010 (pHash), without the mean of each row and column.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if min(pixels.shape[:2]) < SMALLEST or low == high:
        return None
    grey = pixels[..., 0] if pixels.shape[-1] == 1 else pixels.mean(axis=-1)
    small = cv2.resize(grey.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    small = ((small.astype(np.float64) - low) / (high - low)).astype(np.float32)
    coarse = cv2.dct(small)[1 : LOW + 1, 1 : LOW + 1].ravel()
    bits = np.packbits(coarse > np.median(coarse)).view(np.uint64)[0]
    fine = (small - cv2.GaussianBlur(small, (0, 0), 1)).ravel()
    fine -= fine.mean()
    length = float(np.linalg.norm(fine))
    return ImageHash(bits, (fine / length).astype(np.float16)) if length > 0 else None


def find_near_duplicates(
    seen: Sequence[ImageHash | None], owners: Sequence[str], digests: Sequence[str]
) -> Pairs:
    """Find pairs of rows that are near copies, of different owners; exact copies are none.

    Of an owner's images that are all but equal, as the frames of a still clip, only the first is
    looked at. The time grows with the number of images that share a third of their bits, not with
    that of all pairs.

    Args:
        seen: of each row; None is like nothing.
        owners: patient a row; near copies within one are neighbouring slices.
        digests: pixel digest a row.

    Returns:
        `[P,2]`, row numbers, the smaller first, sorted.
    """
    rows = _choose_rows(seen, owners)
    if len(rows) < 2:
        return np.empty((0, 2), dtype=np.int64)
    chosen = [one for one in (seen[row] for row in rows) if one is not None]
    bits = np.array([one.bits for one in chosen], dtype=np.uint64)
    owner = np.unique([owners[row] for row in rows], return_inverse=True)[1]
    picture = np.unique([digests[row] for row in rows], return_inverse=True)[1]
    found: set[tuple[int, int]] = set()
    for here, there in _candidates(bits):
        other = (owner[here] != owner[there]) & (picture[here] != picture[there])
        near = other & (np.bitwise_count(bits[here] ^ bits[there]) <= APART)
        for one, two in zip(here[near].tolist(), there[near].tolist(), strict=True):
            if (one, two) not in found and _correlate(chosen[one], chosen[two]) >= ALIKE:
                found.add((one, two))
    pairs = np.sort(rows[np.array(sorted(found), dtype=np.int64).reshape(-1, 2)], axis=1)
    return np.asarray(pairs[np.lexsort(pairs.T[::-1])], dtype=np.int64)


def _choose_rows(seen: Sequence[ImageHash | None], owners: Sequence[str]) -> Ints:
    """Leave out rows that an earlier one of the same owner stands for."""
    kept: dict[tuple[str, int], list[ImageHash]] = {}
    rows = []
    for row, one in enumerate(seen):
        if one is None:
            continue
        others = kept.setdefault((owners[row], int(one.bits)), [])
        if not any(_correlate(one, other) >= SAME for other in others):
            others.append(one)
            rows.append(row)
    return np.array(rows, dtype=np.int64)


def _correlate(one: ImageHash, two: ImageHash) -> float:
    return float(one.fine.astype(np.float32) @ two.fine.astype(np.float32))


def _candidates(bits: NDArray[np.uint64]) -> Iterator[tuple[Ints, Ints]]:
    """Yield positions of pairs, the smaller first, that agree in two of six blocks of bits."""
    edges = np.linspace(0, 64, _BLOCKS + 1).astype(int).tolist()
    masks = [np.uint64((1 << end) - (1 << start)) for start, end in pairwise(edges)]
    for one, two in combinations(masks, 2):
        keys = bits & (one | two)
        order = np.argsort(keys, kind="stable")
        ordered, left = keys[order], np.arange(len(keys))
        step = 0
        while len(left):
            step += 1
            left = left[left + step < len(keys)]
            left = left[ordered[left] == ordered[left + step]]
            yield order[left], order[left + step]  # a stable order keeps the smaller first
