"""Folds put together: every row scored once, by the model that has not seen its patient."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medvision.evaluation.comparison.arms import Arm, Repeat, align, read_repeats
from medvision.evaluation.evaluator import Evaluator
from medvision.evaluation.report.table import UNDEFINED, Table, show_interval, show_score
from medvision.stats.bootstrap import LARGE, Interval, draw
from medvision.stats.ranking import Floats

APART = 0.05  # below the worst fold: a pooled score that shows more than chance


@dataclass(frozen=True)
class Pooled:
    """What the folds of an arm say together.

    Attributes:
        evaluator: of the arm's task.
        scores: name → `{value, low, high}`: the mean over repeats, patients drawn within folds.
        folds: name → a value a fold (nan where undefined), the mean over its seeds.
        repeats: name → a value a repeat, pooled over its folds.
        rows, unit, patients: how much was scored; `unit` is images or series.
        remarks: what is missing, and how it was dealt with.
    """

    evaluator: Evaluator = field(compare=False)
    scores: dict[str, Interval]
    folds: dict[str, list[float]]
    repeats: dict[str, list[float]]
    rows: int
    unit: str
    patients: int
    stratified: bool
    remarks: list[str] = field(default_factory=list)


def pool_folds(arm: Arm) -> Pooled | None:
    """Score the out-of-fold predictions of an arm; None with fewer than two folds.

    A pure function of the stored predictions: the resamples are those of seed 0.

    Raises:
        MedvisionError: the predictions do not fit together.
    """
    every = [repeat for repeat in read_repeats(arm, "test") if repeat.folds != [None]]
    found = [repeat for repeat in every if len(repeat.folds) > 1]
    if not found:
        return None
    asked = _count_folds(arm)
    most = max(found, key=lambda repeat: len(repeat.folds))
    used = [repeat for repeat in found if _fits(repeat, most, asked)]
    evaluator = arm.evaluator
    metrics = {name: evaluator.metrics[name] for name in evaluator.pooled}
    rows = align(used, evaluator)
    resamples = 1000 if rows.scored[0].size > LARGE else 2000
    (drawn,) = draw(metrics, [rows.scored], rows.patients, strata=rows.strata, resamples=resamples)
    folds, once = _score_folds(used, evaluator), np.ones((1, len(rows.keys)))
    return Pooled(
        evaluator=evaluator,
        scores={
            name: evaluator.interval(name, rows.scored, values) for name, values in drawn.items()
        },
        folds=folds,
        repeats={
            name: [float(metric.compute(scored, once)[0]) for scored in rows.scored]
            for name, metric in metrics.items()
        },
        rows=len(rows.keys),
        unit=arm.cells[0].unit,
        patients=len(set(rows.patients)),
        stratified=bool(set(rows.strata) - {""}),
        remarks=[*_say_missing(arm, every, used, asked), *_say_apart(evaluator, drawn, folds)],
    )


def _count_folds(arm: Arm) -> int:
    """Return into how many folds the arm was told to split."""
    asked = (arm.cells[0].config.get("data") or {}).get("folds")
    return int(asked or len({cell.fold for cell in arm.cells} - {None}))


def _fits(repeat: Repeat, most: Repeat, asked: int) -> bool:
    """Tell whether two repeats hold the same rows: the same folds, or all of them."""
    whole = len(repeat.folds) == len(most.folds) == asked
    return whole or (repeat.split_seed == most.split_seed and repeat.folds == most.folds)


def _score_folds(repeats: Sequence[Repeat], evaluator: Evaluator) -> dict[str, list[float]]:
    """Score each fold by itself: name → a value a (split_seed, fold), the mean over seeds."""
    values: dict[tuple[int, str], list[Floats]] = defaultdict(list)
    for repeat in repeats:
        rows = align([repeat], evaluator)
        (scored,), strata = rows.scored, np.array(rows.strata)
        for fold in dict.fromkeys(rows.strata):
            own = scored.take(strata == fold)
            once = np.ones((1, len(own)))
            each = [evaluator.metrics[name].compute(own, once)[0] for name in evaluator.pooled]
            values[repeat.split_seed, fold].append(np.array(each))
    means = np.array([np.mean(values[place], axis=0) for place in sorted(values)])
    return {name: means[:, n].tolist() for n, name in enumerate(evaluator.pooled)}


def _say_missing(
    arm: Arm, every: Sequence[Repeat], used: Sequence[Repeat], asked: int
) -> Iterator[str]:
    """Say which repeats lack folds, and whether they count."""
    folds = {(repeat.seed, repeat.split_seed): repeat.folds for repeat in every}
    told = {(c.seed, c.split_seed): 0 for c in arm.cells if c.fold is not None}
    counted = {(repeat.seed, repeat.split_seed) for repeat in used}
    for seed, split_seed in sorted(told):
        done = len(folds.get((seed, split_seed), []))
        if done < asked:
            name = f"seed={seed}" + (f" split_seed={split_seed}" if split_seed else "")
            fate = "pooled over those" if (seed, split_seed) in counted else "left out"
            yield f"{name}: {done} of {asked} folds have test predictions; {fate}."
        elif (seed, split_seed) not in counted:
            yield f"seed={seed} split_seed={split_seed}: left out, since its rows differ."


def _say_apart(
    evaluator: Evaluator, drawn: Mapping[str, Floats], folds: Mapping[str, Sequence[float]]
) -> Iterator[str]:
    """Say where folds score well by themselves and not together: their levels differ."""
    for name, values in drawn.items():
        each, ranked = np.array(folds[name]), evaluator.metrics[name].better == "high"
        if ranked and not np.isnan(each).all() and values[0] < np.nanmin(each) - APART:
            yield (
                f"{evaluator.label(name)} is {show_score(float(values[0]))} pooled and "
                f"{show_score(float(np.nanmean(each)))} on average within a fold: the nets of the "
                "folds put their probabilities at different levels. Read the pooled score; folds "
                "with more patients to be calibrated on would agree."
            )


def tabulate_pooled(pooled: Pooled) -> Table:
    """Lay the pooled scores out: interval, spread over folds, spread over repeats."""
    folds, repeats = (len(next(iter(v.values()))) for v in (pooled.folds, pooled.repeats))
    head = ["", "pooled (95 % CI)", f"mean ± SD of {folds} folds"]
    head += [f"SD of {repeats} repeats"] if repeats > 1 else []
    rows = []
    for name, score in pooled.scores.items():
        spread = [show_spread(pooled.folds[name])]
        spread += [_show_deviation(pooled.repeats[name])] if repeats > 1 else []
        rows.append([pooled.evaluator.label(name), show_interval(score), *spread])
    drawn = "within folds" if pooled.stratified else "over all patients, since the splits differ"
    mean = f"the mean of {repeats} repeats (seeds or splits), " if repeats > 1 else ""
    note = (
        f"{pooled.rows} {pooled.unit} of {pooled.patients} patients, each predicted by the model "
        f"that has not seen its patient; {mean}each run deciding as its own val part had it, "
        f"intervals over patients drawn {drawn}. The folds share training patients: their SD is no "
        "standard error."
    )
    return Table(head, rows, notes=[note])


def show_spread(values: Sequence[float]) -> str:
    """Write mean ± standard deviation (of a sample) of what is defined."""
    known = np.array([value for value in values if not np.isnan(value)])
    if not len(known):
        return UNDEFINED
    mean = show_score(float(known.mean()))
    return f"{mean} ± {_show_deviation(known.tolist())}" if len(known) > 1 else mean


def _show_deviation(values: Sequence[float]) -> str:
    """Write the standard deviation of a sample; a dash where there is none."""
    known = [value for value in values if not np.isnan(value)]
    return show_score(float(np.std(known, ddof=1))) if len(known) > 1 else UNDEFINED
