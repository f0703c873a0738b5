"""Near copies: images that look alike although their pixels differ.

Found are re-encoded, resized, brightened, inverted, mirrored and turned copies, those cropped or
shifted by up to a tenth of a side, turned by a few degrees, framed, or with letters burnt in. The
strengths of an image's waves are the same wherever it is shifted to, and tell which few images are
worth laying over it; of these, most places must agree.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from medvision.data.audit.alignment import Lie, agree, lay_over
from medvision.data.audit.texture import Texture
from medvision.data.audit.waves import NEIGHBOURS, Waves, find_candidates, flatten, measure_waves
from medvision.data.splits.groups import Ints

ALIKE = 0.8  # agreement of copies; other patients' images reach 0.75
LIKE, STEEP = 0.4, 0.6  # where images agree with those around them by more than 0.4, it is more
APART = 0.75  # a pair of so much is one too if the next stands `GAP` below
GAP = 0.1
NEXT = 0.5  # where no other pair was worth laying over, the next stands here
SAME = 0.998  # from here on one image of a patient stands for another
SOUGHT = (
    "near copies were looked for between patients: re-encoded, resized, brightened, inverted, "
    "mirrored, turned, shifted or cropped by up to a tenth, framed, with letters burnt in"
)
_WORTH = 0.6  # correlation from which two are laid over exactly
_MUCH, _WORTH_THEN = 0.5, 0.85  # of much likeness on
_ASKED = 60  # images, for the likeness
_PAIRS = 256  # laid over at a time

Pairs = NDArray[np.int64]
Scores = NDArray[np.float64]


def find_near_duplicates(
    seen: Sequence[Texture | None],
    owners: Sequence[str],
    digests: Sequence[str],
    sides: Sequence[int] | None = None,
) -> Pairs:
    """Find pairs of rows that are near copies, of different owners; exact copies are none.

    Of an owner's images that are all but equal, as the frames of a still clip, only the first is
    looked at. Each image is laid over the five whose waves are most alike.

    Args:
        seen: the texture of each row; None is like nothing.
        owners: patient a row; near copies within one are neighbouring slices.
        digests: pixel digest a row.
        sides: a number a row; rows of the same one are not compared.

    Returns:
        `[P,2]`, row numbers, the smaller first, sorted.
    """
    described = [(row, one) for row, one in enumerate(seen) if one is not None]
    if len(described) < 2:
        return np.empty((0, 2), dtype=np.int64)
    rows, chosen = np.array([row for row, _ in described]), [one for _, one in described]
    waves, owner = measure_waves(chosen), _number([owners[row] for row in rows])
    first = _leave_out_still(flatten(waves), chosen, owner)
    rows, owner, chosen = rows[first], owner[first], [chosen[one] for one in first]
    barred = [owner, _number([digests[row] for row in rows])]
    if sides is not None:
        barred.append(np.array([sides[row] for row in rows]))
    pairs, turns = find_candidates(waves[first], barred)
    scores, likeness = _compare(chosen, pairs, turns)
    found = pairs[_choose(scores, owner[pairs], likeness)]
    near = np.sort(rows[found].reshape(-1, 2), axis=1)
    return np.asarray(near[np.lexsort(near.T[::-1])], dtype=np.int64)


def _number(names: Sequence[str]) -> Ints:
    return np.unique(names, return_inverse=True)[1]


def _leave_out_still(flat: Waves, textures: Sequence[Texture], owner: Ints) -> Ints:
    """Return the rows that no earlier one of the same owner stands for."""
    kept = np.ones(len(owner), dtype=bool)
    order = np.argsort(owner, kind="stable")
    edges = [0, *(np.flatnonzero(np.diff(owner[order])) + 1).tolist(), len(order)]
    for start, end in pairwise(edges):
        mine = order[start:end]
        for at, row in enumerate(mine.tolist()):
            if kept[row]:
                later = mine[at + 1 :][kept[mine[at + 1 :]]]
                alike = later[flat[later] @ flat[row] >= SAME]
                same = [_correlate(textures[row], textures[other]) >= SAME for other in alike]
                kept[alike[np.array(same, dtype=bool)]] = False
    return np.flatnonzero(kept)


def _correlate(one: Texture, two: Texture) -> float:
    first, second = one.astype(np.float32).ravel(), two.astype(np.float32).ravel()
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def _score(textures: Sequence[Texture], pairs: Pairs, lies: Sequence[Lie]) -> Scores:
    """Return how well each pair agrees, laid over exactly."""
    return np.array([
        agree(textures[first], textures[second], lie)
        for (first, second), lie in zip(pairs.tolist(), lies, strict=True)
    ])  # fmt: skip


def _lay_all(
    textures: Sequence[Texture], pairs: Pairs, turns: Sequence[Sequence[int]]
) -> list[Lie]:
    lies: list[Lie] = []
    for start in range(0, len(pairs), _PAIRS):
        some = pairs[start : start + _PAIRS].tolist()
        first, second = ([textures[pair[end]] for pair in some] for end in (0, 1))
        lies += lay_over(first, second, turns[start : start + _PAIRS])
    return lies


def _compare(
    textures: Sequence[Texture], pairs: Pairs, turns: Sequence[Sequence[int]]
) -> tuple[Scores, float]:
    """Return how well each pair agrees, 0 where it is not worth an exact look, and their likeness.

    Some images, evenly drawn, say how alike all are; where they are much alike, less is worth it.
    """
    lies, scores = _lay_all(textures, pairs, turns), np.zeros(len(pairs))
    strength = np.abs([lie.correlation for lie in lies])
    drawn = np.unique(np.linspace(0, len(textures) - 1, _ASKED).astype(np.int64))
    asked = np.isin(pairs, drawn).any(axis=1) & (strength >= _WORTH)
    rows = np.flatnonzero(asked)
    scores[rows] = _score(textures, pairs[rows], [lies[row] for row in rows])
    likeness = _measure_likeness(scores, pairs, drawn)
    left = np.flatnonzero(~asked & (strength >= (_WORTH if likeness < _MUCH else _WORTH_THEN)))
    scores[left] = _score(textures, pairs[left], [lies[row] for row in left])
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
