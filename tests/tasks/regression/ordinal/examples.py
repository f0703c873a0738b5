"""Predictions of grades that every task's tests want: with ties, with absent grades."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from medvision.evaluation.evaluator import Evaluator, open_evaluator
from medvision.tasks.regression.ordinal.metrics import decide

GRADES = ["none", "mild", "moderate", "severe"]


def examples() -> Iterator[tuple[str, Evaluator, dict[str, pd.DataFrame]]]:
    """Yield name, evaluator and tables."""
    evaluator = open_evaluator("regression.ordinal", {"classes": GRADES})
    for name, told in (("all", GRADES), ("one absent", GRADES[:-1]), ("one", GRADES[:1])):
        yield name, evaluator, {"": predict(told)}


def predict(told: list[str], n: int = 60) -> pd.DataFrame:
    """Draw predictions, several rows a patient, of which some are unlabelled."""
    rng = np.random.default_rng(3)
    probs = rng.integers(1, 8, (n, len(GRADES))) / 8
    probs = probs / probs.sum(axis=1, keepdims=True)
    table = pd.DataFrame({
        "index": range(n), "dataset": "d", "path": [f"{k}.png" for k in range(n)], "frame": 0,
        "patient": [f"p{k // 4}" for k in range(n)], "series": "", "label": rng.choice(told, n),
    })  # fmt: skip
    table.loc[::9, "label"] = ""
    said = {f"prob_{name}": probs[:, k] for k, name in enumerate(GRADES)}
    return table.assign(**said, pred=np.array(GRADES)[decide(probs)])
