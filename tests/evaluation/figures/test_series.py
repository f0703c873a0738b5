import numpy as np
import pytest

from medvision.evaluation.figures.series import SHOWN, choose_slices, draw_slices, overlay


def series(slices, channels=1):
    draw = np.random.default_rng(0)
    weight = draw.random(slices)
    images = draw.integers(0, 255, (slices, 20, 24, channels), dtype=np.uint8)
    return images, draw.random((slices, 20, 24)), weight / weight.sum()


def test_cold_places_stay_as_they_are_and_hot_ones_do_not():
    images = np.full((1, 4, 4, 1), 100, np.uint8)
    heat = np.zeros((1, 4, 4))
    heat[0, 1, 2] = 3
    found = overlay(images, heat)
    assert found.shape == (1, 4, 4, 3)
    assert (np.delete(found.reshape(16, 3), 6, axis=0) == 100).all()
    assert (found[0, 1, 2] != 100).any()
    assert np.array_equal(overlay(images, np.zeros((1, 4, 4))), np.repeat(images, 3, -1))
    weaker = overlay(images, heat, top=30)[0, 1, 2].astype(int)
    assert np.abs(weaker - 100).sum() < np.abs(found[0, 1, 2].astype(int) - 100).sum()


@pytest.mark.parametrize("slices", [1, 3, SHOWN, SHOWN + 1, 300])
def test_the_heaviest_slices_are_shown_in_their_order(slices):
    weight = series(slices)[2]
    chosen = choose_slices(weight, SHOWN)
    assert len(chosen) <= SHOWN
    assert (np.diff(chosen) > 0).all()
    assert set(np.argsort(-weight)[:3]) <= set(chosen.tolist())
    if slices <= SHOWN:
        assert chosen.tolist() == list(range(slices))
    else:
        assert {0, slices - 1} <= set(chosen.tolist())


@pytest.mark.parametrize("slices", [1, 2, 9, 40])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_strip_shows_slices_heat_and_curve(slices, channels):
    images, heat, weight = series(slices, channels)
    position = list(range(5, 5 + 2 * slices, 2))
    score = np.linspace(0, 1, slices)
    figure = draw_slices(images, heat, weight, score, position, "s1: a, said b .900", "P(b)")
    *shown, bars, line = figure.axes
    assert len(shown) == 2 * len(choose_slices(weight, SHOWN))
    framed = [axes for axes in shown if axes.spines["left"].get_visible()]
    assert len(framed) == 2 * min(3, slices)
    assert [bar.get_height() for bar in bars.patches] == pytest.approx(weight)
    assert line.lines[0].get_xdata().tolist() == position
    assert line.get_ylabel() == "P(b)"


def test_a_strip_without_heat_or_scores_shows_what_there_is():
    images, _, weight = series(4)
    figure = draw_slices(images, None, weight, None, range(4), "s1: a .900")
    assert len(figure.axes) == 5


def test_slices_of_equal_weight_are_not_framed():
    images, _, _ = series(6)
    figure = draw_slices(images, None, np.full(6, 1 / 6), None, range(6), "s")
    assert not any(axes.spines["left"].get_visible() for axes in figure.axes[:6])


def test_bars_stand_below_their_slices():
    images, heat, weight = series(7)
    figure = draw_slices(images, heat, weight, None, range(7), "s")
    *shown, bars = figure.axes
    for axes, bar in zip(shown[:7], bars.patches, strict=True):
        middle = bar.get_x() + bar.get_width() / 2
        x = figure.transFigure.inverted().transform(bars.transData.transform((middle, 0)))[0]
        box = axes.get_position()
        assert x == pytest.approx((box.x0 + box.x1) / 2, abs=0.005)
