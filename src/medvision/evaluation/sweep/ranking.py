"""Arms in the order of their val score; test scores stand beside it and decide nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medvision.evaluation.comparison.arms import Arm
from medvision.evaluation.comparison.settings import label_keys, show_setting
from medvision.evaluation.comparison.sweep_run import SweepRun
from medvision.evaluation.evaluator import direction
from medvision.evaluation.report.table import (
    UNDEFINED,
    Table,
    show_interval,
    show_score,
    show_seconds,
)
from medvision.evaluation.sweep.pooling import show_spread

COLUMNS = 4  # settings that get a column each
_CLOSE = 5e-4  # a score of metrics.json this near the objective is the same score


@dataclass(frozen=True)
class Standing:
    """An arm and its place; no place without a finished run.

    Attributes:
        values: the monitored score of each finished run, in the order of the cells.
    """

    place: int | None
    arm: Arm
    values: list[float]

    @property
    def mean(self) -> float | None:
        return float(np.mean(self.values)) if self.values else None


@dataclass(frozen=True)
class Ranking:
    """Arms of one monitor, the best first.

    Attributes:
        table: a row an arm.
        lines: of each arm, a row a run; the last cell names the run folder.
    """

    monitor: str
    standings: list[Standing]
    table: Table
    lines: list[Table]


def rank_arms(arms: Sequence[Arm]) -> list[list[Standing]]:
    """Rank by the mean of the monitored val score over finished runs, each monitor apart."""
    monitors = dict.fromkeys(arm.cells[0].monitor for arm in arms)
    return [_rank([arm for arm in arms if arm.cells[0].monitor == m], m) for m in monitors]


def _rank(arms: Sequence[Arm], monitor: str) -> list[Standing]:
    sign = 1 if direction(monitor, arms[0].evaluator) == "min" else -1
    found = [Standing(None, arm, [cell.objective for cell in arm.cells if cell.objective is not None
                                  and cell.status == "done"]) for arm in arms]  # fmt: skip
    ranked = sorted((s for s in found if s.mean is not None), key=lambda s: sign * (s.mean or 0.0))
    means = [s.mean for s in ranked]  # equal ones share a place
    placed = [Standing(means.index(s.mean) + 1, s.arm, s.values) for s in ranked]
    return placed + [s for s in found if s.mean is None]


def tabulate(standings: list[Standing]) -> Ranking:
    """Lay a ranking out: test, where it was opened, in the last columns."""
    monitor, arms = standings[0].arm.cells[0].monitor, [s.arm for s in standings]
    primary = f"test {arms[0].evaluator.metrics[arms[0].evaluator.primary].label}"
    labels = label_keys([arm.settings for arm in arms])
    apart = len(labels) <= COLUMNS
    names = list(labels.values()) if apart else ["settings"]
    tested = any(_score_test(cell) for arm in arms for cell in arm.cells)
    head = ["rank", *(names if arms[0].name else []), "runs", f"{monitor} (ranks)"]
    head += [primary] if tested else []
    rows = []
    for s in standings:
        told = [show_setting(s.arm.settings[k], k) if k in s.arm.settings else UNDEFINED
                for k in labels] if apart else [s.arm.name]  # fmt: skip
        done = sum(cell.status == "done" for cell in s.arm.cells)
        count = str(done) if done == len(s.arm.cells) else f"{done} of {len(s.arm.cells)}"
        row = [str(s.place or UNDEFINED), *(told if arms[0].name else []), count, show_standing(s)]
        rows.append(row + ([_show_tests(s.arm)] if tested else []))
    lines = [_tabulate_runs(s.arm, tested) for s in standings]
    table = Table(head, rows, notes=[_explain(monitor, arms, tested)])
    return Ranking(monitor, standings, table, lines)


def _explain(monitor: str, arms: Sequence[Arm], tested: bool) -> str:
    better = "lower" if direction(monitor, arms[0].evaluator) == "min" else "higher"
    several = any(len(arm.cells) > 1 for arm in arms)
    spread = "mean ± SD over an arm's runs" if several else ""
    brackets = "in brackets the 95 % interval over patients of a single run"
    chosen = "the epoch and this order" if len(arms) > 1 else "the epoch"
    words = [f"Ranked by {monitor} of the val part, {better} is better; "
             f"{'; '.join(w for w in (spread, brackets) if w)}. "
             f"The val part chose {chosen}: read it as optimistic."]  # fmt: skip
    if tested:
        words.append("The test column decides nothing here.")
    if len(arms) > 1:
        words.append("Whether two arms differ is what medvision compare tests.")
    return " ".join(words)


def show_standing(standing: Standing) -> str:
    """Write an arm's val score: mean ± SD, or of a single run its interval."""
    done = [cell for cell in standing.arm.cells if cell.status == "done"]
    return _show_objective(done[0]) if len(done) == 1 else show_spread(standing.values)


def _show_objective(cell: SweepRun) -> str:
    """Write a run's monitored score, with its patient interval where metrics.json has it."""
    if cell.objective is None:
        return UNDEFINED
    score = (cell.metrics.get("val") or {}).get(cell.monitor.removeprefix("val/"))
    value = score.get("value") if isinstance(score, Mapping) else None
    if value is not None and abs(value - cell.objective) < _CLOSE:
        return show_interval(score)
    return show_score(cell.objective)


def _score_test(cell: SweepRun) -> Mapping[str, Any]:
    """Return a run's test score with its interval; {} where test was not opened."""
    score: Mapping[str, Any] = (cell.metrics.get("test") or {}).get(cell.evaluator.primary) or {}
    return score


def _show_tests(arm: Arm) -> str:
    """Write an arm's test score as `show_standing` writes the val score."""
    held = [score for cell in arm.cells if (score := _score_test(cell))]
    if len(held) == 1:
        return show_interval(held[0])
    values = [score["value"] for score in held if score.get("value") is not None]
    return show_spread(values)


def _tabulate_runs(arm: Arm, tested: bool) -> Table:
    """Lay the runs of an arm out, a row each."""
    primary = arm.evaluator.metrics[arm.evaluator.primary].label
    scores = [arm.cells[0].monitor, *([f"test {primary}"] if tested else [])]
    head = ["run", "status", *scores, "best epoch", "time", "memory", "folder"]
    rows = []
    for cell in arm.cells:
        test = [show_interval(_score_test(cell)) if _score_test(cell) else ""] if tested else []
        record = cell.record
        seconds, memory = record.get("seconds"), record.get("peak_memory_mb")
        rows.append([
            name_place(cell), name_status(cell), _show_objective(cell), *test,
            str(record.get("best_epoch", "")), show_seconds(seconds) if seconds else "",
            f"{memory} MB" if memory else "", cell.run.title,
        ])  # fmt: skip
    return Table(head, rows)


def name_place(cell: SweepRun) -> str:
    """Write which cell of its arm a run is, as a user types it."""
    words = [f"split_seed={cell.split_seed}" if cell.split_seed else "", f"seed={cell.seed}",
             "" if cell.fold is None else f"fold={cell.fold}"]  # fmt: skip
    return " ".join(word for word in words if word)


def name_status(cell: SweepRun) -> str:
    """Return the status, a trial that was given up on purpose being `pruned`."""
    pruned = cell.status == "interrupted" and cell.reason.lower().startswith("pruned")
    return "pruned" if pruned else cell.status or "unknown"
