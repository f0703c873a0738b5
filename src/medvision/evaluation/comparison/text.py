"""How a comparison is shown: a forest plot of differences, a table, and plain sentences.

All read the content of `comparison.json`. What is not significant is never called equal.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rich.console import Console

from medvision.evaluation.evaluator import Evaluator
from medvision.evaluation.report.page import render_page
from medvision.evaluation.report.table import (
    UNDEFINED,
    Row,
    Table,
    count_words,
    show_interval,
    show_score,
)
from medvision.stats.hypothesis_tests import ALPHA

LONGEST = 52  # characters of two names in a line of the figure
MINUS = "\N{MINUS SIGN}"
RARE = 0.05  # of the resamples; where more lack a score, no 95 % interval of it holds
FEW = 3  # pairs of which all scores are shown; of more, the tested ones


class Difference(NamedTuple):
    """One line of a forest plot; `low` and `high` are None where there is no interval."""

    score: str
    pair: str
    value: float
    low: float | None
    high: float | None


def list_differences(comparison: Mapping[str, Any], evaluator: Evaluator) -> list[Difference]:
    """Return the lines of the plot: all defined scores of few pairs, the tested ones of many."""
    rows = []
    for name in _shown_scores(comparison):
        metric = evaluator.metrics[name]
        label = metric.label + (" (low is good)" if metric.better == "low" else "")
        for pair in comparison["pairs"]:
            score = pair["scores"][name]
            if score["value"] is not None:
                rows.append(Difference(label, _name_pair(pair), **score))
    return rows


def _shown_scores(comparison: Mapping[str, Any], few: int = FEW) -> list[str]:
    """Name the scores worth a line, the tested one first."""
    held = [pair["scores"] for pair in comparison["pairs"]]
    names = list(dict.fromkeys([comparison["metric"], *(name for s in held for name in s)]))
    names = names if len(held) <= few else names[:2]
    return [name for name in names if any(s[name]["value"] is not None for s in held)]


def _name_pair(pair: Mapping[str, Any]) -> str:
    """Name a difference: the second minus the first."""
    return f"{pair['second']} {MINUS} {pair['first']}"


def signed(value: float) -> str:
    """Write `+.012` or `-.012`."""
    text = show_score(value)
    return text if value < 0 or not float(text) else f"+{text}"


def show_difference(score: Mapping[str, Any]) -> str:
    """Write `{value, low, high}` as `+.012 (-.010, +.034)`; a dash where there is none."""
    if score["value"] is None:
        return UNDEFINED
    if score["low"] is None:
        return f"{signed(score['value'])} ({UNDEFINED})"
    return f"{signed(score['value'])} ({signed(score['low'])}, {signed(score['high'])})"


def show_p(p: float | None) -> str:
    """Write a p value with three digits, never as 0."""
    return UNDEFINED if p is None else "<.001" if p < 0.001 else show_score(p)


def comparison_table(comparison: Mapping[str, Any], evaluator: Evaluator, few: int = FEW) -> Table:
    """Lay the comparison out: a row a pair and score, the test named beside its p."""
    several = len(comparison["pairs"]) > 1
    head = ["difference", "score", "first", "second", "second − first", "p", "Holm", "test"]
    arms = {arm["name"]: arm["scores"] for arm in comparison["arms"]}
    rows = []
    for pair in comparison["pairs"]:
        first, second = arms[pair["first"]], arms[pair["second"]]
        for name in _shown_scores(comparison, few):
            cells = [show_interval(first[name]), show_interval(second[name]),
                     show_difference(pair["scores"][name])]  # fmt: skip
            tested = _test_cells(comparison, evaluator, pair, name)
            rows.append([_name_pair(pair), evaluator.label(name), *cells, *tested])
        rows += _training_rows(comparison, evaluator, pair)
    if not several:
        pair, left = comparison["pairs"][0], {0, 6}
        head[2], head[3] = pair["first"], pair["second"]
        head, rows = _leave_out(head, left), [_leave_out(row, left) for row in rows]
    return Table(head, rows)


def _leave_out(row: Row, columns: set[int]) -> list[str]:
    return [cell for k, cell in enumerate(row) if k not in columns]


def _test_cells(
    comparison: Mapping[str, Any], evaluator: Evaluator, pair: Mapping[str, Any], name: str
) -> list[str]:
    tests = pair["tests"]
    test = tests["score"] if name == comparison["metric"] else None
    for further, place in evaluator.tests.items():
        if name == place and further in tests:
            test = tests[further]
    return [show_p(test["p"]), show_p(test["p_holm"]), test["test"]] if test else ["", "", ""]


def _training_rows(
    comparison: Mapping[str, Any], evaluator: Evaluator, pair: Mapping[str, Any]
) -> Iterator[list[str]]:
    """Yield what other trainings say: over folds with a test, over seeds with their spread."""
    label = evaluator.label(comparison["metric"])
    folds, seeds = pair["tests"].get("folds"), pair["seeds"]
    if folds:
        tested = [show_p(folds["p"]), show_p(folds["p_holm"]), folds["test"]]
        yield [_name_pair(pair), f"{label}, mean of {folds['folds']} folds", "", "",
               show_difference(folds), *tested]  # fmt: skip
    if seeds:
        spread = f"{signed(seeds['mean'])} ± {show_score(seeds['sd'])}"
        yield [_name_pair(pair), f"{label}, {len(seeds['differences'])} seeds, mean ± SD", "", "",
               spread, "", "", ""]  # fmt: skip


def list_conclusions(comparison: Mapping[str, Any], evaluator: Evaluator) -> Iterator[str]:
    """Yield a sentence a pair, and what limits them all."""
    for pair in comparison["pairs"]:
        yield _conclude_pair(comparison, evaluator, pair)
        yield from _name_others(comparison, evaluator, pair)
        if folds := pair["tests"].get("folds"):
            yield (f"Over {folds['folds']} folds, {_name_pair(pair)} is {show_difference(folds)}, "
                   f"p {_equals(folds['p_holm'])} (corrected resampled t: the luck of training "
                   "and of the split is counted).")  # fmt: skip
        if seeds := pair["seeds"]:
            yield (f"Over {len(seeds['differences'])} seeds, {_name_pair(pair)} is "
                   f"{signed(seeds['mean'])} ± {show_score(seeds['sd'])} (mean ± SD): this spread "
                   "is the luck of training alone, not of patients.")  # fmt: skip
    if comparison["trainings"] == 1:
        yield "One training each: how much of this is the luck of training, only more seeds tell."


def _conclude_pair(
    comparison: Mapping[str, Any], evaluator: Evaluator, pair: Mapping[str, Any]
) -> str:
    metric, n = comparison["metric"], comparison["n"]["patients"]
    arms = {arm["name"]: arm["scores"][metric]["value"] for arm in comparison["arms"]}
    first, second = pair["first"], pair["second"]
    score, test, label = pair["scores"][metric], pair["tests"]["score"], evaluator.label(metric)
    if score["value"] is None:
        return f"{second} and {first} cannot be compared: {label} is undefined on these rows."
    if pair["undefined"] > RARE:
        return (
            f"{second} and {first} cannot be compared: {label} is undefined in "
            f"{pair['undefined']:.0%} of the resamples, for it rests on one or two patients; "
            "test on more of them."
        )
    over = f", Holm over {len(comparison['pairs'])} pairs" if len(comparison["pairs"]) > 1 else ""
    facts = f"{show_difference(score)}, p {_equals(test['p_holm'])} ({test['test']}{over})"
    if test["p_holm"] is not None and test["p_holm"] < ALPHA:
        ahead = (score["value"] > 0) == (evaluator.metrics[metric].better == "high")
        better, worse = (second, first) if ahead else (first, second)
        return (
            f"{better} is better than {worse} on these {n} patients: {label} "
            f"{show_score(arms[better])} against {show_score(arms[worse])}; "
            f"{_name_pair(pair)} is {facts}."
        )
    least = pair["smallest_difference"]
    power = f"; this n could show a difference of {show_score(least)}" if least else ""
    return (
        f"{first} and {second} cannot be told apart on {n} patients: {label} "
        f"{show_score(arms[first])} and {show_score(arms[second])}; "
        f"{_name_pair(pair)} is {facts}{power}."
    )


def _name_others(
    comparison: Mapping[str, Any], evaluator: Evaluator, pair: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what other scores say clearly: an arm may rank better and be calibrated worse."""
    told = []
    for name in _shown_scores(comparison):
        score = pair["scores"][name]
        low, high = score["low"], score["high"]
        if name == comparison["metric"] or low is None or low <= 0 <= high:
            continue
        better = (low > 0) == (evaluator.metrics[name].better == "high")
        told.append(f"{evaluator.label(name)} is {'better' if better else 'worse'}, "
                    f"{show_difference(score)}")  # fmt: skip
    if told:
        yield f"Also of {pair['second']} (intervals, not adjusted): {'; '.join(told)}."


