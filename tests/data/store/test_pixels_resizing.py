import numpy as np
import pytest

from medvision.data.store.pixels import cut_center, resize


def test_pad_keeps_the_aspect_and_fills_with_black():
    levels = np.full((20, 40, 1), 200, np.uint8)
    found = resize(levels, (32, 32), "pad")
    assert found.shape == (32, 32, 1)
    assert (found[8:24] == 200).all()
    assert (found[:8] == 0).all()
    assert (found[24:] == 0).all()


def test_crop_keeps_the_middle():
    levels = np.zeros((20, 40, 3), np.uint16)
    levels[:, 10:30] = 60000
    found = resize(levels, (10, 10), "crop")
    assert found.shape == (10, 10, 3)
    assert found.dtype == np.uint16
    assert (found == 60000).all()


def test_stretch_fills_everything():
    found = resize(np.full((20, 40, 1), 9, np.uint8), (33, 17), "stretch")
    assert found.shape == (33, 17, 1)
    assert (found == 9).all()


def test_halving_is_the_mean_of_four():
    levels = np.random.default_rng(0).integers(0, 65535, (8, 8, 1), dtype=np.uint16)
    means = levels.reshape(4, 2, 4, 2).mean((1, 3))
    assert np.abs(resize(levels, (4, 4), "pad")[..., 0] - means).max() <= 0.5


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("shape", [(2, 300), (300, 2), (7, 5), (64, 64)])
@pytest.mark.parametrize("size", [(2, 2), (16, 9), (31, 64)])
def test_any_shape_comes_out_at_its_size(fit, shape, size):
    found = resize(np.ones((*shape, 1), np.uint8), size, fit)
    assert found.shape == (*size, 1)
    assert found.max() == 1


@pytest.mark.parametrize(("share", "rows", "columns"), [
    (1.0, (0, 20), (0, 40)), (0.5, (5, 15), (10, 30)), (0.01, (9, 10), (19, 20)),
])  # fmt: skip
def test_the_middle_is_kept(share, rows, columns):
    levels = np.arange(20 * 40, dtype=np.uint16).reshape(20, 40, 1)
    found = cut_center(levels, share)
    assert np.array_equal(found, levels[slice(*rows), slice(*columns)])
