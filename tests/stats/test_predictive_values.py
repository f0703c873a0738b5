import numpy as np
import pytest

from medvision.stats.predictive_values import predict_values
from medvision.stats.small_samples import Share


def score(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def test_they_are_bayes_rule():
    positive, negative = predict_values(score(0.9), score(0.8), 0.1)
    assert positive["value"] == pytest.approx(0.9 * 0.1 / (0.9 * 0.1 + 0.2 * 0.9))
    assert negative["value"] == pytest.approx(0.8 * 0.9 / (0.8 * 0.9 + 0.1 * 0.1))
    assert positive["low"] is positive["high"] is negative["low"] is None


@pytest.mark.parametrize("scores", [(score(None), score(0.8)), (score(0.0), score(1.0))])
def test_without_a_positive_decision_there_is_no_ppv(scores):
    assert predict_values(*scores, 0.1)[0] == score(None)


def test_where_no_alarm_was_false_the_next_may_be():
    positive, negative = predict_values(score(0.5, 0.3, 0.7), score(1.0, 0.9, 1.0), 0.01)
    assert positive["value"] == positive["high"] == 1
    assert positive["low"] == pytest.approx(0.3 * 0.01 / (0.3 * 0.01 + 0.1 * 0.99))
    assert negative["low"] < negative["value"] < negative["high"] < 1


@pytest.mark.parametrize(("n", "prevalence"), [(15, 0.3), (60, 0.02)])
def test_intervals_hold_the_truth(n, prevalence):
    rng = np.random.default_rng(0)
    sensitivity, specificity = 0.85, 0.9
    truth = predict_values(score(sensitivity), score(specificity), prevalence)
    held = np.zeros(2)
    for _ in range(300):
        pair = []
        for rate in (sensitivity, specificity):
            share = Share(rng.binomial(n, rate) / n, n, n)
            pair.append(score(share.value, *share.bound(1)))
        found = predict_values(*pair, prevalence)
        held += [one["low"] <= true["value"] <= one["high"]
                 for one, true in zip(found, truth, strict=True)]  # fmt: skip
    assert (held / 300 >= 0.93).all()
