"""The surest misses and hits of a classifier, and how they are called."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.evaluation.evaluator import HIT, Case, Scored
from medvision.evaluation.report.table import show_score
from medvision.stats.ranking import Floats
from medvision.tasks.classes import NOTHING
from medvision.tasks.classification.metrics import Kind

MISSES, HITS = 12, 4  # shown at most


def name_kind(label: str, pred: str, classes: Sequence[str], kind: Kind) -> str:
    """Name what a decision is: `HIT`, a kind of miss, or "" without a label."""
    if label == "":
        return ""
    label = "" if label == NOTHING else label
    if label == pred:
        return HIT
    if kind == "binary":
        return "false positive" if pred == classes[-1] else "false negative"
    if kind == "multiclass":
        return f"{label} → {pred}"
    true, said = ({*text.split("|")} - {""} for text in (label, pred))
    return "too much" if true < said else "too little" if said < true else "something else"


def choose_targets(scored: Scored, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return the class that was decided, or of several labels the likeliest: `[N]`."""
    decided = scored.table["pred"].map({name: k for k, name in enumerate(classes)})
    likeliest = pd.Series(scored.arrays["probs"].argmax(axis=1), decided.index)
    return np.asarray(decided.fillna(likeliest).to_numpy(int))


def choose_cases(
    scored: Scored, kinds: Sequence[str], targets: NDArray[np.int64], sureness: Floats,
    classes: Sequence[str], misses: int = MISSES, hits: int = HITS,
) -> Iterator[Case]:  # fmt: skip
    """Yield the surest misses, one of each kind in turn, then hits, one of each decision in turn.

    A patient is shown once of a kind of miss, and once among the hits. Sure is who gives what was
    decided, or of several labels the likeliest, a high probability.
    """
    table = scored.table
    kind, pred = np.array(kinds, dtype=object), table["pred"].to_numpy()
    label = table["label"].replace(NOTHING, "").to_numpy()
    order = pd.Series(np.argsort(-sureness, kind="stable"))
    whose = table[["dataset", "patient"]].iloc[order].assign(kind=kind[order])
    order = order[~whose.duplicated().to_numpy()].to_numpy()
    missed = _in_turn(order[kind[order] != HIT], kind)[:misses]
    for row in [*missed, *_in_turn(order[kind[order] == HIT], pred)[:hits]]:
        target = int(targets[row])
        facts = {"kind": kind[row], "label": label[row] or "none", "pred": pred[row] or "none",
                 "sureness": float(sureness[row])}  # fmt: skip
        yield Case(
            int(row), kind[row], f"true {facts['label']}", _phrase_decision(facts),
            phrase_case(facts), facts, target, (f"prob_{classes[target]}", f"P({classes[target]})"),
        )  # fmt: skip


def _in_turn(rows: NDArray[Any], names: NDArray[Any]) -> NDArray[Any]:
    """Order rows so that each name comes once before any comes again."""
    turn = pd.Series(rows, dtype=int).groupby(names[rows]).cumcount()
    return np.asarray(rows[np.argsort(turn.to_numpy(), kind="stable")])


def _phrase_decision(facts: Mapping[str, Any]) -> str:
    """Write what was decided, and its probability."""
    return f"{facts['pred']} {show_score(facts['sureness'])}"


def phrase_case(facts: Mapping[str, Any]) -> str:
    """Write in one line what is true where it differs, and the decision."""
    said = _phrase_decision(facts)
    return said if facts["kind"] == HIT else f"{facts['label']}, said {said}"


def phrase_kind(kind: str) -> str:
    """Head the cases of one kind of miss."""
    plural = {"too much": "Findings too many", "too little": "Findings missed",
              "something else": "Other findings"}  # fmt: skip
    if kind.startswith("false "):
        return f"{kind[0].upper()}{kind[1:]}s"
    return plural.get(kind, kind)
