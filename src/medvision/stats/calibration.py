"""How far probabilities lie from what came true, under row weights."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvision.stats.ranking import Floats, ratio, sum_cells

BINS = 15


def place_in_bins(probs: ArrayLike, bins: int = BINS) -> NDArray[np.intp]:
    """Return of each probability its bin, 0 to `bins`; they are equally wide.

    Probability 1 has a bin of its own, the last, as in torchmetrics.
    """
    return np.searchsorted(np.linspace(0, 1, bins + 1), probs, side="right") - 1


def calibration_error(
    weights: Floats, probs: Floats, right: NDArray[Any], bins: int = BINS
) -> Floats:
    """Return the expected calibration error `[R]`, nan without rows.

    Args:
        weights: `[R,N]`.
        probs: `[N]` in 0..1, what was said.
        right: `[N]` of 0 and 1, what came true.
        bins: their number.

    Reference:
        M. P. Naeini, G. F. Cooper, M. Hauskrecht, Obtaining well calibrated probabilities using
        Bayesian binning, 2015, doi:10.1609/aaai.v29i1.9602.
    """
    gaps = sum_cells(weights, place_in_bins(probs, bins), bins + 1, probs - right)
    return ratio(np.abs(gaps).sum(axis=1), weights.sum(axis=1))
