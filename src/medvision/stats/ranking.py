"""Ratios and means that are undefined where nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    pass


Floats: TypeAlias = NDArray[np.float64]


def ratio(part: ArrayLike, whole: ArrayLike) -> Floats:
    """Divide; nan where the whole is 0."""
    over = np.asarray(whole, dtype=np.float64)
    return np.asarray(np.divide(part, over, out=np.full(over.shape, np.nan), where=over != 0))


def mean_defined(values: Floats) -> Floats:
    """Average the last axis over what is not nan; nan where nothing is left."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))
