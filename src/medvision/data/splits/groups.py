"""Groups of rows that belong together, and how whole groups are dealt to parts and folds."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medvision.errors import MedvisionError
from medvision.identity import count

Ints = NDArray[np.int64]


def connect(*keys: Sequence[str]) -> Ints:
    """Number the connected components of rows that share a key.

    Args:
        keys: lists with one key a row; equal keys of one list connect their rows, "" never does.

    Returns:
        A group number a row, numbered by first appearance.
    """
    rows, nodes, total = [], [], len(keys[0])
    for values in keys:
        codes, names = pd.factorize(np.asarray(values, dtype=object))
        named = np.flatnonzero(np.asarray(values, dtype=object) != "")
        rows.append(named)
        nodes.append(codes[named] + total)
        total += len(names)
    row, node = np.concatenate(rows), np.concatenate(nodes)
    graph = coo_array((np.ones(len(row), dtype=np.int8), (row, node)), shape=(total, total))
    _, component = connected_components(graph, directed=False)
    return np.asarray(pd.factorize(component[: len(keys[0])])[0], dtype=np.int64)


def join_pairs(pairs: Ints, total: int) -> list[str]:
    """Turn pairs of rows `[P,2]` into a key a row for `connect`; "" for rows in no pair."""
    graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (total, total))
    _, component = connected_components(graph, directed=False)
    paired = set(pairs.ravel().tolist())
    return [str(number) if row in paired else "" for row, number in enumerate(component)]


def _line_up(groups: Ints, strata: Sequence[str], seed: int) -> Ints:
    """Order the groups so that neighbours are alike; at random (by `seed`) among the alike.

    Alike is: the commonest label, then the rarest label (a few slices with a lesion tell more of a
    patient than the many without), then the size. Group numbers must be 0…G-1.
    """
    rng = np.random.default_rng(seed)
    label = pd.factorize(np.asarray(strata, dtype=object), sort=True)[0]
    pairs = pd.DataFrame({"group": groups, "label": label}).value_counts().reset_index()
    pairs["overall"] = np.bincount(label)[pairs["label"]]
    common = pairs.sort_values(["group", "count", "label"], ascending=[True, False, True])
    rare = pairs.sort_values(["group", "overall", "label"])
    shuffled = rng.permutation(label.max() + 1)
    commonest, rarest = (
        shuffled[chosen.drop_duplicates("group")["label"]] for chosen in (common, rare)
    )
    sizes = np.bincount(groups)
    # Coarse sizes only (1-3, 4-15, 16-63, …): finer ones would leave nothing to the seed.
    size = np.log2(sizes) // 2
    return np.lexsort((rng.permutation(len(sizes)), -size, rarest, commonest))


def _allocate(groups: Ints, strata: Sequence[str], shares: Sequence[float], seed: int) -> Ints:
    """Deal groups, lined up by likeness, to parts; each goes where the most is due.

    Dealing along a line of like neighbours gives every stratum its shares up to about one group,
    and the whole too, however many strata are tiny (as with `a|b` labels). What is shared out is
    half the groups and half the rows: an interval is over patients, so that one of many images
    must not be a whole part; and a part of few images scores loosely.

    Reference:
        The rule is Webster's (Sainte-Laguë's) divisor method of apportionment.
    """
    number = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(number)
    weights = 1 / len(sizes) + sizes / len(number)
    filled = np.zeros(len(shares))
    dealt = np.zeros(len(sizes), dtype=np.int64)
    for group in _line_up(number, strata, seed).tolist():
        dealt[group] = part = np.argmin((filled + weights[group] / 2) / shares)
        filled[part] += weights[group]
    return dealt[number]


def split_by_patient(
    groups: Ints, strata: Sequence[str], shares: Mapping[str, float], seed: int
) -> NDArray[np.str_]:
    """Give each row a part; groups stay whole, labels are spread alike.

    Args:
        groups: group number a row; only their order matters.
        strata: label a row ("" = unlabelled, a stratum of its own; `a|b` too).
        shares: of groups and rows a part; they add up to 1, a part of share 0 is left out.
        seed: alone decides what is drawn.

    Raises:
        MedvisionError: shares that are none, or too few groups to fill every part.
    """
    parts = {part: share for part, share in shares.items() if share != 0}
    if not parts or min(parts.values()) < 0 or abs(sum(parts.values()) - 1) > 1e-6:
        told = ", ".join(f"{part} {share:g}" for part, share in shares.items())
        raise MedvisionError(f"the shares of a split must add up to 1, not {told}; set data.shares")
    dealt = _allocate(groups, strata, list(parts.values()), seed)
    empty = [part for number, part in enumerate(parts) if not (dealt == number).any()]
    if empty:
        raise MedvisionError(
            f"{count(len(np.unique(groups)), 'patient')} (those who share an image count as one) "
            f"cannot fill {', '.join(parts)}: nothing is left for {' and '.join(empty)}; "
            "add patients, give it a larger share, or give the manifest a split column"
        )
    return np.array(list(parts))[dealt]


def fold_by_patient(groups: Ints, strata: Sequence[str], k: int, seed: int) -> Ints:
    """Give each row one of `k` folds of like size and labels; groups stay whole.

    Raises:
        MedvisionError: fewer than two folds, or fewer groups than folds.
    """
    held = len(np.unique(groups))
    if k < 2 or held < k:
        why = f"there are only {count(held, 'patient')}" if k >= 2 else "two are the fewest"
        raise MedvisionError(f"cannot make {count(k, 'fold')}: {why}; set data.folds")
    return _allocate(groups, strata, [1 / k] * k, seed)
