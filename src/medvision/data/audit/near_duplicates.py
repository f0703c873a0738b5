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

from medvision.data.audit.alignment import agree, lay_over
from medvision.data.audit.texture import SMALLEST, Texture
from medvision.data.audit.waves import Waves, find_candidates, flatten, measure_waves
from medvision.data.splits.groups import Ints

ALIKE = 0.8  # agreement of copies; other patients' images reach 0.75
APART = 0.75  # a pair of so much is one too if the next stands `GAP` below
GAP = 0.1
NEXT = 0.5  # where no other pair was worth laying over, the next stands here
SAME = 0.998  # from here on one image of a patient stands for another
SOUGHT = (
    "near copies were looked for between patients: re-encoded, resized, brightened, inverted, "
    "mirrored, turned, shifted or cropped by up to a tenth, framed, with letters burnt in"
)
_WORTH = 0.6  # correlation from which two are laid over exactly
_PAIRS = 256  # laid over at a time

Pairs = NDArray[np.int64]


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
    found = pairs[_choose(_score(chosen, pairs, turns), owner[pairs])]
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


def _score(
    textures: Sequence[Texture], pairs: Pairs, turns: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Return how well each pair agrees; 0 where it is not worth laying over exactly."""
    scores = np.zeros(len(pairs))
    for start in range(0, len(pairs), _PAIRS):
        some = pairs[start : start + _PAIRS].tolist()
        first, second = ([textures[pair[end]] for pair in some] for end in (0, 1))
        lies = lay_over(first, second, turns[start : start + _PAIRS])
        for at, lie in enumerate(lies):
            if abs(lie.correlation) >= _WORTH:
                scores[start + at] = agree(first[at], second[at], lie)
    return scores


def _choose(scores: NDArray[np.float64], owners: Ints) -> Ints:
    """Return the pairs that are near copies: beyond doubt, or far above all that follow.

    What follows is of other patients: neighbours of a copied slice are like the copy as well.
    """
    found = np.flatnonzero(scores >= ALIKE)
    known = {frozenset(pair) for pair in owners[found].tolist()}
    rest = np.array([row for row in np.argsort(-scores, kind="stable").tolist()
                     if scores[row] < ALIKE and frozenset(owners[row].tolist()) not in known],
                    dtype=np.int64)  # fmt: skip
    ordered = np.maximum(np.append(scores[rest], NEXT), NEXT)
    apart = np.flatnonzero((ordered[:-1] >= APART) & (ordered[:-1] - ordered[1:] >= GAP))
    last = apart[-1] + 1 if len(apart) else 0
    return np.concatenate([found, rest[:last]])
