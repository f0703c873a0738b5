"""Choose on val, judge on test, and write both into README.md.

    python experiments/gan_augmentation/judge.py choose CONDITION RATIO=RUNS … [other:ARM=RUNS …]
    python experiments/gan_augmentation/judge.py tell CONDITION LOOKS [card:FILE] \
        CANDIDATE=RUNS CONTROL=RUNS CONTROL=RUNS [other:ARM=RUNS …]
    python experiments/gan_augmentation/judge.py answer

RUNS is what `medvision compare` takes: runs of one arm over seeds. `choose` prints the ratio of the
best mean AUROC on val, and writes it with the other arms beside it. `tell` writes the paired
differences on test and the verdict, of LOOKS that the study gives; the first control is what one
would train without the candidate. `answer` makes the verdicts of all conditions the study's answer.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import medvision.files as files

sys.path.insert(0, str(Path(__file__).parents[1]))
from ledger import HERE, fill, fill_ledgers
from tabulate import write_origin

from medvision.commands.compare import Side, check_pairing, gather_side
from medvision.evaluation.comparison.arms import Arm, Repeat, align, read_repeats
from medvision.evaluation.comparison.text import MINUS, show_difference
from medvision.evaluation.evaluator import Evaluator, open_evaluator
from medvision.evaluation.report.table import show_score
from multi_seed import Contrast, Verdict, choose, contrast, draw_trainings, judge, phrase

PAGE = HERE / "gan_augmentation" / "README.md"
METRIC = "auroc"
label_of = open_evaluator("classification").label
SHOWN = (METRIC, "balanced_accuracy", "recall", "specificity")
CONDITIONS = {"all": "all images", "few": "100 images a class", "rare": "1:20"}


def choose_ratio(condition: str, *words: str) -> None:
    arms, others, _ = split_words(words)
    sides = {name: gather_side(runs) for name, runs in (arms | others).items()}
    check_pairing(list(sides.values()))
    scores = {name: read_scores(side, "val") for name, side in sides.items()}
    chosen = choose({name: scores[name][METRIC] for name in arms}, METRIC)
    fill(PAGE, f"{condition}-val", [*write_scores("val", scores, chosen)])
    print(chosen)


def tell(condition: str, looks: str, *words: str) -> None:
    named, others, cards = split_words(words)
    sides = {name: gather_side(runs) for name, runs in (named | others).items()}
    check_pairing(list(sides.values()))
    evaluator = next(iter(sides.values())).evaluator
    arms = {name: read_side(side, "test") for name, side in sides.items()}
    candidate, *controls = named
    verdict = judge(arms, candidate, controls, evaluator, METRIC, looks=int(looks))
    beside = {
        name: contrast_beside(arms[candidate], arms[name], evaluator, METRIC) for name in others
    }
    scores = {name: read_scores(side, "test") for name, side in sides.items()}
    lines = [
        *write_scores("test", scores, candidate), "", *write_contrasts(verdict, beside), "",
        f"**Verdict.** {CONDITIONS.get(condition, condition)}: {phrase(verdict)}", "",
        *(describe_generator(Path(card)) for card in cards), "", *write_source(sides),
    ]  # fmt: skip
    fill(PAGE, condition, lines)
    print("\n".join(lines))


def answer() -> None:
    """Make the verdicts the answer, each without its intervals' small print."""
    page = PAGE.read_text()
    told = [cut.rstrip(".") for cut in re.findall(r"\*\*Verdict\.\*\* (.+)", page)]
    origins = re.findall(r"From .+ folders, .+ commit .+", page)
    kept = [re.sub(r"; such a study shows .+", "", one) for one in told]
    fill(PAGE, "answer", [f"**Answer.** {'. '.join(kept)}.", "", origins[-1]])
    fill_ledgers()


def split_words(words: Sequence[str]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Return the arms that count, the others, and the cards."""
    cards = [word.removeprefix("card:") for word in words if word.startswith("card:")]
    others = [word.removeprefix("other:") for word in words if word.startswith("other:")]
    arms = [word for word in words if not word.startswith(("card:", "other:"))]
    pairs = ([word.split("=", 1) for word in some] for some in (arms, others))
    first, second = (dict(some) for some in pairs)
    return first, second, cards


def read_side(side: Side, part: str) -> list[Repeat]:
    return read_repeats(Arm("", {}, list(side.cells.values())), part)


def read_scores(side: Side, part: str) -> dict[str, list[float]]:
    """Return metric → its value in each training."""
    held = [cell.metrics[part] for cell in side.cells.values()]
    return {name: [block[name]["value"] for block in held] for name in SHOWN}


def contrast_beside(
    candidate: list[Repeat], other: list[Repeat], evaluator: Evaluator, metric: str
) -> Contrast:
    """Contrast the candidate with an arm that the verdict does not hang on."""
    first, second = (
        draw_trainings(align(some, evaluator), evaluator, metric) for some in (candidate, other)
    )
    return contrast(first - second)


def write_scores(
    part: str, scores: Mapping[str, Mapping[str, list[float]]], chosen: str
) -> Iterator[str]:
    yield f"| {part}, mean ± SD over trainings | n | {' | '.join(map(label_of, SHOWN))} |"
    yield "|---" * (len(SHOWN) + 2) + "|"
    for name, held in scores.items():
        cells = [f"{show_score(mean(v))} ± {show_score(stdev(v))}" for v in held.values()]
        shown = f"**{name}** (chosen on val)" if name == chosen else name
        yield f"| {shown} | {len(held[METRIC])} | {' | '.join(cells)} |"


def write_contrasts(verdict: Verdict, beside: Mapping[str, Contrast]) -> Iterator[str]:
    """Yield a row a paired difference, with the two kinds of luck in it."""
    label = label_of(verdict.metric)
    yield f"| difference in {label} | value (interval) | p | of training | of patients |"
    yield "|---|---|---|---|---|"
    for name, one in {**verdict.contrasts, **beside}.items():
        role = "control" if name in verdict.contrasts else "beside, 95 %"
        p = "–" if one.p is None else "<.001" if one.p < 0.001 else show_score(one.p)
        yield (
            f"| {verdict.candidate} {MINUS} {name} ({role}) | {show_difference(asdict(one))} | {p} "
            f"| {show_score(one.by_training)} | {show_score(one.by_patients)} |"
        )


def describe_generator(card: Path) -> str:
    """Say whose images they were, and whether the gate let them pass."""
    facts = files.read_json(card)["facts"]
    gate, seen = facts.get("gate") or {}, facts.get("seen") or {}
    told = "passed" if gate.get("passed") else f"failed: {'; '.join(gate.get('reasons', []))}"
    count = len(seen.get("train_images", []))
    return f"Generator {facts['generator'][:8]}, trained on {count} images; its gate {told}."


def write_source(sides: Mapping[str, Side]) -> Iterator[str]:
    """Yield where all comes from; the brackets here count more than patients."""
    for line in write_origin(read_records(sides)):
        yield line.replace(
            "95 % bootstrap intervals over patients",
            "intervals over patients and trainings, at the level of the verdict for controls",
        )


def read_records(sides: Mapping[str, Side]) -> dict[str, list[dict[str, Any]]]:
    return {name: [{"record": cell.record} for cell in side.cells.values()]
            for name, side in sides.items()}  # fmt: skip


if __name__ == "__main__":
    verbs = {"choose": choose_ratio, "tell": tell, "answer": answer}
    if len(sys.argv) < 2 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    verbs[sys.argv[1]](*sys.argv[2:])
