"""The worst misses and the surest hits of grades, and how they are called."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medvision.evaluation.evaluator import HIT, Case, Scored
from medvision.evaluation.report.table import show_score

MISSES, HITS = 12, 4  # shown at most


def name_kinds(scored: Scored) -> list[str]:
    """Name what each decision is: a hit, or by how many grades it is too high or too low."""
    far = scored.arrays["preds"] - scored.arrays["label"]
    return [HIT if one == 0 else f"{abs(one)} too {'high' if one > 0 else 'low'}" for one in far]


def choose_cases(scored: Scored, grades: Sequence[str]) -> Iterator[Case]:
    """Yield misses, the furthest and of these the surest first, then the surest hits.

    A patient is shown once of each kind.
    """
    kinds = name_kinds(scored)
    preds, probs = scored.arrays["preds"], scored.arrays["probs"]
    sureness = probs[np.arange(len(preds)), preds]
    far = np.abs(preds - scored.arrays["label"])
    order = np.lexsort((-sureness, -far)).tolist()
    first: dict[tuple[Any, str], int] = {}
    for row in order:
        first.setdefault((scored.patients[row], kinds[row]), row)
    chosen = list(first.values())
    missed = [row for row in chosen if kinds[row] != HIT][:MISSES]
    for row in [*missed, *[row for row in chosen if kinds[row] == HIT][:HITS]]:
        facts = {
            "kind": kinds[row], "label": grades[scored.arrays["label"][row]],
            "pred": grades[preds[row]], "sureness": float(sureness[row]),
        }  # fmt: skip
        said = f"{facts['pred']} {show_score(facts['sureness'])}"
        output = min(int(preds[row]), len(grades) - 2)
        yield Case(row, kinds[row], f"true {facts['label']}", said, phrase_case(facts), facts,
                   output)  # fmt: skip


def phrase_case(facts: Mapping[str, Any]) -> str:
    """Write in one line what is true where it differs, and the decision."""
    said = f"{facts['pred']} {show_score(facts['sureness'])}"
    return said if facts["kind"] == HIT else f"{facts['label']}, said {said}"
