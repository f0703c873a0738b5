import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from medvision.evaluation.evaluator import open_evaluator
from medvision.tasks.regression.metrics import AGREEMENT, FOLLOWED, METRICS, Errors, score

RNG = np.random.default_rng(0)
N = 80
VALUE = 300 + 20 * RNG.normal(size=N).round(1)
PRED = VALUE + RNG.normal(4, 9, N)
WIDTH = RNG.uniform(3, 25, N)
ONCE = np.ones((1, N))


def errors(value=VALUE, pred=PRED):
    return Errors(value, pred, pred - WIDTH[: len(pred)], pred + WIDTH[: len(pred)])


def test_scores_are_those_of_scikit_learn():
    found = {name: errors().score(name, ONCE)[0] for name in METRICS}
    miss = PRED - VALUE
    expected = {
        "mae": sk.mean_absolute_error(VALUE, PRED),
        "rmse": sk.root_mean_squared_error(VALUE, PRED),
        "r2": sk.r2_score(VALUE, PRED),
        "bias": miss.mean(),
        "limit_low": miss.mean() - 1.96 * miss.std(ddof=1),
        "limit_high": miss.mean() + 1.96 * miss.std(ddof=1),
        "coverage": (np.abs(miss) <= WIDTH).mean(),
        "width": 2 * WIDTH.mean(),
    }
    assert found == pytest.approx(expected, abs=1e-9)


def test_weights_are_those_of_scikit_learn():
    weights = RNG.integers(0, 4, (3, N)).astype(float)
    for row in weights:
        for name, theirs in (("mae", sk.mean_absolute_error), ("r2", sk.r2_score)):
            expected = theirs(VALUE, PRED, sample_weight=row)
            assert errors().score(name, row[None])[0] == pytest.approx(expected, abs=1e-9)


def test_errors_move_with_their_unit_and_r2_does_not():
    other = Errors(VALUE / 1000 - 7, PRED / 1000 - 7, *(2 * [np.full(N, np.nan)]))
    for name in ("mae", "rmse", "bias", "limit_low", "limit_high"):
        first, second = errors().score(name, ONCE)[0], other.score(name, ONCE)[0]
        assert first == pytest.approx(1000 * second, rel=1e-9)
    assert other.score("r2", ONCE)[0] == pytest.approx(errors().score("r2", ONCE)[0], abs=1e-9)
    assert np.isnan(other.score("coverage", ONCE)[0])


def test_numbers_far_from_0_keep_their_digits():
    far = errors(VALUE + 1e9, PRED + 1e9)
    assert far.score("r2", ONCE)[0] == pytest.approx(errors().score("r2", ONCE)[0], abs=1e-6)
    flat = errors(np.full(N, 1e9), np.full(N, 1e9) + 1)
    assert np.isnan(flat.score("r2", ONCE)[0])
    assert flat.score("limit_high", ONCE)[0] == pytest.approx(1, abs=1e-6)


def tables(values, preds):
    """Predictions of targets a, b, … as they are stored."""
    import pandas as pd

    table = pd.DataFrame(
        {"index": range(len(values)), "patient": [f"p{k}" for k in range(len(values))]}
    )
    for t, name in enumerate("abc"[: values.shape[1]]):
        table[f"value_{name}"], table[f"pred_{name}"] = values[:, t], preds[:, t]
    return {"": table}


def holes(columns, seed=1):
    rng = np.random.default_rng(seed)
    values = rng.normal(50, 10, (40, columns)).round()
    preds = values + rng.normal(1, 6, values.shape)
    values[rng.random(values.shape) < 0.3] = np.nan
    return values, preds


CASES = {
    "one": holes(1), "three": holes(3), "one known": (np.array([[3.0], [np.nan]]), np.ones((2, 1))),
    "one never known": (
        np.stack([holes(1)[0][:, 0], np.full(40, np.nan)], axis=1), holes(2)[1]
    ),
    "one always the same": (
        np.stack([holes(1)[0][:, 0], np.full(40, 3.0)], axis=1), holes(2)[1]
    ),
    "nothing known": (np.full((4, 2), np.nan), np.ones((4, 2))),
    "diverged": (holes(1)[0], np.full((40, 1), np.nan)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_in_training_scores_are_those_of_the_stored_predictions(case):
    values, preds = (array.astype(np.float32) for array in CASES[case])
    in_training = score(torch.from_numpy(preds), torch.from_numpy(values))
    evaluator = open_evaluator("regression", {"targets": [*"abc"[: values.shape[1]]]})
    scored = evaluator.read(tables(values, preds))
    for name in FOLLOWED:
        stored = evaluator.metrics[name].compute(scored, np.ones((1, len(scored))))[0]
        if in_training[name] is None:
            assert np.isnan(stored), name
        else:
            assert stored == pytest.approx(in_training[name], rel=1e-5), name


def test_of_several_targets_no_unit_outweighs_another():
    values, preds = holes(2)
    evaluator = open_evaluator("regression", {"targets": ["a", "b"]})
    assert not set(AGREEMENT) & set(evaluator.metrics)
    before, after = (
        {
            name: metric.compute(scored, np.ones((1, len(scored))))[0]
            for name, metric in evaluator.metrics.items()
        }
        for scored in (
            evaluator.read(tables(values, preds)),
            evaluator.read(tables(values * [1, 1000], preds * [1, 1000])),
        )
    )
    assert after == pytest.approx(before, abs=1e-9, nan_ok=True)
    each = [
        sk.mean_absolute_error(v[k], p[k]) / v[k].std()
        for v, p in zip(values.T, preds.T, strict=True)
        for k in [~np.isnan(v)]
    ]
    assert before["mae"] == pytest.approx(np.mean(each), abs=1e-9)


def test_directions_are_those_a_reader_expects():
    better = {name: m.better for name, m in open_evaluator("regression").metrics.items()}
    assert better == {
        "mae": "low", "rmse": "low", "r2": "high", "bias": None, "limit_low": None,
        "limit_high": None, "coverage": None, "width": "low",
    }  # fmt: skip
