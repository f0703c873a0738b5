"""What a sweep came to, from its run folders alone: ranked arms, failures, cost, the next command.

Arms are ranked by the monitored score of the val part. Test scores stand beside it and decide
nothing.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from medvision.errors import MedvisionError
from medvision.evaluation.comparison.arms import Arm, gather_arms, read_overrides
from medvision.evaluation.comparison.sweep_run import SweepRun, read_sweep_runs, stamp_runs
from medvision.evaluation.evaluator import direction
from medvision.evaluation.report.table import UNDEFINED, Table, show_interval, show_seconds
from medvision.evaluation.sweep.pooling import Pooled, pool_folds, tabulate_pooled
from medvision.evaluation.sweep.ranking import (
    Ranking,
    name_place,
    name_status,
    rank_arms,
    show_standing,
    tabulate,
)
from medvision.runs import Run

_STATUSES = ("done", "failed", "pruned", "interrupted", "stopped", "running")
_RESUMES = ("interrupted", "stopped")


@dataclass(frozen=True)
class Sweep:
    """The content of the report.

    Attributes:
        pooled: (name of the arm, its pooled table, what is missing).
        unfinished: runs that are not done, with the reason.
        commands: (what it is for, what to type).
        folders: title of a run → the run.
    """

    name: str
    verdict: str
    remarks: list[str] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)
    pooled: list[tuple[str, Table, list[str]]] = field(default_factory=list)
    unfinished: Table | None = None
    cost: list[str] = field(default_factory=list)
    openings: list[str] = field(default_factory=list)
    commands: list[tuple[str, str]] = field(default_factory=list)
    folders: dict[str, Run] = field(default_factory=dict)


def describe_sweep(runs: Sequence[Run], name: str) -> Sweep:
    """Gather what the run folders say; a pure function of their content.

    Raises:
        MedvisionError: a file of a run is broken.
    """
    cells = read_sweep_runs(runs)
    arms = gather_arms(cells)
    rankings = [tabulate(standings) for standings in rank_arms(arms)]
    pooled, troubles = _pool(arms)
    return Sweep(
        name=name,
        verdict=" ".join([_count_statuses(cells), *_describe_best(rankings, pooled)]),
        remarks=[
            *stamp_runs(cells),
            *_list_remarks(arms, rankings),
            *troubles,
            *_list_stamps(cells),
        ],
        rankings=rankings,
        pooled=[(arm, tabulate_pooled(found), found.remarks) for arm, found in pooled],
        unfinished=_list_unfinished(cells, arms),
        cost=list(_describe_cost(cells)),
        openings=list(_describe_openings(cells)),
        commands=list(_suggest_commands(rankings)),
        folders={cell.run.title: cell.run for cell in cells},
    )


def _pool(arms: Sequence[Arm]) -> tuple[list[tuple[str, Pooled]], list[str]]:
    """Pool the folds of each arm that has some, and say which do not fit together."""
    found, troubles = [], []
    for arm in arms:
        try:
            if pooled := pool_folds(arm):
                found.append((arm.name, pooled))
        except MedvisionError as error:
            of = f" of {arm.name}" if arm.name else ""
            troubles.append(f"The folds{of} are not pooled: {error}.")
    return found, troubles


def _count_runs(n: int) -> str:
    """Write `1 run` or `3 runs`."""
    return "1 run" if n == 1 else f"{n} runs"


def _count_statuses(cells: Sequence[SweepRun]) -> str:
    """Count them: `12 runs: 9 done, 2 failed, 1 stopped.`."""
    found = Counter(map(name_status, cells))
    known = [*_STATUSES, *sorted(found.keys() - set(_STATUSES))]
    counted = ", ".join(f"{found[status]} {status}" for status in known if found[status])
    return f"{_count_runs(len(cells))}: {counted}." if cells else "There are no runs here."


def _describe_best(
    rankings: Sequence[Ranking], pooled: Sequence[tuple[str, Pooled]]
) -> Iterator[str]:
    """Say which arm is best on val, and what a single arm's folds say together."""
    ranked = [ranking for ranking in rankings if ranking.standings[0].place]
    for ranking in ranked:
        best = ranking.standings[0]
        runs = len(best.values)
        score = show_standing(best) + (f" over {_count_runs(runs)}" if runs > 1 else "")
        arms, equal = len(ranking.standings), sum(s.place == 1 for s in ranking.standings) - 1
        if arms > 1:
            more = f"; {equal} more with the same score" if equal else ""
            yield f"Best of {arms} arms by {ranking.monitor}: {best.arm.name}, {score}{more}."
        else:
            yield f"{ranking.monitor} is {score}."
    if not ranked:
        yield "No run has a score yet."
    if len(pooled) == 1:
        found = pooled[0][1]
        primary = found.evaluator.primary
        yield (f"Over {len(found.folds[primary])} folds together, test "
               f"{found.evaluator.label(primary)} is {show_interval(found.scores[primary])} on "
               f"{found.rows} {found.unit} of {found.patients} patients.")  # fmt: skip


def _list_remarks(arms: Sequence[Arm], rankings: Sequence[Ranking]) -> Iterator[str]:
    """Say what stands in the way of reading the order as a result."""
    if len(rankings) > 1:
        monitors = ", ".join(ranking.monitor for ranking in rankings)
        yield f"The runs follow different monitors ({monitors}): each is ranked apart."
    data = {str(cell.record["manifest"][:-1]) for arm in arms for cell in arm.cells
            if cell.record.get("manifest")}  # fmt: skip
    if len(data) > 1:
        yield "The arms were not trained on the same manifests: their scores are no contest."
    opened = sum(any(cell.record.get("test_openings") for cell in arm.cells) for arm in arms)
    if opened > 1:
        yield (f"test was opened for {opened} arms: the best of them is no longer an unbiased "
               "result.")  # fmt: skip


