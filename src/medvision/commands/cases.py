"""The samples that tell most of a model: its surest misses of each kind, and hits beside them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from medvision.evaluation.evidence import NOTHING
from medvision.evaluation.gallery import HIT, name_kind
from medvision.evaluation.style import show_score
from medvision.model import Model

MISSES, HITS = 12, 4  # shown at most


class Case(NamedTuple):
    """A sample and what was said of it; `target` is the class that the heat speaks for."""

    sample: int
    target: int
    kind: str
    label: str
    pred: str
    sureness: float

    @property
    def hit(self) -> bool:
        return self.kind == HIT

    @property
    def said(self) -> str:
        """The decision and its probability."""
        return f"{self.pred or 'none'} {show_score(self.sureness)}"

    @property
    def text(self) -> str:
        """One line: what is true where it differs, the decision."""
        return self.said if self.hit else f"{self.label or 'none'}, said {self.said}"


def tell_kinds(model: Model, predictions: pd.DataFrame) -> list[str]:
    """Name what each prediction is: a hit, or which kind of miss; "" = unlabelled."""
    pairs = zip(predictions["label"], predictions["pred"], strict=True)
    return [name_kind(label, pred, model.classes, model.question) for label, pred in pairs]


def choose_cases(
    model: Model, index: np.ndarray, predictions: pd.DataFrame, kinds: Sequence[str],
    misses: int = MISSES, hits: int = HITS,
) -> Iterator[Case]:  # fmt: skip
    """Yield the surest misses, one of each kind in turn, then hits, one of each decision in turn.

    A patient is shown once of a kind of miss, and once among the hits. Sure is who gives what was
    decided, or of several labels the likeliest, a high probability.
    """
    probs = predictions[[f"prob_{name}" for name in model.classes]].to_numpy()
    decided = predictions["pred"].map({name: k for k, name in enumerate(model.classes)})
    target = decided.fillna(pd.Series(probs.argmax(axis=1), decided.index)).to_numpy(int)
    sureness = probs[np.arange(len(probs)), target]
    kind, pred = np.array(kinds, dtype=object), predictions["pred"].to_numpy()
    label = predictions["label"].replace(NOTHING, "").to_numpy()
    order = pd.Series(np.argsort(-sureness, kind="stable"))
    whose = predictions[["dataset", "patient"]].iloc[order].assign(kind=kind[order])
    order = order[~whose.duplicated().to_numpy()].to_numpy()
    missed = _in_turn(order[(kind[order] != HIT) & (kind[order] != "")], kind)[:misses]
    for row in [*missed, *_in_turn(order[kind[order] == HIT], pred)[:hits]]:
        yield Case(int(index[row]), int(target[row]), kind[row], label[row], pred[row],
                   float(sureness[row]))  # fmt: skip


def _in_turn(rows: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Order rows so that each name comes once before any comes again."""
    turn = pd.Series(rows, dtype=int).groupby(names[rows]).cumcount()
    return rows[np.argsort(turn.to_numpy(), kind="stable")]
