"""What a model of grades answers: probabilities, decided by the median, scored, drawn and told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medvision.errors import collect
from medvision.evaluation.evaluator import (
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
from medvision.tasks.regression.ordinal.metrics import (
    LABELS,
    METRICS,
    confuse,
    decide,
    find_reasons,
    read_answer,
    score_counts,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


RULE = "the median: the lowest grade that a case is not likelier above"


class OrdinalEvaluator(Evaluator):
    """Probabilities of grades; decided is their median.

    Args:
        target: `classes`, from the lowest grade to the highest.
        decision: {}: nothing is fitted.
    """

    task = "regression.ordinal"
    predicted = "grades"
    template = "medvision.tasks.regression.ordinal/report.html"
    primary = "kappa"
    headline = ("kappa", "within_one")
    compared = ("within_one", "accuracy", "mae")
    pooled = METRICS
    captions = {  # noqa: RUF012 -- read only
        "confusion": (
            "True and decided grades", "Counts, and their share of the true grade.",
        ),
        "cases": (
            "The furthest misses, then hits",
            "Above, the true grade; below, the decision with its probability, and what raised it.",
        ),
        "gallery": (
            "The furthest misses, beside hits",
            "What was decided, with its probability, and Grad-CAM beside or below the image: what "
            "spoke for a grade above the decided one. Heat shows where a net looked, not why.",
        ),
    }  # fmt: skip

    def __init__(self, target: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
        super().__init__(target, decision)
        self.grades: list[str] = list(target.get("classes", ()))
        self.metrics = {name: self._metric(name) for name in METRICS}
        probs = tuple(f"prob_{name}" for name in self.grades)
        self.tables = {
            "": Schema(("label", "pred"), ("label",), ("prob_",), ("pred", *probs),
                       example="prob_<grade>"),
            "slices": Schema(("label",), numbers=("attention",), scored=False),
        }  # fmt: skip

    def _metric(self, name: str) -> Metric:
        return Metric(
            name,
            LABELS.get(name, name),
            "low" if name == "mae" else "high",
            lambda scored, weights: score_counts(name, self._confuse(scored, weights)),
            lambda scored: find_reasons(scored.arrays["label"]).get(name),
        )

    def _confuse(self, scored: Scored, weights: Floats) -> Floats:
        label, preds = scored.arrays["label"], scored.arrays["preds"]
        return confuse(weights, label, preds, len(self.grades))

    @property
    def question(self) -> str:
        return f"{' < '.join(self.grades)}"

    @property
    def averaged(self) -> str:
        return "mean of their probabilities"

    def steps(self) -> list[str]:
        return ["cumulative logits: each below the last", "sigmoid", "differences: probabilities"]

    def describe_decision(self) -> dict[str, Any]:
        return {"by": RULE}

    # Answers → predictions

    def _probs(self, outputs: Encoded) -> Floats:
        if "probs" in outputs:
            return array_of(outputs, "probs")
        return read_answer(array_of(outputs, "logits"))

    def tabulate(self, outputs: Encoded, facts: Tables) -> dict[str, pd.DataFrame]:
        """Put probabilities and decisions beside the facts of their rows."""
        probs = self._probs(outputs)
        said = {f"prob_{name}": probs[:, k] for k, name in enumerate(self.grades)}
        names = np.array(self.grades, dtype=object)[decide(probs)]
        table = facts[""].reset_index(drop=True).assign(**said, pred=names)
        return {"": table} | tabulate_attention(outputs, facts)

    def combine(self, several: Sequence[Encoded], members: Sequence[Evaluator]) -> Encoded:
        """Average probabilities, and the weights of slices."""
        joined = {"probs": np.mean([self._probs(outputs) for outputs in several], axis=0)}
        return joined | average_attention(several)

    def join(self, members: Sequence[Evaluator]) -> OrdinalEvaluator:
        return OrdinalEvaluator(self.target, {})

    def fit(
        self, outputs: Encoded, truth: Encoded, rule: str,
        patients: Sequence[str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Fit nothing: a median needs no threshold."""
        return {}

    # Predictions → scores

    def read(self, tables: Tables) -> Scored:
        """Take grades and probabilities out of a table, and decide anew: `label`, `probs`, `preds`.

        Raises:
            MedvisionError: a column is missing, or a label is no grade.
        """
        table, number = tables[""], {name: k for k, name in enumerate(self.grades)}
        columns = [f"prob_{name}" for name in self.grades]
        if missing := [name for name in columns if name not in table]:
            raise collect("the predictions lack columns", missing, "Run `medvision evaluate` again")
        told = [str(text) for text in table["label"]]
        if unknown := sorted({text for text in told if text} - number.keys()):
            raise collect(
                "unknown labels in the predictions", [repr(text) for text in unknown],
                f"The grades are {', '.join(self.grades)}; rename with data.rename",
            )  # fmt: skip
        label = np.array([number.get(text, -1) for text in told], dtype=np.int64)
        rows, probs = table[label >= 0], table[columns].to_numpy(np.float64)[label >= 0]
        datasets = rows["dataset"].tolist() if "dataset" in rows else [""] * len(rows)
        patients = list(zip(datasets, rows["patient"].tolist(), strict=True))
        arrays = {"label": label[label >= 0], "probs": probs, "preds": decide(probs)}
        return Scored(rows, {}, arrays, patients, int((label < 0).sum()))

    def by_patient(self, scored: Scored) -> Scored | None:
        """Judge patients by all their series: the mean of their probabilities.

        A patient whose series disagree in their grades is left out.
        """
        number = {patient: n for n, patient in enumerate(dict.fromkeys(scored.patients))}
        if len(number) == len(scored):
            return None
        place = np.array([number[patient] for patient in scored.patients], dtype=np.intp)
        label, sums = scored.arrays["label"], np.zeros((len(number), len(self.grades)))
        np.add.at(sums, place, scored.arrays["probs"])
        probs = sums / np.bincount(place)[:, None]
        first = np.unique(place, return_index=True)[1]
        agree = np.bincount(place, label != label[first][place]) == 0
        joined = scored.take(first[agree])
        means = {"probs": probs[agree], "preds": decide(probs[agree])}
        return replace(joined, arrays=joined.arrays | means, left_out=int((~agree).sum()))

    def count(self, scored: Scored, unit: str) -> dict[str, Any]:
        """Count what is scored, its patients and each grade."""
        held = np.bincount(scored.arrays["label"], minlength=len(self.grades))
        per_class = dict(zip(self.grades, held.tolist(), strict=True))
        order = {unit: 0, "patients": 0, "per_class": per_class}
        return order | super().count(scored, unit)

    def decided(self) -> dict[str, Any]:
        return {"grades": self.grades, "rule": RULE}

    def extras(self, scored: Scored, drawn: Mapping[str, Floats]) -> dict[str, Any]:
        """Return counts of decisions, rows true and columns decided."""
        counts = self._confuse(scored, np.ones((1, len(scored))))[0]
        return {"confusion": counts.astype(int).tolist()}

    def confidence(self, scored: Scored) -> Floats:
        """Return the probability of the decided grade."""
        sureness: Floats = scored.arrays["probs"][np.arange(len(scored)), scored.arrays["preds"]]
        return sureness

    # Predictions → people

    def figures(self, scored: Scored) -> Iterator[tuple[str, Figure]]:
        """Yield counts of decisions."""
        from medvision.evaluation.figures.confusion import draw_confusion

        yield "confusion", draw_confusion(self.extras(scored, {})["confusion"], self.grades)

    def kinds(self, scored: Scored) -> list[str]:
        from medvision.tasks.regression.ordinal.cases import name_kinds

        return name_kinds(scored)

    def cases(self, scored: Scored) -> Iterator[Case]:
        """Yield the furthest misses, then hits."""
        from medvision.tasks.regression.ordinal.cases import choose_cases

        return choose_cases(scored, self.grades)

    def phrase_case(self, facts: Mapping[str, Any]) -> str:
        from medvision.tasks.regression.ordinal.cases import phrase_case

        return phrase_case(facts)

    def sections(self) -> Sequence[Section]:
        """Return the counts of decisions."""
        from medvision.tasks.regression.ordinal.tables import confusion_table

        return (Section("confusion", "Decisions", confusion_table),)

    def sentences(self) -> dict[str, str]:
        """Return what is said of grades."""
        from medvision.evaluation.report.page import read_sentences

        return read_sentences("medvision.tasks.regression.ordinal/sentences.toml")
