"""Near copies: images that look alike although their pixels differ.

Found are re-encoded, resized, brightened, inverted, mirrored and turned copies, those cropped or
shifted by up to a tenth of a side, turned by a few degrees, framed, or with letters burnt in. Each
image is aligned with the few whose spectra are most alike, and most of the places that have corners
must agree. A plain image has too few for that to prove anything: it is compared in place.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medvision.data.audit.alignment import (
    Alignment,
    align,
    is_symmetric,
    is_textured,
    measure_agreement,
)
from medvision.data.audit.descriptor import Descriptor, Thumbnail
from medvision.data.audit.spectrum import NEIGHBOURS, find_candidates
from medvision.data.audit.texture import Texture
from medvision.data.splits.groups import Ints

ALIKE = 0.8  # agreement of copies; other patients' images reach 0.75
LIKE, STEEP = 0.4, 0.6  # where images agree with those around them by more than 0.4, it is more
APART = 0.75  # a pair of so much is one too if the next stands `GAP` below
GAP = 0.1
NEXT = 0.5  # where no other pair was worth laying over, the next stands here
IN_PLACE = 0.9995  # of plain images, whose textures prove nothing
SAME = 0.998  # from here on one image of a patient stands for another
SOUGHT = (
    "looked for between patients, in images of 64 pixels a side and more: re-encoded, resized, "
    "brightened and, unless they are plain, inverted, mirrored, turned, shifted or cropped by up "
    "to a tenth, framed, with letters burnt in"
)
_WORTH = 0.6  # correlation from which two are laid over exactly
_MUCH, _WORTH_THEN = 0.5, 0.85  # of much likeness on
_ASKED = 60  # images, for the likeness
_PAIRS = 256  # laid over at a time
_BEFORE = 8  # images of a patient that may stand for the next
_BLOCK = 512  # compared with all at a time

Pairs = NDArray[np.int64]
Scores = NDArray[np.float64]


def find_near_duplicates(
    seen: Sequence[Descriptor | None],
    owners: Sequence[str],
    digests: Sequence[str],
    sides: Sequence[int] | None = None,
) -> Pairs:
    """Find pairs of rows that are near copies, of different owners; exact copies are none.

    Of an owner's images that are all but equal, as the frames of a still clip, only the first is
    looked at. Each image is laid over the five whose spectra are most alike.

    Args:
        seen: the descriptor of each row; None is like nothing.
        owners: patient a row; near copies within one are neighbouring slices.
        digests: pixel digest a row.
        sides: 0 or 1 a row; rows of the same one are not compared. The time grows with the number
            of rows of the smaller side.

    Returns:
        `[P,2]`, row numbers, the smaller first, sorted.
    """
    chosen = [(row, one) for row, one in enumerate(seen) if one is not None]
    if len(chosen) < 2:
        return np.empty((0, 2), dtype=np.int64)
    numbers, textures = np.array([row for row, _ in chosen]), [one.texture for _, one in chosen]
    owner = _number([owners[row] for row in numbers.tolist()])
    kept = _leave_out_still(textures, owner)
    rows, textures = numbers[kept], [textures[row] for row in kept.tolist()]
    barred = [owner[kept], _number([digests[row] for row in rows.tolist()])]
    asking = np.ones(len(rows), dtype=bool)
    if sides is not None:
        side = np.array([sides[row] for row in rows.tolist()])
        barred.append(side)
        asking = side == (0 if (side == 0).sum() <= len(side) / 2 else 1)
    moved, plain = _match_textures(textures, barred, asking)
    thumbnails = [chosen[row][1].thumbnail for row in kept.tolist()]
    in_place = _match_in_place(thumbnails, plain, barred)
    near = rows[np.unique(np.concatenate([moved, in_place]), axis=0)]
    return np.asarray(near[np.lexsort(near.T[::-1])], dtype=np.int64)


def _number(names: Sequence[str]) -> Ints:
    return np.unique(names, return_inverse=True)[1]


def _leave_out_still(textures: Sequence[Texture], owner: Ints) -> Ints:
    """Return the rows that none of the few before them, of the same owner, stands for."""
    kept: list[int] = []
    order = np.argsort(owner, kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
        flat = np.stack([textures[row].ravel() for row in mine.tolist()]).astype(np.float32)
        flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-12
        first: list[int] = []
        for row in range(len(mine)):
            if not (flat[first[-_BEFORE:]] @ flat[row] >= SAME).any():
                first.append(row)
        kept += mine[first].tolist()
    return np.array(sorted(kept), dtype=np.int64)


def _match_textures(
    textures: Sequence[Texture], barred: Sequence[Ints], asking: NDArray[np.bool_]
) -> tuple[Pairs, Ints]:
    """Return the pairs that agree wherever they are moved to, and the rows that may be in none.

    These are plain, or agree with their own mirror image, and so would agree with many others.
    """
    textured = np.array([is_textured(texture) for texture in textures])
    rows = np.flatnonzero(textured)
    chosen = [textures[row] for row in rows.tolist()]
    asked = np.flatnonzero(asking[rows])
    pairs, turns = find_candidates(chosen, [kind[rows] for kind in barred], asked)
    scores, likeness = _compare(chosen, pairs, turns, asked)
    found = pairs[_choose(scores, barred[0][rows][pairs], likeness)]
    symmetric = [row for row in np.unique(found).tolist() if is_symmetric(chosen[row])]
    textured[rows[symmetric]] = False
    return rows[found[~np.isin(found, symmetric).any(axis=1)]], np.flatnonzero(~textured)


def _match_in_place(thumbnails: Sequence[Thumbnail], rows: Ints, barred: Sequence[Ints]) -> Pairs:
    """Return the pairs, one of them of `rows`, that are equal but for brightness and encoding.

    A row that equals more than five is of a kind, as drawings are, and in no pair.
    """
    flat, found = np.stack(thumbnails).astype(np.float32), [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        equal = flat[some] @ flat.T >= IN_PLACE
        for kind in barred:
            equal &= kind[some, None] != kind
        equal[equal.sum(axis=1) > NEIGHBOURS] = False
        one, two = np.nonzero(equal)
        found.append(np.sort(np.stack([some[one], two], axis=1), axis=1))
    return np.concatenate(found)


def _score(textures: Sequence[Texture], pairs: Pairs, alignments: Sequence[Alignment]) -> Scores:
    """Return how well each pair agrees, laid over exactly."""
    return np.array([
        measure_agreement(textures[first], textures[second], found)
        for (first, second), found in zip(pairs.tolist(), alignments, strict=True)
    ])  # fmt: skip


def _align_all(
    textures: Sequence[Texture], pairs: Pairs, turns: Sequence[Sequence[int]]
) -> list[Alignment]:
    alignments: list[Alignment] = []
    for start in range(0, len(pairs), _PAIRS):
        some = pairs[start : start + _PAIRS].tolist()
        first, second = ([textures[pair[end]] for pair in some] for end in (0, 1))
        alignments += align(first, second, turns[start : start + _PAIRS])
    return alignments


def _compare(
    textures: Sequence[Texture], pairs: Pairs, turns: Sequence[Sequence[int]], asking: Ints
) -> tuple[Scores, float]:
    """Return how well each pair agrees, 0 where it is not worth an exact look, and their likeness.

    Some images, evenly drawn, say how alike all are; where they are much alike, less is worth it.
    """
    if not len(pairs):
        return np.empty(0), 0.0
    alignments, scores = _align_all(textures, pairs, turns), np.zeros(len(pairs))
    strength = np.abs([found.correlation for found in alignments])
    drawn = np.unique(asking[np.linspace(0, len(asking) - 1, _ASKED).astype(np.int64)])
    asked = np.isin(pairs, drawn).any(axis=1) & (strength >= _WORTH)
    rows = np.flatnonzero(asked)
    scores[rows] = _score(textures, pairs[rows], [alignments[row] for row in rows])
    likeness = _measure_likeness(scores, pairs, drawn)
    left = np.flatnonzero(~asked & (strength >= (_WORTH if likeness < _MUCH else _WORTH_THEN)))
    scores[left] = _score(textures, pairs[left], [alignments[row] for row in left])
    return scores, likeness


def _choose(scores: Scores, owners: Pairs, likeness: float) -> Ints:
    """Return the pairs that are near copies: beyond doubt, or far above all that follow.

    What follows is of other patients: neighbours of a copied slice are like the copy as well.
    """
    limit = ALIKE + STEEP * max(likeness - LIKE, 0)
    sides = np.sort(owners, axis=1).tolist()
    found = np.flatnonzero(scores >= limit)
    known = {tuple(sides[row]) for row in found.tolist()}
    falling = np.argsort(-scores, kind="stable").tolist()
    rest = [row for row in falling if scores[row] < limit and tuple(sides[row]) not in known]
    ordered = np.maximum(np.append(scores[rest], NEXT), NEXT)
    apart = np.flatnonzero((ordered[:-1] >= APART) & (ordered[:-1] - ordered[1:] >= GAP))
    last = apart[-1] + 1 if len(apart) else 0
    return np.concatenate([found, np.array(rest[:last], dtype=np.int64)])


def _measure_likeness(scores: Scores, pairs: Pairs, drawn: Ints) -> float:
    """Return how well the fifth best neighbour agrees with an image, the median of those drawn.

    Drawn organs, or eyes, agree with those of other patients as other pictures do not.
    """
    own = (np.sort(scores[(pairs == one).any(axis=1)])[::-1] for one in drawn)
    fifth = [each[NEIGHBOURS - 1] for each in own if len(each) >= NEIGHBOURS]
    return float(np.median(fifth)) if fifth else 0.0
