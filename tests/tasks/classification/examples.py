"""Predictions of a classifier that every task's tests want: with ties, with absent classes."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from medvision.evaluation.evaluator import Evaluator, open_evaluator
from medvision.tasks.classification.evaluator import decide_labels

KINDS = {"binary": "ab", "multiclass": "abcd", "multilabel": "abc"}


def examples() -> Iterator[tuple[str, Evaluator, dict[str, pd.DataFrame]]]:
    """Yield name, evaluator and tables."""
    for kind, letters in KINDS.items():
        classes = list(letters)
        threshold = {"binary": 0.4, "multiclass": None, "multilabel": [0.3, 0.5, 0.7]}[kind]
        decision = {"temperature": 1.0, "rule": "fixed=0.4", "threshold": threshold}
        target = {"classes": classes, "kind": kind}
        evaluator = open_evaluator("classification", target, decision)
        for name, told in (("all", classes), ("one absent", classes[:-1]), ("one", classes[:1])):
            table = predict(kind, classes, told)
            table["pred"] = decide_labels(probs_of(table, classes), classes, kind, threshold)
            yield f"{kind}, {name}", evaluator, {"": table}


def probs_of(table: pd.DataFrame, classes: list[str]) -> np.ndarray:
    return table[[f"prob_{name}" for name in classes]].to_numpy()


def predict(kind: str, classes: list[str], told: list[str], n: int = 60) -> pd.DataFrame:
    """Draw predictions, several rows a patient, of which some are unlabelled."""
    rng = np.random.default_rng(3)
    probs = rng.integers(1, 8, (n, len(classes))) / 8  # with ties
    if kind != "multilabel":
        probs = probs / probs.sum(axis=1, keepdims=True)
    label = rng.choice(told, n)
    if kind == "multilabel":
        label = np.where(rng.random(n) < 0.3, "-", label)
    table = pd.DataFrame({
        "index": range(n), "dataset": "d", "path": [f"{k}.png" for k in range(n)], "frame": 0,
        "patient": [f"p{k // 4}" for k in range(n)], "series": "", "label": label,
    })  # fmt: skip
    table.loc[::9, "label"] = ""
    return table.assign(**{f"prob_{name}": probs[:, k] for k, name in enumerate(classes)})
