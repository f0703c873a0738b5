"""Which epoch of a training is the best one, and why."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd

from medvision.evaluation.evaluator import Evaluator, direction
from medvision.evaluation.report.table import show_score

Ways = Mapping[str, Literal["min", "max"]]
TIES: Ways = {"val/loss": "min"}
"""What decides between epochs that are equal by the monitor, as those of few val patients often
are: a score is 1 from the first step on where the question is easy."""

FEWEST = 40
"""Patients of val from which on they choose an epoch.

Twenty of each of two classes, as from which on an interval is not called one of few patients. The
noise of fewer is larger than what epochs differ by, and late ones are better. For eight nets that
63 series trained, 14 others called an epoch best that scored .64, .93, .58, .59, .97, .80, .89, .96
on 113 more (areas under the ROC curve); the last one scored .86, .93, .83, .85, .97, .80, .88, .96.
The mean of the weights of the last third scored no better (.85, .93, .82, .84, .97, .79, .85, .93),
and the mean of val's scores over three epochs chose some of .62 and .75.
"""


def rank_epoch(scores: Mapping[str, Any], ways: Ways) -> tuple[float, ...]:
    """Return what is larger for the better epoch; what is not a number is worst.

    Args:
        scores: logged, by name.
        ways: the scores that count, the first one first, and whether low or high is better.
    """
    told = ((float(scores.get(name, math.nan)), way) for name, way in ways.items())
    return tuple(-math.inf if math.isnan(v) else v if way == "max" else -v for v, way in told)


def find_best_epoch(
    history: pd.DataFrame, monitor: str, task: str | Evaluator | None = None, ties: Ways = TIES
) -> int | None:
    """Return the epoch that is best by the monitor, of equal ones by `ties`; None without values.

    Args:
        history: column `epoch` and one column a metric.
        monitor: a column.
        task: whose metric it is, as in `direction`.
        ties: further columns, where there are any.
    """
    if monitor not in history or history[monitor].dropna().empty:
        return None
    ways = {monitor: direction(monitor, task), **ties}
    rows = history.dropna(subset=[monitor]).to_dict("records")
    return int(max(rows, key=lambda row: rank_epoch(row, ways))["epoch"])


def explain_choice(history: pd.DataFrame, ways: Ways) -> str:
    """Say why the best epoch is that: `highest val/auroc (1.000), as 3 of 20 epochs; of these …`.

    Args:
        history: one column a metric, one row an epoch.
        ways: as in `rank_epoch`.
    """
    rows, said = history.to_dict("records"), []
    for name, way in ways.items():
        best = max(rank_epoch(row, {name: way}) for row in rows)
        if math.isinf(best[0]):  # not measured
            continue
        equal = [row for row in rows if rank_epoch(row, {name: way}) == best]
        value = show_score(float(equal[0][name]))
        text = f"{'highest' if way == 'max' else 'lowest'} {name} ({value})"
        said.append(text + (f" in {len(equal)} of {len(rows)} epochs" if len(equal) > 1 else ""))
        rows = equal
        if len(rows) == 1:
            return "; of these the ".join(said)
    return "; of these the ".join(said) + "; the first of these"


def keeps_last(keep: str, patients: float) -> bool:
    """Tell whether the last epoch is kept, and all are trained.

    The rate has come to rest there, so that no single step decides.

    Args:
        keep: `best`, `last`, or `auto`: the last where too few patients choose.
        patients: of val.
    """
    return keep == "last" or (keep == "auto" and patients < FEWEST)


def note_last(keep: str, patients: float, monitor: str) -> list[str]:
    """Say before training that nothing is chosen, and the way out; say nothing where it is."""
    if keep != "auto" or not keeps_last(keep, patients):
        return []
    return [
        f"val holds {patients} patients, too few to tell epochs apart: all are trained and the "
        f"last is kept (keep=best lets {monitor} choose)"
    ]


def explain_last(keep: str, patients: float, monitor: str, epochs: int) -> str:
    """Say why the last epoch was kept: `the last of 20, as val holds 14 patients and …`."""
    if keep == "last":
        return f"the last of {epochs}, as keep=last asks"
    return (
        f"the last of {epochs}, as val holds {patients} patients and from {FEWEST} on {monitor} "
        "chooses"
    )