def _list_unfinished(cells: Sequence[SweepRun], arms: Sequence[Arm]) -> Table | None:
    """Lay out what is not done, failures first, each with its reason and the way on."""
    names = {cell.run.folder: arm.name for arm in arms for cell in arm.cells}
    told = [set(read_overrides(cell).items()) for cell in cells]
    common = set.intersection(*told) if len(told) > 1 else set()
    rows = []
    for status in _STATUSES[1:]:
        for cell in (cell for cell in cells if name_status(cell) == status):
            name = names.get(cell.run.folder, _name_refused(cell, common))
            words = ", ".join(word for word in (name, name_place(cell)) if word)
            reason = cell.reason or ("a process is at work" if status == "running" else "")
            rows.append([words, status, reason or UNDEFINED, cell.run.title])
    if not rows:
        return None
    found = {row[1] for row in rows}
    notes = ["The same command tries again what failed"] if "failed" in found else []
    if waiting := [status for status in _RESUMES if status in found]:
        notes.append(f"{'it' if notes else 'The same command'} resumes what was "
                     f"{' or '.join(waiting)}")  # fmt: skip
    note = ", ".join(notes) + "." * bool(notes)
    return Table(["run", "status", "reason", "folder"], rows, notes=[note] * bool(note))


def _name_refused(cell: SweepRun, common: set[tuple[str, str]]) -> str:
    """Name a job that was refused before it had a configuration by the words not all were told."""
    own = [f"{key}={text}" for key, text in read_overrides(cell).items()
           if (key, text) not in common]  # fmt: skip
    return ", ".join(own)


def _describe_cost(cells: Sequence[SweepRun]) -> Iterator[str]:
    """Sum up time and memory of the finished runs, and name the device."""
    seconds = [float(cell.record["seconds"]) for cell in cells if cell.record.get("seconds")]
    memory = [cell.record["peak_memory_mb"] for cell in cells if cell.record.get("peak_memory_mb")]
    if seconds:
        each = f"median {show_seconds(float(np.median(seconds)))}, longest " \
               f"{show_seconds(max(seconds))}"  # fmt: skip
        yield (f"{_count_runs(len(seconds))} finished in {show_seconds(sum(seconds))} of work "
               f"({each}).")  # fmt: skip
    if memory:
        yield f"Peak memory of a run: at most {max(memory)} MB."
    if devices := dict.fromkeys(str(c.record["device"]) for c in cells if c.record.get("device")):
        yield f"Device: {'; '.join(devices)}."


def _list_stamps(cells: Sequence[SweepRun]) -> Iterator[str]:
    """Yield what tables of the runs are stamped with, and how many say so."""
    told = Counter(stamp for cell in cells for stamp in {*cell.metrics.get("stamps", ())})
    for stamp in sorted(told):
        yield f"{stamp} ({told[stamp]} of {_count_runs(len(cells))})"


def _describe_openings(cells: Sequence[SweepRun]) -> Iterator[str]:
    """Say how often the test part was looked at."""
    times = [len(cell.record.get("test_openings") or []) for cell in cells]
    opened, total = sum(n > 0 for n in times), sum(times)
    if not cells:
        return
    again = f", {total} times in all" if total > opened else ""
    yield (f"{opened} of {_count_runs(len(cells))} opened the test part{again}." if opened
           else "No run opened the test part.")  # fmt: skip


def _suggest_commands(rankings: Sequence[Ranking]) -> Iterator[tuple[str, str]]:
    """Yield what to type to repeat the best arm, open its test part, and look at one run."""
    for ranking in rankings:
        best = ranking.standings[0]
        cells = [cell for cell in best.arm.cells if cell.status == "done"]
        if best.place is None:
            continue
        which = f"the best ({best.arm.name})" if best.arm.name else "it"
        opened = all(cell.record.get("test_openings") for cell in cells)
        what = " (its test part is open already)" if opened else " and open its test part"
        if not best.arm.evaluator.opens_test:
            what = ""
        if words := _repeat_words(cells):
            yield f"To repeat {which}{what}", shlex.join(words)
        sign = 1 if direction(ranking.monitor, best.arm.evaluator) == "min" else -1
        first = min(cells, key=lambda cell: sign * (cell.objective or 0.0))
        yield ("To look at one run of it" if len(cells) > 1 else "To look at it",
               shlex.join(["medvision", "report", f"run={first.run.title}"]))  # fmt: skip


def _repeat_words(cells: Sequence[SweepRun]) -> list[str]:
    """Write the command of an arm's runs: their common words, and each of what differs."""
    told = [
        {str(word).partition("=")[0]: str(word) for word in cell.record.get("overrides") or []}
        for cell in cells
    ]
    if not all(told):
        return []
    keys = [key for key in told[0] if key != "test"]
    said = [list(dict.fromkeys(row[key] for row in told if key in row)) for key in keys]
    words = [",".join([some[0], *(w.partition("=")[2] for w in some[1:])]) for some in said]
    many = ["-m"] if any(len(some) > 1 for some in said) else []
    tested = ["test=true"] if cells[0].evaluator.opens_test else []
    return ["medvision", "train", *many, *words, *tested]