def _equals(p: float | None) -> str:
    return "is undefined" if p is None else "< .001" if p < 0.001 else f"= {show_p(p)}"


def list_notes(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Yield the notes a reader needs under the table."""
    yield from comparison["stamps"]
    yield (
        f"In brackets: 95 % bootstrap intervals over patients ({comparison['resamples']} "
        "resamples, the same for all). p is two-sided; not significant does not mean equal."
    )
    holm = ", before Holm" if len(comparison["pairs"]) > 1 else ""
    yield f"A difference that this n could show: found at 5 % in 80 of 100 such studies{holm}."


def write_page(comparison: Mapping[str, Any], evaluator: Evaluator) -> str:
    """Write the comparison as Markdown: what was compared, the table, the figure, what it says."""
    table = comparison_table(comparison, evaluator, few=len(comparison["pairs"]))
    n, folds = comparison["n"], comparison["folds"]
    label = evaluator.label(comparison["metric"])
    return render_page(
        "comparison.md",
        title=f"{label} and more, compared on {comparison['part']}",
        counted=count_words(n).replace(", ", " of ") + (f", {folds} folds" if folds else ""),
        comparison=comparison,
        arms=_list_arms(comparison, comparison["trainings"]),
        table=table,
        sentences=[*list_conclusions(comparison, evaluator), *list_notes(comparison)],
    )


def _list_arms(comparison: Mapping[str, Any], few: int) -> Iterator[str]:
    """Name each arm with its runs, or with their number and the first."""
    for arm in comparison["arms"]:
        runs = arm["runs"]
        told = ", ".join(runs) if len(runs) <= few else f"{len(runs)} runs, such as {runs[0]}"
        yield f"{arm['name']}: {told}"


def print_comparison(
    comparison: Mapping[str, Any], evaluator: Evaluator, console: Console | None = None
) -> None:
    """Print arms, table and sentences; plain text where nobody watches the terminal."""
    console = console or Console(markup=False, highlight=False)
    console.soft_wrap = not console.is_terminal  # a log is searched: its lines are not broken
    table = comparison_table(comparison, evaluator)
    if len(comparison["pairs"]) > 1:  # the scores of the arms themselves are on the page
        head, *rows = (_leave_out(row, {2, 3}) for row in [table.head, *table.rows])
        table = Table(head, rows)
    for line in _list_arms(comparison, few=1):
        console.print(line, style="dim")
    table.print(console)
    for sentence in list_conclusions(comparison, evaluator):
        console.print(sentence)
    for note in list_notes(comparison):
        console.print(note, style="dim")
