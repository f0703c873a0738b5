"""Measures on features: hand-made points, closed forms, scikit-learn."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors

from medvision.errors import MedvisionError
from medvision.tasks.generation.fidelity import (
    cover,
    measure_copying,
    measure_distances,
    measure_distinctness,
    measure_frechet,
    measure_kernel,
    measure_membership,
    measure_radii,
    measure_spread,
)


def line(*places):
    return np.array(places, dtype=float)[:, None]


def test_coverage_density_precision_recall_of_points_on_a_line():
    # Radii by the nearest other: 1, 1, 7. Balls: [-1, 1], [0, 2], [1, 15].
    real, fake = line(0, 1, 8), line(0.5, 0.6, 20)
    radii = measure_radii(real, "abc", 1)
    assert radii.tolist() == [1, 1, 7]
    scores = cover(measure_distances(real, fake), radii, measure_radii(fake, "xyz", 1), 1)
    assert scores["coverage"] == pytest.approx(2 / 3)
    assert scores["density"] == pytest.approx((2 + 2 + 0) / 3)
    assert scores["precision"] == pytest.approx(2 / 3)
    # Fake balls: [.4, .6], [.5, .7] and [.6, 39.4], which holds 1 and 8.
    assert scores["recall"] == pytest.approx(2 / 3)


def test_radii_agree_with_scikit_learn_where_every_image_is_another_patients():
    real = np.random.default_rng(0).normal(size=(60, 7))
    expected = NearestNeighbors(n_neighbors=6).fit(real).kneighbors(real)[0][:, 5]
    np.testing.assert_allclose(measure_radii(real, range(60), 5), expected)


def test_coverage_of_the_same_distribution_is_what_its_formula_says():
    rng = np.random.default_rng(1)
    real, fake = rng.normal(size=(2, 800, 3))
    scores = cover(measure_distances(real, fake), measure_radii(real, range(800), 5), None, 5)
    # Naeem 2020, for equal numbers: 1 - prod (N - i) / (2N - 1 - i), i < k; here 1 - 2^-5.
    assert scores["coverage"] == pytest.approx(1 - 2**-5, abs=0.02)
    assert scores["density"] == pytest.approx(1, abs=0.1)


def test_slices_of_one_patient_do_not_make_each_others_neighbourhood():
    # 40 patients of 6 all but equal slices.
    rng = np.random.default_rng(2)
    real = np.repeat(rng.normal(size=(40, 2)), 6, axis=0) + rng.normal(size=(240, 2)) * 1e-3
    fake = np.repeat(rng.normal(size=(40, 2)), 6, axis=0)
    apart = measure_distances(real, fake)
    naive = cover(apart, measure_radii(real, range(240), 5), None, 5)["coverage"]
    ours = cover(apart, measure_radii(real, np.repeat(np.arange(40), 6), 5), None, 5)["coverage"]
    assert naive < 0.05
    assert ours > 0.4


@pytest.mark.parametrize("owners", [range(4), "aaaaaaab"])
def test_too_few_images_of_other_patients_are_refused(owners):
    with pytest.raises(MedvisionError, match="too few to measure neighbourhoods of 5"):
        measure_radii(np.zeros((len(owners), 2)), list(owners), 5)


def test_the_frechet_distance_is_that_of_the_fitted_normal_distributions():
    rng = np.random.default_rng(3)
    one, two = rng.normal(size=(300, 4)), rng.normal(size=(300, 4)) * [1, 2, 1, 3] + [1, 0, 2, 0]
    a, b = np.cov(one.T), np.cov(two.T)
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert measure_frechet(one, two) == pytest.approx(expected, rel=1e-6)
    assert measure_frechet(one, one) == pytest.approx(0, abs=1e-6)
    shifted = one + np.array([3, 0, 0, 4])
    assert measure_frechet(one, shifted) == pytest.approx(25, rel=1e-6)


def test_the_kernel_distance_is_the_unbiased_estimate_and_about_nought_if_alike():
    rng = np.random.default_rng(4)
    one, two = rng.normal(size=(120, 6)), rng.normal(size=(120, 6)) + 0.5
    inner = [polynomial_kernel(x, degree=3, coef0=1) for x in (one, two)]
    within = [(k.sum() - np.trace(k)) / (120 * 119) for k in inner]
    expected = sum(within) - 2 * polynomial_kernel(one, two, degree=3, coef0=1).mean()
    assert measure_kernel(one, two) == pytest.approx(expected, rel=1e-5)
    null = [measure_kernel(rng.normal(size=(120, 6)), rng.normal(size=(120, 6))) for _ in range(9)]
    assert min(null) < 0 < max(null)
    assert abs(np.mean(null)) < expected / 5


def test_spread_and_distinctness_of_hand_made_points():
    assert measure_spread(line(0, 1, 3)) == pytest.approx(2)
    assert measure_distinctness(line(0, 1, 3)) == pytest.approx(1)
    assert measure_distinctness(line(0, 0, 3, 3)) == pytest.approx(0, abs=1e-6)


def test_copies_are_counted_beside_what_unseen_images_do():
    rng = np.random.default_rng(5)
    train, held, unseen, fresh = rng.normal(size=(4, 200, 8))

    def nearest(images):
        return tuple(measure_distances(images, ref).min(axis=1) for ref in (train, held))

    null = nearest(unseen)
    healthy = measure_copying(nearest(fresh), null)
    assert healthy["null"] == pytest.approx(0.5, abs=0.15)
    assert healthy["copied"] < 0.1
    half = measure_copying(nearest(np.concatenate([train[:100], fresh[:100]])), null)
    assert half["copied"] == pytest.approx(0.5, abs=0.1)
    assert measure_copying(nearest(train), null) == pytest.approx(
        {"rate": 1, "null": healthy["null"], "copied": 1}
    )


def test_membership_by_the_critics_scores():
    assert measure_membership([3, 3], [1, 1], [-1, -1]) == {"auc": 1.0, "overfit_ratio": 0.5}
    assert measure_membership([0, 1], [0, 1], [-3, -2]) == {"auc": 0.5, "overfit_ratio": 0.0}
    assert measure_membership([1], [0], [1])["overfit_ratio"] is None


@pytest.mark.parametrize("held", [[], [np.nan]])
def test_membership_needs_finite_scores(held):
    with pytest.raises(MedvisionError, match="finite critic scores"):
        measure_membership([1.0], held, [0.0])
