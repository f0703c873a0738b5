import numpy as np
import pytest

from medvision.tasks.regression.interval import Answer, bound, fit_width, read_answer

FORMS = {
    "point": ("prediction",), "gaussian": ("mean", "log_variance"),
    "quantile": ("low", "median", "high"),
}  # fmt: skip


def answers(form, rng, rows=300, center=(50.0, -3.0), spread=(8.0, 0.5)):
    """Answers of a net and truths of two targets; errors are wider where the net says so."""
    wide = rng.uniform(0.3, 2, (rows, 2))
    point = rng.normal(size=(rows, 2))
    columns = {
        "point": [point], "gaussian": [point, 2 * np.log(wide)],
        "quantile": [point - wide, point, point + 2 * wide],
    }[form]  # fmt: skip
    value = (point + 1.3 * wide * rng.normal(size=point.shape)) * spread + center
    return np.stack(columns, axis=-1).reshape(rows, -1), value, list(center), list(spread)


def test_outputs_come_back_in_the_units_of_the_targets():
    raw = np.array([[0.5, np.log(4.0), -1.0, 0.0]])
    answer = read_answer(raw, ("mean", "log_variance"), [10.0, 100.0], [2.0, 30.0])
    np.testing.assert_allclose(answer.pred, [[11, 70]])
    np.testing.assert_allclose(answer.scale, [[4, 30]])
    assert not answer.below.any()
    three = read_answer(np.array([[-1.0, 0.0, 3.0]]), ("low", "median", "high"), [10.0], [2.0])
    assert (three.pred, three.below, three.above) == (10, 2, 6)


@pytest.mark.parametrize("form", FORMS)
def test_intervals_hold_what_they_promise_of_new_patients(form):
    """Over many draws of val, the mean share that intervals hold lies at the level, or above."""
    shares = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        raw, value, center, spread = answers(form, rng, rows=40)
        width = fit_width(read_answer(raw, FORMS[form], center, spread), value, None, 0.8)
        raw, value, *_ = answers(form, rng, rows=300)
        low, high = bound(read_answer(raw, FORMS[form], center, spread), width)
        shares.append(((low <= value) & (value <= high)).mean())
    assert np.mean(shares) == pytest.approx(0.8 + 0.5 / 41, abs=0.03)


def test_a_predicted_width_is_kept_in_proportion():
    rng = np.random.default_rng(0)
    raw, value, center, spread = answers("gaussian", rng)
    answer = read_answer(raw, FORMS["gaussian"], center, spread)
    low, high = bound(answer, fit_width(answer, value, None))
    ratio = (high - low) / answer.scale
    assert np.ptp(ratio, axis=0) == pytest.approx([0, 0], abs=1e-9)


def test_too_few_patients_give_no_interval():
    nine = Answer(*(np.zeros((9, 1)) for _ in range(3)), np.ones((9, 1)))
    value = np.arange(9.0)[:, None]
    assert fit_width(nine, value, None) == [8.0]
    assert fit_width(nine, np.where(value == 4, np.nan, value), None) == [None]
    assert fit_width(nine, value, ["p"] * 5 + ["q"] * 4) == [None]
    assert np.isnan(bound(nine, [None])).all()
    assert fit_width(nine, np.full_like(value, np.nan), None) == [None]


def test_a_patient_of_many_rows_counts_as_one():
    """Nineteen patients with one row, and one with a thousand whose errors are large."""
    value = np.concatenate([np.arange(19.0), np.full(1000, 100.0)])[:, None]
    answer = Answer(*(np.zeros_like(value) for _ in range(3)), np.ones_like(value))
    patients = [f"p{k}" for k in range(19)] + ["q"] * 1000
    assert fit_width(answer, value, patients) == [18.0]
    assert fit_width(answer, value, None) == [100.0]


def test_a_prediction_lies_within_its_interval():
    """Quantiles that cross, and a width that is negative where intervals were too wide."""
    crossed = Answer(np.zeros((3, 1)), np.array([[-1.0], [2], [5]]), np.full((3, 1), 3.0),
                     np.ones((3, 1)))  # fmt: skip
    low, high = bound(crossed, [-4.0])
    assert (low <= 0).all()
    assert (high >= 0).all()
    assert low[2] == -1
