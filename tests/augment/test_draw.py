from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from medvision.augment.draw import RANGES, SLOTS, SWITCHES, Augment, Draws, philox
from medvision.errors import MedvisionError

PRESETS = sorted((Path(__file__).parents[2] / "conf" / "augment").glob("*.yaml"))
ALL = Augment(
    rotate_degrees=20,
    shift_y=0.1,
    shift_x=0.1,
    scale=0.2,
    shear_degrees=5,
    flip_horizontal=True,
    flip_vertical=True,
    rotate_quarter=True,
    gamma=0.4,
    contrast=0.3,
    brightness=0.1,
    blur=1.0,
    noise=0.1,
    erase=0.2,
    probability=0.7,
)
PARTS = ("changed", "matrix", "tone", "kernel", "noise", "box")


def rows(draws: Draws, keep: object) -> list[np.ndarray]:
    return [getattr(draws, part)[keep] for part in PARTS]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (2**32 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_philox_gives_its_authors_known_answers(word: int, expected: tuple[int, ...]) -> None:
    counter = np.full((1, 4), word, np.uint64)
    assert tuple(int(x) for x in philox(counter, word, word)[0]) == expected


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 10_000),
    indices=st.lists(st.integers(0, 2**40), min_size=1, max_size=9),
)
def test_an_image_draws_the_same_in_any_batch(seed: int, epoch: int, indices: list[int]) -> None:
    together = ALL.draw(seed, epoch, np.array(indices), (20, 20))
    for place, index in enumerate(indices):
        alone = ALL.draw(seed, epoch, np.array([index]), (20, 20))
        for one, other in zip(rows(alone, 0), rows(together, place), strict=True):
            np.testing.assert_array_equal(one, other)


def test_seed_epoch_and_index_each_change_the_draw() -> None:
    base = ALL.draw(1, 1, np.array([1]), (20, 20)).matrix
    for seed, epoch, index in [(2, 1, 1), (1, 2, 1), (1, 1, 2), (1 + 2**32, 1, 1), (1, 1, 2**32)]:
        other = ALL.draw(seed, epoch, np.array([index]), (20, 20)).matrix
        assert not np.array_equal(base, other)


def test_turning_one_key_on_leaves_the_others_draws() -> None:
    few = Augment(gamma=0.4).draw(0, 0, np.arange(50), (20, 20))
    many = Augment(gamma=0.4, noise=0.1, rotate_degrees=9).draw(0, 0, np.arange(50), (20, 20))
    np.testing.assert_array_equal(few.tone, many.tone)


def test_draws_fill_their_ranges_evenly() -> None:
    draws = replace(ALL, scale=0, shear_degrees=0).draw(3, 0, np.arange(20_000), (20, 20))
    gamma, contrast, brightness = draws.tone.T
    for values, limit in ((np.log(gamma), 0.4), (contrast - 1, 0.3), (brightness, 0.1)):
        assert -limit <= values.min() < -0.99 * limit
        assert 0.99 * limit < values.max() <= limit
        assert abs(values.mean()) < 0.02 * limit
        assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)
    assert draws.changed.mean() == pytest.approx(0.7, abs=0.01)
    assert np.linalg.det(draws.matrix[:, :, :2]).round() == pytest.approx(
        np.sign(np.linalg.det(draws.matrix[:, :, :2]))
    )


def test_slots_are_independent() -> None:
    from medvision.augment.draw import _uniforms

    unit = _uniforms(7, 1, np.arange(5000))
    correlation = np.corrcoef(unit) - np.eye(len(SLOTS))
    assert np.abs(correlation).max() < 0.07
    assert 0 < unit.min() < unit.max() < 1


def test_the_scale_enlarges_above_one() -> None:
    draws = Augment(scale=0.2).draw(0, 0, np.arange(500), (30, 30))
    source = draws.matrix[:, 0, 0]
    assert 1 / 1.2 <= source.min() < 0.84
    assert 1.24 < source.max() <= 1 / 0.8
    assert np.array_equal(draws.matrix[:, 0, 0], draws.matrix[:, 1, 1])
    apart = Augment(scale=0.2, scale_axes_apart=True).draw(0, 0, np.arange(500), (30, 30))
    assert np.abs(np.corrcoef(apart.matrix[:, 0, 0], apart.matrix[:, 1, 1])[0, 1]) < 0.2


