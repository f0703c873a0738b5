import matplotlib as mpl
import numpy as np
import pytest

from medvision.evaluation.figures.style import save_figure
from medvision.evaluation.sweep.parallel_coordinates import draw_parallel_coordinates, place_values


def lines_of(figure):
    """Return the drawn lines of arms: those through every axis, as (y values, width, colour)."""
    axes = figure.axes[0]
    n = len(axes.get_xticks())
    found = [line for line in axes.lines if len(line.get_xdata()) == n > 2]
    return [(np.asarray(line.get_ydata()), line.get_linewidth(), line.get_color())
            for line in found]  # fmt: skip


def test_numbers_that_span_far_lie_on_a_log_axis():
    assert place_values([1e-4, 1e-3, 1e-2]).places == pytest.approx([0, 0.5, 1])
    assert place_values([1, 2, 5]).places == pytest.approx([0, 0.25, 1])
    assert place_values([0, 1e-4, 1]).places == pytest.approx([0, 1e-4, 1])  # 0 has no log
    assert place_values([0.5]).places == [0.5]


def test_categories_are_ticks_in_order():
    scale = place_values(["relu", "gelu", "silu", "gelu"])
    assert scale.ticks == {0.0: "gelu", 0.5: "relu", 1.0: "silu"}
    assert scale.places == [0.5, 0.0, 1.0, 0.0]
    assert place_values([None, 0.5, True]).ticks == {0.0: "0.5", 0.5: "null", 1.0: "true"}
    assert place_values([[8], [8, 16]]).ticks == {0.0: "[8,16]", 1.0: "[8]"}


def test_many_numbers_get_few_ticks():
    values = np.linspace(0.013, 0.987, 40).tolist()
    assert len(place_values(values).ticks) == 5


@pytest.mark.parametrize(("monitor", "best"), [("val/auroc", 1), ("val/loss", 0)])
def test_the_best_line_is_thick_and_ends_at_its_score(monitor, best):
    settings = [{"lr": 0.1, "net": "a"}, {"lr": 0.2, "net": "b"}, {"lr": 0.3}]
    figure = draw_parallel_coordinates(settings, [[0.5], [0.9, 0.7], [0.6]], monitor)
    drawn = lines_of(figure)
    assert len(drawn) == 3
    thick = [line for line in drawn if line[1] == max(width for _, width, _ in drawn)]
    assert len(thick) == 1
    assert thick[0][0][-1] == pytest.approx(best)
    assert thick[0][2] == mpl.colormaps["viridis_r"](1.0)


def test_one_setting_is_drawn_with_each_run_as_a_point():
    figure = draw_parallel_coordinates(
        [{"lr": 1e-4}, {"lr": 1e-1}, {"lr": 1}], [[0.5, 0.6], [0.7], []], "val/auroc"
    )
    axes = figure.axes[0]
    points = [line for line in axes.lines if line.get_marker() == "o"]
    assert sorted(y for line in points for y in line.get_ydata()) == [0.5, 0.6, 0.7]
    assert axes.get_xscale() == "log"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.0001", "0.1"]


def test_one_setting_of_names_has_their_ticks():
    figure = draw_parallel_coordinates(
        [{"model": "cnn"}, {"model": "$x$"}], [[0.5], [0.6]], "val/auroc"
    )
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["$x$", "cnn"]


def test_equal_scores_are_drawn_and_the_bytes_repeat(tmp_path):
    given = ([{"a": 1, "b": 2}, {"a": 2, "b": 2}], [[0.5], [0.5]], "val/auroc")
    files = [
        save_figure(draw_parallel_coordinates(*given), tmp_path / f"{n}.png") for n in range(2)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
