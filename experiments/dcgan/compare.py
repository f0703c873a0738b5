"""Write the presets side by side, from their run folders, into README.md.

    python experiments/dcgan/compare.py PRESET …

A preset is the best where its mean over seeds is highest; what is told apart is not claimed.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from ledger import HERE, fill, fill_ledgers
from tabulate import write_origin

from medvision.evaluation.report.table import show_score
from medvision.files import runs_folder

PAGE, GOAL = HERE / "dcgan" / "README.md", 0.75


def main(*presets: str) -> None:
    found = {preset: read_runs(preset) for preset in presets}
    if missing := [preset for preset, runs in found.items() if not runs]:
        sys.exit(f"no finished run of {', '.join(missing)}; run experiments/dcgan/run.sh first")
    lines = [*write_table(found), "", *write_answer(found), "", *write_origin(found)]
    fill(PAGE, "results", [line.replace(ENDING, "") for line in lines])
    fill_ledgers()
    print("\n".join(lines))


ENDING = " In brackets: 95 % bootstrap intervals over patients."  # there are none here


def read_runs(preset: str) -> list[dict[str, Any]]:
    folders = sorted(f.parent for f in runs_folder().glob("dcgan_presets/*/metrics.json"))
    runs = [
        {name: json.loads((f / f"{name}.json").read_text()) for name in ("record", "metrics")}
        | {"kimg": read_kimg(f)}
        for f in folders if "~" not in f.name
    ]  # fmt: skip
    own = [run for run in runs if f"model={preset}" in run["record"]["overrides"]]
    return sorted(own, key=lambda run: run["record"]["seed"])


def read_kimg(folder: Path) -> float:
    rows = (folder / "history.csv").read_text().splitlines()
    return float(rows[-1].split(",")[rows[0].split(",").index("train/kimg")])


def write_table(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    yield (
        "| preset | thousand images | coverage ÷ floor, worst class and space | worst in | "
        "label agreement ÷ real | copies | gate |"
    )
    yield "|---" * 7 + "|"
    for preset, runs in found.items():
        for run in runs:
            told, gate = run["metrics"]["fidelity"], run["metrics"]["gate"]
            coverage, agreement = told["coverage"], told["label_agreement"]
            agrees = show_score(agreement["relative"]) if agreement else "–"
            yield (
                f"| {preset}, seed {run['record']['seed']} | {run['kimg']:.0f} "
                f"| {show_score(coverage['relative'])} | {coverage['class']}, {coverage['space']} "
                f"| {agrees} | {show_score(told['copying']['copied'])} "
                f"| {'passed' if gate['passed'] else 'failed'} |"
            )
        values = read_coverage(runs)
        spread = f" ± {show_score(stdev(values))}" if len(values) > 1 else ""
        yield f"| **{preset}, mean ± SD** | | **{show_score(mean(values))}**{spread} | | | | |"


def write_answer(found: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    means = {preset: mean(read_coverage(runs)) for preset, runs in found.items()}
    best = max(means, key=lambda preset: means[preset])
    told = ", ".join(f"{preset} {show_score(value)}" for preset, value in means.items())
    verdict = "reached" if means[best] >= GOAL else "missed"
    yield (
        f"**Answer.** Worst-case coverage ÷ floor, mean over seeds: {told}; goal ≥ "
        f"{show_score(GOAL)}: {verdict} by {best} ({show_score(means[best])})."
    )


def read_coverage(runs: list[dict[str, Any]]) -> list[float]:
    return [run["metrics"]["fidelity"]["coverage"]["relative"] for run in runs]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