def test_an_erased_box_lies_inside_and_keeps_to_its_share() -> None:
    draws = Augment(erase=0.25).draw(0, 0, np.arange(5000), (10, 40))
    y0, y1, x0, x1 = draws.box.T
    assert (y0 >= 0).all()
    assert (y1 <= 10).all()
    assert (x0 >= 0).all()
    assert (x1 <= 40).all()
    assert ((y1 - y0) * (x1 - x0)).max() == 100
    assert y1.max() == 10
    assert x1.max() == 40


@pytest.mark.parametrize("key", sorted(RANGES))
def test_a_number_out_of_range_is_named(key: str) -> None:
    low, high = RANGES[key]
    for value in (low - 0.5, high + 0.5, float("nan"), "much", True):
        with pytest.raises(MedvisionError, match=f"{key}=.* is not a number from {low:g} to"):
            Augment(**{key: value})


@pytest.mark.parametrize("key", SWITCHES)
def test_a_switch_takes_no_number(key: str) -> None:
    with pytest.raises(MedvisionError, match=f"{key}=0.5 is neither true nor false"):
        Augment(**{key: 0.5})


def test_all_problems_come_at_once() -> None:
    with pytest.raises(MedvisionError) as caught:
        Augment(rotate_degrees=-3, fill="mirror", probability=None)
    assert str(caught.value) == (
        "augment: rotate_degrees=-3 is not a number from 0 to 180; "
        "fill='mirror' is none of background, nearest, reflect; "
        "probability=None is not a number from 0 to 1. "
        "Mend these keys (0, null or false = off)."
    )


def test_null_is_off() -> None:
    assert Augment(gamma=None, flip_horizontal=None) == Augment()


def test_there_are_presets() -> None:
    names = {path.stem for path in PRESETS}
    assert {"none", "article", "xray", "ct", "mr", "fundus", "microscopy"} <= names


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_composes_and_shows_every_key(path: Path) -> None:
    config = OmegaConf.load(path)
    assert isinstance(instantiate(config), Augment)
    assert set(config) == {"_target_", *(field.name for field in fields(Augment))}


@pytest.mark.parametrize("name", ["xray", "ct", "mr", "fundus", "none"])
def test_presets_with_laterality_never_mirror(name: str) -> None:
    path = next(path for path in PRESETS if path.stem == name)
    draws = instantiate(OmegaConf.load(path)).draw(0, 0, np.arange(2000), (32, 32))
    if draws.matrix is not None:
        a, b, c, d = draws.matrix[:, :, :2].reshape(-1, 4).T
        assert (a * d - b * c > 0).all()
        assert (np.abs(np.arctan2(c, a)) < np.pi / 4).all()
    else:
        assert name == "none"


def test_none_changes_nothing() -> None:
    assert not Augment().draw(0, 0, np.arange(9), (8, 8)).changed.any()


def test_slices_of_a_series_share_every_change_but_the_noise_itself() -> None:
    one = ALL.draw(3, 1, np.array([4, 4, 4, 9]), (20, 20))
    apart = one.with_own_noise(np.array([0, 1, 2, 0]))
    for part in ("changed", "matrix", "tone", "kernel", "box"):
        assert np.array_equal(getattr(apart, part), getattr(one, part))
    assert one.noise is not None
    assert apart.noise is not None
    assert np.array_equal(apart.noise[:, 0], one.noise[:, 0])
    assert np.array_equal(apart.noise[[0, 3]], one.noise[[0, 3]])
    assert len(set(apart.noise[:3, 1])) == 3
    assert apart.noise[:, 1].max() < 2**20
    assert (
        replace(ALL, noise=0).draw(0, 0, np.arange(2), (8, 8)).with_own_noise(np.arange(2)).noise
        is None
    )
