"""Write a study's results from its run folders into its README, and the ledgers from all studies.

    python experiments/tabulate.py STUDY PART [goal:METRIC>=VALUE …] ARM=RUNS_GLOB …
    python experiments/tabulate.py STUDY PART block:NAME ARM=RUNS_GLOB …

STUDY is a folder here, PART `val` or `test`; each arm is a name and a pattern of run folders under
MEDVISION_RUNS. Everything between the markers of the README is replaced; nothing is typed by hand.
With `block:NAME` a further table alone goes between the markers of that name.
"""

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ledger import fill, fill_ledgers

from medvision.files import cache_folder, runs_folder

HERE = Path(__file__).parent
SHOWN = {"auroc": "AUROC", "accuracy": "accuracy", "recall": "sensitivity",
         "specificity": "specificity", "f1": "F1"}  # fmt: skip


def main(study: str, part: str, *words: str) -> None:
    goals = [word.removeprefix("goal:") for word in words if word.startswith("goal:")]
    blocks = [word.removeprefix("block:") for word in words if word.startswith("block:")]
    arms = dict(word.split("=", 1) for word in words if not word.startswith(("goal:", "block:")))
    found = {arm: list(read_runs(pattern)) for arm, pattern in arms.items()}
    missing = [arm for arm, runs in found.items() if not runs]
    if missing:
        sys.exit(f"no finished run for {', '.join(missing)}; run the study's run.sh first")
    if blocks:
        lines = [*write_table(found, part), "", *write_origin(found)]
        fill(HERE / study / "README.md", blocks[0], lines)
        print("\n".join(lines))
        return
    answer = [*write_goals(found, part, goals), ""]
    lines = [*write_table(found, part), "", *answer, *write_origin(found)]
    fill(HERE / study / "README.md", "results", lines)
    fill_ledgers()
    print("\n".join(lines))


def read_runs(pattern: str) -> Iterator[dict[str, Any]]:
    """Yield record and metrics of the finished runs that a pattern names, in the order of seeds."""
    folders = [f for f in sorted(runs_folder().glob(pattern)) if "~" not in f.name]
    runs = [
        {"record": json.loads((f / "record.json").read_text()),
         "metrics": json.loads((f / "metrics.json").read_text())}
        for f in folders if (f / "metrics.json").exists()
    ]  # fmt: skip
    yield from sorted((r for r in runs if r["record"]["status"] == "done"),
                      key=lambda r: r["record"]["seed"])  # fmt: skip


def write_table(found: dict[str, list[dict[str, Any]]], part: str) -> Iterator[str]:
    shown = [(part, key, name) for key, name in SHOWN.items()]
    if part == "val":
        shown.append(("val", "brier", "Brier score"))
    if part == "test":
        shown.append(("test_argmax", "accuracy", "accuracy at argmax"))
    yield f"| {part} | n images (patients) | " + " | ".join(name for *_, name in shown) + " |"
    yield "|---" * (len(shown) + 2) + "|"
    for arm, runs in found.items():
        scores = [[run["metrics"][block].get(key) for block, key, _ in shown] for run in runs]
        for run, row in zip(runs, scores, strict=True):
            n, seed = run["metrics"]["n"][part], run["record"]["seed"]
            cells = " | ".join(show(score) for score in row)
            yield f"| {arm}, seed {seed} | {n['images']} ({n['patients']}) | {cells} |"
        if len(runs) > 1:
            cells = " | ".join(spread(column) for column in zip(*scores, strict=True))
            yield f"| **{arm}, mean ± SD of {len(runs)} runs** | | {cells} |"


def write_goals(
    found: dict[str, list[dict[str, Any]]], part: str, goals: list[str]
) -> Iterator[str]:
    """Say of each goal whether the first arm's mean reached it, and sum the arms up."""
    sums = []
    for arm, runs in found.items():
        values = [run["metrics"][part]["auroc"]["value"] for run in runs]
        sums.append(f"{arm} AUROC {mean(values):.3f}")
    answers = ["; ".join(sums)]
    first = next(iter(found.values()))
    for goal in goals:
        name, limit = re.split(r">=", goal)
        value = mean(run["metrics"][part][name]["value"] for run in first)
        verdict = "reached" if value >= float(limit) else "missed"
        answers.append(f"goal {SHOWN.get(name, name)} ≥ {limit}: {verdict} ({value:.4f})")
    yield f"**Answer.** {'; '.join(answers)}."


def write_origin(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    records = [run["record"] for runs in found.values() for run in runs]
    last = max(records, key=lambda record: record["finished"])
    commits = sorted({r["code"].get("commit", r["code"]["digest"])[:10] for r in records})
    minutes = mean(r["seconds"] for r in records) / 60
    yield (
        f"From {len(records)} run folders, {last['finished'][:10]}, commit {', '.join(commits)}, "
        f"torch {last['versions']['torch']}, {last['device']}, {minutes:.1f} minutes a run. "
        "In brackets: 95 % bootstrap intervals over patients."
    )
    yield ""
    place = str(cache_folder())
    commands = dict.fromkeys(r["command"].replace(place, "$MEDVISION_CACHE") for r in records)
    yield "\n".join(f"- `{command}`" for command in commands)


def show(score: dict[str, float] | None) -> str:
    if score is None or score["value"] is None:
        return "–"
    interval = "" if score["low"] is None else f" ({score['low']:.3f}–{score['high']:.3f})"
    return f"{score['value']:.3f}{interval}"


def spread(scores: Sequence[dict[str, float] | None]) -> str:
    values = [score["value"] for score in scores if score and score["value"] is not None]
    if len(values) < 2:
        return "–"
    return f"**{mean(values):.4f}** ± {stdev(values):.4f}"


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
