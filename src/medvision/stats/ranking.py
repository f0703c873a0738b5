"""Ratios and means that are undefined where nothing is left."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.float64]


class Ranking:
    """Rows of two classes, from the highest score down.

    Args:
        scores: `[N]`, higher is more positive; ties count half.
        positive: `[N]` bool.
        known: `[N]` bool, the rows that count; default all.
    """

    def __init__(
        self,
        scores: ArrayLike,
        positive: NDArray[np.bool_],
        known: NDArray[np.bool_] | None = None,
    ) -> None:
        given = np.asarray(scores, dtype=np.float64)
        rows = np.arange(len(given)) if known is None else np.flatnonzero(known)
        self.rows = rows[np.argsort(-given[rows], kind="stable")]
        self.positive = positive[self.rows]
        values = given[self.rows]
        self.ends = np.flatnonzero(np.append(values[1:] != values[:-1], len(values) > 0))
        self.scores = values[self.ends]  # the distinct ones

    def cumulate(self, weights: Floats) -> tuple[Floats, Floats]:
        """Sum hits and false alarms from the highest of T distinct scores down, `[R,1+T]` each.

        Both start at 0.

        Args:
            weights: `[R,N]`.
        """
        sorted_weights = weights[:, self.rows]
        everything = np.cumsum(sorted_weights, axis=1)[:, self.ends]
        hits = np.cumsum(sorted_weights * self.positive, axis=1)[:, self.ends]
        zero = np.zeros((len(weights), 1))
        return np.hstack([zero, hits]), np.hstack([zero, everything - hits])


def curve_areas(hits: Floats, alarms: Floats) -> tuple[Floats, Floats]:
    """Return AUROC (ties count half) and average precision (in steps), each `[R]`, nan undefined.

    AUROC needs both classes, average precision a positive row.

    Args:
        hits: true positives as `Ranking.cumulate` sums them up.
        alarms: likewise false positives.
    """
    P, N = hits[:, -1], alarms[:, -1]
    steps = np.diff(hits, axis=1)
    above = np.einsum("rt,rt->r", np.diff(alarms, axis=1), hits[:, 1:] + hits[:, :-1])
    precision = np.nan_to_num(ratio(hits[:, 1:], hits[:, 1:] + alarms[:, 1:]))
    return ratio(above, 2 * P * N), ratio(np.einsum("rt,rt->r", steps, precision), P)


def measure_areas(scores: ArrayLike, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Return AUROC and average precision of rows that all count once; arguments as in `Ranking`."""
    areas = curve_areas(*Ranking(scores, positive).cumulate(np.ones((1, len(positive)))))
    return float(areas[0][0]), float(areas[1][0])


def ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Divide; nan where the whole is 0."""
    over = np.asarray(whole, dtype=np.float64)
    return np.asarray(np.divide(part, over, out=np.full(over.shape, np.nan), where=over != 0))


def mean_defined(values: Floats, asked: NDArray[np.bool_] | None = None) -> Floats:
    """Average the last axis over what is not nan; nan where nothing is left.

    Args:
        values: `[...,K]`.
        asked: `[K]`; nan wherever one of these is. None: each average is over what it has.
    """
    known = ~np.isnan(values)
    if asked is not None:
        known &= known[..., asked].all(axis=-1, keepdims=True)
    return ratio(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))


def sum_cells(weights: Floats, cells: NDArray[Any], n: int, values: ArrayLike = 1.0) -> Floats:
    """Sum weight times value in each of `n` cells: `[R,N]` → `[R,n]`."""
    from scipy.sparse import csr_array  # its import takes longer than a command that scores nothing

    filled = np.broadcast_to(np.asarray(values, dtype=np.float64), cells.shape)
    table = csr_array((filled, (cells, np.arange(len(cells)))), shape=(n, len(cells)))
    return np.asarray((table @ weights.T).T)
