import numpy as np
import pytest

from medvision.data.store.pixels import WINDOWS_HU, full_range, percentile_range, preset, quantise


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("depth", [8, 16])
def test_linear_clipped_and_rounded_to_the_nearest_level(kind, depth):
    low, high, top = 20.0, 180.0, 2**depth - 1
    pixels = np.arange(0, 250, 7).reshape(6, 6).astype(kind)
    exact = np.clip((pixels.astype(np.float64) - low) / (high - low) * top, 0, top)
    found = quantise(pixels, low, high, depth)
    assert found.dtype == (np.uint8 if depth == 8 else np.uint16)
    assert np.abs(found - exact).max() <= 0.5 + 1e-3
    assert found.min() == 0
    assert found.max() == top


def test_ends_of_a_signed_window():
    pixels = np.array([[-32768, -1350, -600, 150, 32767]], np.int16)
    assert quantise(pixels, *preset("lung"), 8).tolist() == [[0, 0, 128, 255, 255]]


def test_large_int32_keep_their_differences():
    pixels = np.array([[2**30, 2**30 + 1, 2**30 + 2]], np.int32)
    assert quantise(pixels, *full_range(pixels), 8).tolist() == [[0, 128, 255]]


def test_full_range_leaves_8_bits_as_they_are_and_scales_16():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(quantise(grey, *full_range(grey), 8), grey)
    assert np.array_equal(quantise(grey, *full_range(grey), 16), grey.astype(np.uint16) * 257)
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(quantise(deep, *full_range(deep), 16), deep)
    assert np.array_equal(quantise(deep, *full_range(deep), 8), np.rint(deep / 257))


def test_without_contrast_nothing_overflows():
    flat = np.full((3, 3), 7.5, np.float32)
    assert (quantise(flat, *full_range(flat), 8) == 0).all()
    assert quantise(np.array([[1.0, 2.0]], np.float32), 1, 1, 8).tolist() == [[0, 255]]


def test_percentiles_are_numpys():
    pixels = np.random.default_rng(0).normal(size=(50, 50)).astype(np.float32)
    assert percentile_range(pixels, (1, 99)) == tuple(np.percentile(pixels, (1, 99)))


def test_presets_are_level_and_width():
    assert preset("brain") == (0, 80)
    assert preset("soft_tissue") == (-160, 240)
    assert {"lung", "brain", "bone", "soft_tissue", "mediastinum"} <= set(WINDOWS_HU)
