from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvision.augment import host, spatial
from medvision.augment.draw import FILLS, RANGES, SWITCHES, Augment

SINGLE = [{key: min(high, 0.5) if high <= 1 else high / 3} for key, (_, high) in RANGES.items()]
SINGLE = [keys for keys in SINGLE if "probability" not in keys] + [{key: True} for key in SWITCHES]
ranges = {key: st.floats(low, min(high, 20.0) / 2) for key, (low, high) in RANGES.items()}
switches = {key: st.booleans() for key in SWITCHES}
augments = st.builds(Augment, **ranges, **switches, fill=st.sampled_from(FILLS))


def noise(rows: int, channels: int, dtype: type, side: tuple[int, int] = (19, 24)) -> np.ndarray:
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(0).integers(0, top, (rows, *side, channels)).astype(dtype)


def wedge(side: int) -> np.ndarray:
    """Bright at the top left, and nowhere else."""
    image = np.zeros((1, side, side, 1), np.uint8)
    image[:, 2 : side // 3, 2 : side // 4] = 200
    return image


@settings(max_examples=40, deadline=None)
@given(
    augment=augments,
    channels=st.sampled_from([1, 2, 3, 4, 5]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
def test_a_batch_equals_its_images_one_by_one(augment: Augment, channels: int, dtype: type) -> None:
    images, indices = noise(4, channels, dtype), np.array([7, 0, 7, 123_456])
    images[2] = images[0]
    whole = host.augment(images, augment.draw(5, 2, indices, (19, 24)))
    assert whole.dtype == images.dtype
    for row, index in enumerate(indices):
        draws = augment.draw(5, 2, np.array([index]), (19, 24))
        np.testing.assert_array_equal(host.augment(images[row : row + 1], draws)[0], whole[row])
    np.testing.assert_array_equal(whole[0], whole[2])


@pytest.mark.parametrize("keys", SINGLE, ids=lambda keys: next(iter(keys)))
def test_every_key_changes_something_and_the_gate_shuts_it(keys: dict[str, float]) -> None:
    if "scale_axes_apart" in keys:
        keys = {**keys, "scale": 0.3}
    images = noise(16, 1, np.uint8, (20, 20))
    opened = Augment(**keys).draw(0, 0, np.arange(16), (20, 20))
    assert not np.array_equal(host.augment(images, opened), images)
    shut = Augment(**keys, probability=0).draw(0, 0, np.arange(16), (20, 20))
    np.testing.assert_array_equal(host.augment(images, shut), images)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_gate_leaves_its_share_bit_for_bit(dtype: type) -> None:
    images = noise(64, 1, dtype)
    draws = Augment(rotate_degrees=30, noise=0.3, probability=0.5).draw(
        0, 0, np.arange(64), (19, 24)
    )
    same = (host.augment(images, draws) == images).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(same, ~draws.changed)
    assert 20 < same.sum() < 44


def test_writes_into_the_given_batch_and_in_place() -> None:
    images = noise(6, 3, np.uint8)
    draws = Augment(rotate_degrees=30, blur=1, probability=0.6).draw(0, 0, np.arange(6), (19, 24))
    fresh, given_out = host.augment(images, draws), np.zeros_like(images)
    assert host.augment(images, draws, given_out) is given_out
    np.testing.assert_array_equal(given_out, fresh)
    assert host.augment(images, draws, images) is images
    np.testing.assert_array_equal(images, fresh)


def test_flips_and_quarter_turns_only_permute_pixels() -> None:
    images = noise(64, 1, np.uint8, (17, 17))
    augment = Augment(flip_horizontal=True, flip_vertical=True, rotate_quarter=True)
    changed = host.augment(images, augment.draw(0, 0, np.arange(64), (17, 17)))
    seen = set()
    for before, after in zip(images[..., 0], changed[..., 0], strict=True):
        turned = [np.rot90(flip, k) for flip in (before, before[:, ::-1]) for k in range(4)]
        matches = [number for number, image in enumerate(turned) if np.array_equal(image, after)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert seen == set(range(8))


def test_quarter_turns_of_an_oblong_image_are_half_turns() -> None:
    images = noise(32, 1, np.uint8)
    changed = host.augment(images, Augment(rotate_quarter=True).draw(0, 0, np.arange(32), (19, 24)))
    halves = [np.array_equal(a, b[::-1, ::-1]) for a, b in zip(changed, images, strict=True)]
    wholes = [np.array_equal(a, b) for a, b in zip(changed, images, strict=True)]
    assert 0 < sum(halves) < 32
    assert sum(halves) + sum(wholes) == 32


def test_what_is_left_stays_left_without_flips() -> None:
    augment = Augment(rotate_degrees=20, shift_y=0.1, shift_x=0.1, scale=0.2, shear_degrees=10)
    images = np.repeat(wedge(48), 300, axis=0)
    changed = host.augment(images, augment.draw(0, 0, np.arange(300), (48, 48)))[..., 0]
    assert (changed[:, :, :24].sum(axis=(1, 2)) > changed[:, :, 24:].sum(axis=(1, 2))).all()
    assert (changed[:, :24].sum(axis=(1, 2)) > changed[:, 24:].sum(axis=(1, 2))).all()
    mirrored = host.augment(
        images, Augment(flip_horizontal=True).draw(0, 0, np.arange(300), (48, 48))
    )
    right = mirrored[..., 24:, 0].sum(axis=(1, 2)) > 0
    assert 120 < right.sum() < 180


def test_a_shift_moves_as_far_as_drawn() -> None:
    still, size = np.eye(2)[None], (48, 48)
    matrix = spatial.source_matrix(still, np.array([5.0]), np.array([9.0]), size)
    draws = replace(Augment(shift_x=0.1).draw(0, 0, np.arange(1), size), matrix=matrix)
    moved = host.augment(wedge(48), draws)
    np.testing.assert_array_equal(moved, np.roll(wedge(48), (5, 9), axis=(1, 2)))


def test_tone_is_exact_to_the_rounding() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    draws = Augment(gamma=0.4, contrast=0.3, brightness=0.15).draw(3, 0, np.array([1]), (16, 16))
    gamma, contrast, brightness = draws.tone[0]
    exact = ((ramp / 255.0) ** gamma - 0.5) * contrast + 0.5 + brightness
    off = host.augment(ramp, draws) - 255 * exact.clip(0, 1)
    assert np.abs(off).max() < 0.501


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_border_takes_the_grey_of_the_background(dtype: type) -> None:
    images = np.zeros((50, 20, 20, 1), dtype)
    augment = Augment(rotate_degrees=45, brightness=0.5, contrast=0.5, erase=0.3)
    changed = host.augment(images, augment.draw(0, 0, np.arange(50), (20, 20)))
    assert all(len(np.unique(image)) == 1 for image in changed)
    assert len(np.unique(changed)) > 10


def test_noise_has_the_drawn_size_and_saturates() -> None:
    images = np.full((40, 64, 64, 1), 128, np.uint8)
    draws = Augment(noise=0.1).draw(0, 0, np.arange(40), (64, 64))
    changed = host.augment(images, draws).astype(float)
    expected = 255 * draws.noise[:, 0]
    loud = expected > 2  # below, the rounding to grey levels tells
    assert loud.sum() > 30
    assert changed.std(axis=(1, 2, 3))[loud] == pytest.approx(expected[loud], rel=0.06)
    assert np.abs(changed.mean(axis=(1, 2, 3)) - 128).max() < 2
    black = host.augment(np.zeros_like(images), draws)
    assert 0.5 < (black[loud] == 0).mean() < 0.57  # half of the noise, and what rounds to 0
    assert black.max() < 255 * 0.1 * 6


@pytest.mark.parametrize("channels", [2, 3])
def test_noise_differs_between_images_and_channels(channels: int) -> None:
    images = np.full((8, 16, 16, channels), 128, np.uint8)
    changed = host.augment(images, Augment(noise=0.5).draw(0, 0, np.arange(8), (16, 16)))
    planes = changed.transpose(0, 3, 1, 2).reshape(8 * channels, -1).astype(float)
    assert np.abs(np.corrcoef(planes) - np.eye(8 * channels)).max() < 0.4


def test_blur_is_opencvs_gaussian() -> None:
    images = noise(8, 1, np.uint8)
    draws = Augment(blur=2.0).draw(0, 0, np.arange(8), (19, 24))
    centre = draws.kernel.shape[1] // 2
    for image, kernel, after in zip(images, draws.kernel, host.augment(images, draws), strict=True):
        ratio = np.log(kernel[centre] / kernel[centre + 1])
        sigma = 1 / np.sqrt(2 * ratio)
        expected = cv2.GaussianBlur(
            image.astype(np.float64), (13, 13), sigma, borderType=cv2.BORDER_REPLICATE
        )
        assert np.abs(after[..., 0] - expected).max() < 0.501


def test_a_batch_of_another_size_is_refused() -> None:
    draws = Augment(rotate_degrees=5).draw(0, 0, np.arange(2), (8, 8))
    with pytest.raises(ValueError, match=r"drawn for 2 images of \(8, 8\), applied to 3 of"):
        host.augment(noise(3, 1, np.uint8), draws)
