"""Write arms side by side, and their paired differences, into a block of a study's README.

    python experiments/contrast.py STUDY BLOCK METRIC [goal:METRIC>=VALUE …] [note:TEXT] ARM=RUNS …
    python experiments/contrast.py STUDY answer

RUNS is what `medvision compare` takes: runs of one arm over seeds and folds (folds are pooled). The
first arm is set against each other one. With `answer` the findings of all blocks become the study's
answer and its line in the ledger. Nothing is typed by hand.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from ledger import HERE, fill, fill_ledgers
from tabulate import write_origin

from medvision.commands.compare import Side, check_pairing, compare_sides, gather_side
from medvision.evaluation.comparison.text import show_difference, show_p
from medvision.evaluation.evaluator import open_evaluator
from medvision.evaluation.report.table import count_words, show_interval

CLASSIFICATION = open_evaluator("classification")
label_of = CLASSIFICATION.label


def main(study: str, block: str, *words: str) -> None:
    page = HERE / study / "README.md"
    if block == "answer":
        findings = re.findall(r"\*\*Finding\.\*\* (.+)", page.read_text())
        origins = re.findall(r"From .+ commit .+", page.read_text())
        told = [shorten(finding) for finding in findings]
        fill(page, "answer", [f"**Answer.** {'. '.join(told)}.", "", origins[-1]])
        fill_ledgers()
        return
    metric, *rest = words
    goals = [word.removeprefix("goal:") for word in rest if word.startswith("goal:")]
    notes = [word.removeprefix("note:") for word in rest if word.startswith("note:")]
    named = dict(word.split("=", 1) for word in rest if not word.startswith(("goal:", "note:")))
    sides = {name: gather_side(runs) for name, runs in named.items()}
    check_pairing(list(sides.values()))
    found = compare_sides(list(sides.values()), "test", metric, 2000)
    lines = [*write_table(found, list(sides), metric), "", *write_findings(found, list(sides),
             metric, goals, notes), "", *write_origin(read_records(sides))]  # fmt: skip
    fill(page, block, lines)
    print("\n".join(lines))


def shorten(finding: str) -> str:
    """Keep of a finding its scores, the first contrast and the goals."""
    parts = finding.rstrip(".").split("; ")
    return "; ".join([*parts[:3], *(part for part in parts[3:] if part.startswith("goal"))])


def write_table(found: dict[str, Any], names: Sequence[str], metric: str) -> Iterator[str]:
    """Yield a row an arm: its scores, and the difference of the tested one to the first arm."""
    shown = list(dict.fromkeys([metric, *CLASSIFICATION.compared]))
    heads = [label_of(name) for name in shown]
    heads += [f"{names[0]} − this arm, {label_of(metric)}", "p"]
    yield f"| {count_words(found['n'])} | trainings | {' | '.join(heads)} |"
    yield "|---" * (len(shown) + 4) + "|"
    ahead = measure_lead(found, names, metric)
    for name, arm in zip(names, found["arms"], strict=True):
        scores = " | ".join(show_interval(arm["scores"].get(key)) for key in shown)
        lead = (
            f"{show_difference(ahead[name])} | {show_p(ahead[name]['p'])}"
            if name in ahead
            else " | "
        )
        yield f"| {name} | {found['trainings']} | {scores} | {lead} |"


def measure_lead(
    found: dict[str, Any], names: Sequence[str], metric: str
) -> dict[str, dict[str, Any]]:
    """Return how far the first arm is ahead of each other one, with interval and p."""
    pairs = zip(combinations(range(len(names)), 2), found["pairs"], strict=True)
    return {
        names[b]: {"value": -score["value"], "low": -score["high"], "high": -score["low"],
                   "p": pair["tests"]["score"]["p"]}
        for (a, b), pair in pairs if a == 0 for score in [pair["scores"][metric]]
    }  # fmt: skip


def write_findings(
    found: dict[str, Any], names: Sequence[str], metric: str, goals: list[str], notes: list[str]
) -> Iterator[str]:
    """Yield one sentence: scores, what is told apart from the first arm, what of the goals."""
    scores = [arm["scores"][metric] for arm in found["arms"]]
    told = [f"{name} {show_interval(score)}" for name, score in zip(names, scores, strict=True)]
    words = [f"{'; '.join([*notes, ''])}{label_of(metric)}: {', '.join(told)}"]
    for name, lead in measure_lead(found, names, metric).items():
        apart = lead["low"] > 0 or lead["high"] < 0
        verdict = "told apart" if apart else "not told apart"
        words.append(f"{names[0]} − {name} {show_difference(lead)}: {verdict}")
    for goal in goals:
        key, limit = goal.split(">=")
        value = found["arms"][0]["scores"][key]["value"]
        verdict = "reached" if value >= float(limit) else "missed"
        words.append(f"goal {label_of(key)} ≥ {limit}: {verdict} ({value:.3f})")
    yield f"**Finding.** {'; '.join(words)}."


def read_records(sides: dict[str, Side]) -> dict[str, list[dict[str, Any]]]:
    return {name: [{"record": cell.record} for cell in side.cells.values()]
            for name, side in sides.items()}  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
