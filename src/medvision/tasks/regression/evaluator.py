"""What a regressor answers: put into the user's units, bounded, scored, drawn and told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from medvision.errors import MedvisionError, collect
from medvision.evaluation.evaluator import (
    HIT,
    Case,
    Evaluator,
    Metric,
    Scored,
    Section,
    Tables,
    average_attention,
    tabulate_attention,
)
from medvision.evaluation.predictions import Schema
from medvision.stats.ranking import Floats
from medvision.target import Encoded, array_of
from medvision.tasks.regression.interval import LEVEL, bound, find_point, fit_width, read_answer
from medvision.tasks.regression.metrics import (
    LABELS,
    METRICS,
    SHARED,
    Errors,
    find_reasons,
    score_all,
)
from medvision.tasks.regression.target import encoded_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure


ALIKE = 0.01  # of the spread of what is true: predictions nearer to each other tell nothing apart
BETTER = {"mae": "low", "rmse": "low", "r2": "high", "width": "low"}  # others are best near a value
COLUMNS = ("value", "pred", "low", "high")


class RegressionEvaluator(Evaluator):
    """Numbers, each with an interval.

    Args:
        target: `targets`, their names.
        decision: `outputs`, what a net answers of each target; `center` and `spread`, by which the
            targets were standardised; `level` of the interval, and the `width` that val gave it.
    """

    task = "regression"
    predicted = "targets"
    template = "medvision.tasks.regression/report.html"
    primary = "mae"
    captions = {  # noqa: RUF012 -- read only
        "scatter": ("Predicted over true", "On the line a prediction is what is true."),
        "bland_altman": (
            "Bland–Altman",
            "Differences over means of prediction and truth: their mean, the limits between which "
            "95 % of normally distributed differences lie, and 95 % bootstrap intervals of these "
            "over patients, shaded.",
        ),
        "cases": (
            "The largest errors, then good predictions",
            "Above, what is true; below, what was predicted, and what raised it.",
        ),
        "case": (
            "A series, slice by slice",
            "Large errors first. Below the slices Grad-CAM: what raised the prediction; bars are "
            "the weight of each slice, its heaviest three framed.",
        ),
        "gallery": (
            "The largest errors, beside good predictions",
            "What was predicted with its interval, and Grad-CAM beside or below the image: what "
            "raised the prediction, right or wrong. Heat shows where a net looked, not why.",
        ),
    }

    def __init__(self, target: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
        super().__init__(target, decision)
        self.targets: list[str] = list(target.get("targets", ()))
        names = SHARED if len(self.targets) > 1 else METRICS
        self.metrics = {name: self._metric(name) for name in names}
        self.compared = [name for name in ("rmse", "r2", "bias") if name in self.metrics]
        self.headline = [name for name in ("mae", "bias", "coverage") if name in self.metrics]
        self.pooled = [*self.metrics]
        truth = tuple(f"value_{name}" for name in self.targets)
        needed = tuple(f"pred_{name}" for name in self.targets)
        numbers = tuple(f"{column}_" for column in COLUMNS)
        self.tables = {
            "": Schema((), truth, numbers, needed, example="pred_<target>"),
            "slices": Schema(numbers=("attention",), scored=False),
        }

    def _metric(self, name: str) -> Metric:
        return Metric(
            name,
            LABELS[name],
            cast(Any, BETTER.get(name)),
            lambda scored, weights: score_all(self.weigh(scored), name, weights),
            lambda scored: self._reasons(scored).get(name),
        )

    def _reasons(self, scored: Scored) -> dict[str, str]:
        bounded = ~np.isnan(scored.arrays["low"])
        return scored.once("reasons", lambda: find_reasons(scored.arrays["value"], bounded))

    def weigh(self, scored: Scored) -> list[Errors]:
        """Make each target ready to be scored under any weights, once."""
        columns = [scored.arrays[name].T for name in COLUMNS]
        return scored.once("errors", lambda: [Errors(*own) for own in zip(*columns, strict=True)])

    @property
    def question(self) -> str:
        return ", ".join(self.targets)

    @property
    def averaged(self) -> str:
        return "mean of their predictions, and of the bounds of their intervals"

    @property
    def level(self) -> float:
        """The share of true values that an interval is to hold."""
        return float(self.decision.get("level", LEVEL))

    def steps(self) -> list[str]:
        return [
            "times the deviation of the training part, plus its mean",
            f"an interval for {self.level:.0%}, as wide as errors on val",
        ]

    def describe_decision(self) -> dict[str, Any]:
        """Return what was fixed: the units of the targets, and the width of their intervals."""
        return {"by": "the answer of the net, in the units of the targets", **self.decision}

    # Answers → predictions

    def bound(self, outputs: Encoded) -> Encoded:
        """Return `pred`, `low` and `high` `[N,T]` of outputs: those of `combine`, else of a net."""
        if "pred" in outputs:
            return outputs
        answer = read_answer(array_of(outputs, "logits"), **self._scales())
        low, high = bound(answer, self.decision.get("width") or [None] * len(self.targets))
        return {"pred": answer.pred, "low": low, "high": high}

    def _scales(self) -> dict[str, Any]:
        return {name: self.decision[name] for name in ("outputs", "center", "spread")}

    def tabulate(self, outputs: Encoded, facts: Tables) -> dict[str, pd.DataFrame]:
        """Put predictions and their intervals beside the facts of their rows."""
        given = self.bound(outputs)
        said = {
            f"{column}_{name}": array_of(given, column)[:, t].astype(np.float64)
            for t, name in enumerate(self.targets)
            for column in COLUMNS[1:]
        }
        tables = {"": facts[""].reset_index(drop=True).assign(**said)}
        return tables | {
            name: slices.drop(columns=[n for n in slices if str(n).startswith("value_")])
            for name, slices in tabulate_attention(outputs, facts).items()
        }

    def combine(self, several: Sequence[Encoded], members: Sequence[Evaluator]) -> Encoded:
        """Average predictions, the bounds of their intervals and the weights of slices."""
        members = cast(Sequence[RegressionEvaluator], members)
        given = [one.bound(said) for one, said in zip(members, several, strict=True)]
        joined = {
            name: np.mean([array_of(one, name) for one in given], axis=0)
            for name in ("pred", "low", "high")
        }
        return joined | average_attention(several)

    def join(self, members: Sequence[Evaluator]) -> RegressionEvaluator:
        """Return one that knows the level of all.

        Raises:
            MedvisionError: their intervals are of different levels.
        """
        levels = sorted({cast(RegressionEvaluator, one).level for one in members})
        if len(levels) > 1:
            raise MedvisionError(
                f"the runs give intervals of {' and '.join(f'{one:.0%}' for one in levels)}, whose "
                "mean means nothing; train them with one model.level, or take each run alone"
            )
        return RegressionEvaluator(self.target, members[0].decision)

    def fit(
        self, outputs: Encoded, truth: Encoded, rule: str,
        patients: Sequence[str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Choose how wide intervals are: as errors on val were; see `interval.fit_width`."""
        value = encoded_value(truth).astype(np.float64)
        answer = read_answer(array_of(outputs, "logits"), **self._scales())
        width = fit_width(answer, value, patients, self.level)
        return {**self.decision, "level": self.level, "width": width}

    # Predictions → scores

    def read(self, tables: Tables) -> Scored:
        """Take truth, predictions and bounds out of a table: `value`, `pred`, `low`, `high`."""
        table = tables[""]
        wanted = [f"{column}_{name}" for column in COLUMNS[:2] for name in self.targets]
        if missing := [name for name in wanted if name not in table]:
            raise collect("the predictions lack columns", missing, "Run `medvision evaluate` again")
        arrays = {column: self._take(table, column) for column in COLUMNS}
        known = ~np.isnan(arrays["value"]).all(axis=1)
        rows = table[known]
        datasets = rows["dataset"].tolist() if "dataset" in rows else [""] * len(rows)
        patients = list(zip(datasets, rows["patient"].tolist(), strict=True))
        held = {name: values[known] for name, values in arrays.items()}
        return Scored(rows, {}, held, patients, int((~known).sum()))

    def _take(self, table: pd.DataFrame, column: str) -> Floats:
        """Return a column of all targets `[N,T]`; nan where the table has none."""
        empty = pd.Series(np.nan, table.index)
        held = [table.get(f"{column}_{name}", empty).to_numpy(np.float64) for name in self.targets]
        return np.stack(held, axis=1) if held else np.empty((len(table), 0))

    def by_patient(self, scored: Scored) -> Scored | None:
        """Judge patients by all their series: the mean of their predictions, and of their truths.

        A mean has no interval: what was fitted holds a single series.
        """
        number = {patient: n for n, patient in enumerate(dict.fromkeys(scored.patients))}
        if len(number) == len(scored):
            return None
        place = np.array([number[patient] for patient in scored.patients], dtype=np.intp)
        value, pred = scored.arrays["value"], scored.arrays["pred"]
        known = ~np.isnan(value)
        means = {
            "value": _mean_by(place, len(number), value, known),
            "pred": _mean_by(place, len(number), pred, known),
        }
        first = np.unique(place, return_index=True)[1]
        none = dict.fromkeys(("low", "high"), np.full_like(means["value"], np.nan))
        return replace(scored.take(first), arrays=means | none)

    def details(self, scored: Scored) -> dict[str, Metric]:
        """Return the scores of each of several targets, in its own units."""

        def compute(scored: Scored, weights: Floats, name: str, t: int) -> Floats:
            return self.weigh(scored)[t].score(name, weights)

        if len(self.targets) < 2:
            return {}
        return {
            (full := f"{name}/{title}"): replace(
                self._metric(name), name=full, compute=partial(compute, name=name, t=t)
            )
            for t, title in enumerate(self.targets)
            for name in METRICS
        }

    def decided(self) -> dict[str, Any]:
        """Return the targets, and the interval around a prediction."""
        width = self.decision.get("width")
        found = None if width is None else dict(zip(self.targets, width, strict=True))
        return {"targets": self.targets, "interval": {"level": self.level, "widened_by": found}}

    def extras(self, scored: Scored, drawn: Mapping[str, Floats]) -> dict[str, Any]:
        """Return, where they were drawn, the scores of each target."""
        if f"mae/{self.targets[0]}" not in drawn:
            return {}
        known = ~np.isnan(scored.arrays["value"])
        return {
            "per_target": {
                title: {"n": int(known[:, t].sum())}
                | {
                    name: self.interval(full := f"{name}/{title}", [scored], drawn[full])
                    for name in METRICS
                }
                for t, title in enumerate(self.targets)
            }
        }

    def doubts(self, scored: Scored) -> Iterator[str]:
        """Yield the targets for which every sample gets nearly the same number."""
        pred, value = scored.arrays["pred"], scored.arrays["value"]
        for title, said, true in zip(self.targets, pred.T, value.T, strict=True):
            spread = np.nanstd(true) if (~np.isnan(true)).sum() > 1 else 0.0
            if spread and np.std(said) < ALIKE * spread:
                yield (
                    f"all predictions of {title} are nearly {said.mean():.4g}: the net tells "
                    "nothing apart; train longer (trainer.max_epochs) and look at its curves "
                    "before you read a score"
                )

    def confidence(self, scored: Scored) -> Floats | None:
        """Return how narrow intervals are; None where they are all as wide, or there are none."""
        from medvision.tasks.regression.cases import find_units

        width = (scored.arrays["high"] - scored.arrays["low"]) / find_units(scored)
        sureness: Floats = -width.mean(axis=1)
        told = np.isfinite(sureness).all() and len(sureness) and np.ptp(sureness) > 1e-9
        return sureness if told else None

    # Predictions → people

    def figures(self, scored: Scored) -> Iterator[tuple[str, Figure]]:
        """Yield predictions over truths, and their differences over their means."""
        from medvision.tasks.regression import figures

        if len(scored):
            yield "scatter", figures.draw_scatter(scored, self.targets, self.weigh(scored))
            yield (
                "bland_altman",
                figures.draw_bland_altman(scored, self.targets, self.weigh(scored)),
            )

    def kinds(self, scored: Scored) -> list[str]:
        """Name what each prediction is: a hit, or too high or too low."""
        from medvision.tasks.regression.cases import name_kinds

        return name_kinds(scored)

    def cases(self, scored: Scored) -> Iterator[Case]:
        """Yield the largest errors, then good predictions."""
        from medvision.tasks.regression.cases import choose_cases

        outputs = self.decision.get("outputs")
        return choose_cases(
            scored, self.targets, len(outputs) if outputs else 1,
            outputs.index(find_point(outputs)) if outputs else 0,
        )  # fmt: skip

    def phrase_case(self, facts: Mapping[str, Any]) -> str:
        from medvision.tasks.regression.cases import phrase_case

        return phrase_case(facts)

    def phrase_kind(self, kind: str) -> str:
        return f"{kind[0].upper()}{kind[1:]}"

    def phrase_choice(self, kind: str) -> str:
        return f"the {'nearest' if kind == HIT else 'furthest off'}, of different patients"

    def notes(self, metrics: Mapping[str, Any], scores: Mapping[str, Any]) -> Iterator[str]:
        from medvision.tasks.regression.tables import note_scores

        return note_scores(metrics, scores)

    def sections(self) -> Sequence[Section]:
        """Return the scores of each of several targets."""
        from medvision.tasks.regression.tables import target_table

        return (Section("targets", "Targets", target_table),)

    def sentences(self) -> dict[str, str]:
        """Return what is said of numbers and of their intervals."""
        from medvision.evaluation.report.page import read_sentences

        return read_sentences("medvision.tasks.regression/sentences.toml")


def _mean_by(place: np.ndarray, rows: int, values: Floats, known: np.ndarray) -> Floats:
    """Average values `[N,T]` of equal places over what is known: `[rows,T]`, nan where nothing."""
    sums, counts = np.zeros((2, rows, values.shape[1]))
    np.add.at(sums, place, np.where(known, values, 0))
    np.add.at(counts, place, known)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
