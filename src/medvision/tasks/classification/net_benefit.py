"""What acting on a model is worth: true positives, less what false alarms cost at a threshold.

Reference:
    A. J. Vickers, E. B. Elkin, Decision curve analysis: a novel method for evaluating prediction
    models, 2006, doi:10.1177/0272989X06295361.
"""

import numpy as np
from numpy.typing import NDArray

from medvision.stats.ranking import Floats, Ranking

THRESHOLDS = np.linspace(0, 0.99, 100)  # at 1 no false alarm is worth anything


def count_reaching(ranking: Ranking, thresholds: Floats) -> NDArray[np.intp]:
    """Return how many of the distinct scores reach each threshold."""
    return np.searchsorted(-ranking.scores, -thresholds, side="right")


def add_up(reaching: NDArray[np.intp], hits: Floats, alarms: Floats, thresholds: Floats) -> Floats:
    """Return the net benefit of acting from each threshold on, a share of all rows.

    Args:
        reaching: of `count_reaching`.
        hits: of `Ranking.cumulate`, of one resample.
        alarms: likewise.
        thresholds: below 1.
    """
    gain = hits[reaching] - alarms[reaching] * thresholds / (1 - thresholds)
    return np.asarray(gain / (hits[-1] + alarms[-1]))
