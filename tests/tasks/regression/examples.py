"""Predictions of a regressor that every task's tests want: with ties, gaps, without intervals."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from medvision.evaluation.evaluator import Evaluator, open_evaluator

SEVERAL = ["age", "volume_ml", "gap"]


def examples() -> Iterator[tuple[str, Evaluator, dict[str, pd.DataFrame]]]:
    """Yield name, evaluator and tables."""
    one, several = (
        open_evaluator("regression", {"targets": names}) for names in (["age"], SEVERAL)
    )
    yield "one", one, {"": predict(["age"])}
    yield "several", several, {"": predict(SEVERAL)}
    yield "without intervals", one, {"": predict(["age"]).drop(columns=["low_age", "high_age"])}
    yield "one number alone", one, {"": predict(["age"], spread=0.0)}


def predict(names: list[str], n: int = 60, spread: float = 20.0) -> pd.DataFrame:
    """Draw predictions, several rows a patient, of which some are not known."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({
        "index": range(n), "dataset": "d", "path": [f"{k}.png" for k in range(n)], "frame": 0,
        "patient": [f"p{k // 4}" for k in range(n)], "series": "",
    })  # fmt: skip
    for t, name in enumerate(names):
        value = (500 + spread * rng.normal(size=n)).round()  # with ties
        pred = value + rng.normal(3, 10, n)
        width = rng.uniform(5, 20, n)
        value[t :: 7 + t] = np.nan
        table[f"value_{name}"], table[f"pred_{name}"] = value, pred
        table[f"low_{name}"], table[f"high_{name}"] = pred - width, pred + width
    return table
