import numpy as np
import pandas as pd

from medvision.tasks.generation.figures import draw_neighbours, draw_progress, draw_samples

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_samples_show_two_rows_of_each_class():
    figure = draw_samples(PIXELS, np.arange(40) % 2, ["no", "yes"])
    assert words(figure) == ["no"] * 16 + ["yes"] * 16
    assert len(figure.axes[0].images) == 32


def test_neighbours_stand_below_what_was_made():
    figure = draw_neighbours(PIXELS[:8], PIXELS[8:16], np.linspace(0.2, 0.9, 8))
    assert words(figure)[7:10] == ["generated", ".200", ".300"]
    shown = [image.get_array() for image in figure.axes[0].images]
    assert (np.asarray(shown[8]) == PIXELS[8, ..., 0]).all()


def test_progress_marks_the_epoch_that_was_kept():
    history = pd.DataFrame({
        "epoch": [0, 1, 2], "train/kimg": [4.0, 8.0, 12.0], "val/gate_score": [0.1, 0.7, 0.6],
        "val/coverage": [0.1, 0.7, 0.6], "train/critic_loss": 1.0, "train/generator_loss": 2.0,
    })  # fmt: skip
    figure = draw_progress(history, "val/gate_score")
    kept = figure.axes[0].lines[1]
    assert (kept.get_xdata()[0], kept.get_ydata()[0]) == (8.0, 0.7)
    assert kept.get_label() == "kept: .700"
    assert [line.get_label() for line in figure.axes[1].lines] == ["coverage"]
