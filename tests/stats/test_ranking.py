"""Areas of weighted rows against scikit-learn, repeated rows and pairs counted one by one."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from medvision.stats.ranking import Ranking, curve_areas, mean_defined, measure_areas, ratio

N = 200


def draw(seed=0):
    rng = np.random.default_rng(seed)
    positive = rng.random(N) < 0.3
    return (positive + rng.normal(size=N)).round(1), positive  # with ties


def test_areas_equal_scikit_learns_under_weights():
    scores, positive = draw()
    weights = np.random.default_rng(1).integers(0, 4, size=(5, N)).astype(float)
    aurocs, precisions = curve_areas(*Ranking(scores, positive).cumulate(weights))
    for row, w in enumerate(weights):
        expected = roc_auc_score(positive, scores, sample_weight=w)
        assert aurocs[row] == pytest.approx(expected, abs=1e-12)
        expected = average_precision_score(positive, scores, sample_weight=w)
        assert precisions[row] == pytest.approx(expected, abs=1e-12)


def test_auroc_is_the_share_of_pairs_in_order():
    scores, positive = draw(2)
    above, below = scores[positive][:, None], scores[~positive]
    wins = (above > below) + 0.5 * (above == below)
    assert measure_areas(scores, positive)[0] == pytest.approx(wins.mean(), abs=1e-12)


def test_unknown_rows_do_not_count():
    scores, positive = draw()
    known = np.random.default_rng(3).random(N) < 0.8
    ours = curve_areas(*Ranking(scores, positive, known).cumulate(np.ones((1, N))))
    assert (ours[0][0], ours[1][0]) == measure_areas(scores[known], positive[known])


def test_one_class_leaves_areas_undefined():
    scores = np.array([0.2, 0.9])
    assert np.isnan(measure_areas(scores, np.array([False, False]))).all()
    auroc, precision = measure_areas(scores, np.array([True, True]))
    assert np.isnan(auroc)
    assert precision == 1
    assert np.isnan(measure_areas(scores[:0], np.zeros(0, bool))).all()


def test_what_is_not_defined_leaves_the_mean():
    assert ratio([1, 1], [2, 0]) == pytest.approx([0.5, np.nan], nan_ok=True)
    values = np.array([[0.5, np.nan, 0.7], [np.nan] * 3])
    assert mean_defined(values) == pytest.approx([0.6, np.nan], nan_ok=True)
