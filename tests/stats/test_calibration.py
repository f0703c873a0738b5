"""The calibration error against torchmetrics, repeated rows and a sum by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_calibration_error

from medvision.stats.calibration import calibration_error, place_in_bins


def draw(n=300):
    rng = np.random.default_rng(0)
    probs = (97 * rng.random(n)).round() / 97  # ties, none at an edge of a bin but 0 and 1
    return probs, (rng.random(n) < probs).astype(float)


def test_weights_of_one_give_torchmetrics_error():
    probs, right = draw()
    ours = calibration_error(np.ones((1, len(probs))), probs, right)
    theirs = binary_calibration_error(torch.tensor(probs), torch.tensor(right).long(), 15)
    assert ours == pytest.approx([float(theirs)], abs=1e-6)


def test_whole_weights_equal_rows_repeated():
    probs, right = draw()
    weights = np.random.default_rng(1).integers(0, 4, size=(3, len(probs)))
    ours = calibration_error(weights.astype(float), probs, right)
    for row, weight in enumerate(weights):
        again = np.repeat(np.arange(len(probs)), weight)
        alone = calibration_error(np.ones((1, len(again))), probs[again], right[again])
        assert ours[row] == pytest.approx(alone[0], abs=1e-12)


def test_two_bins_by_hand():
    probs, right = np.array([0.1, 0.3, 0.6, 1.0]), np.array([0, 1, 1, 1])
    assert place_in_bins(probs, 2).tolist() == [0, 0, 1, 2]
    # |0.4 - 1| of the lower bin, |0.6 - 1| of the upper, nothing of probability 1
    assert calibration_error(np.ones((1, 4)), probs, right, 2) == pytest.approx([1.0 / 4])
    assert np.isnan(calibration_error(np.ones((1, 0)), probs[:0], right[:0])).all()
