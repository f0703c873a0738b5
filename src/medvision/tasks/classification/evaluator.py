"""What a classifier answers: stored, calibrated, decided, scored, drawn and told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.evaluation.evaluator import (
    Case,
    Draw,
    Evaluator,
    Metric,
    Scored,
    Section,
    Tables,
    average_attention,
)
from medvision.evaluation.predictions import Schema
from medvision.stats.ranking import Floats
from medvision.stats.small_samples import Bounds, bound_mean
from medvision.target import Encoded, array_of
from medvision.tasks.classes import NOTHING, encoded_label
from medvision.tasks.classification.calibration import (
    apply_temperature,
    apply_thresholds,
    at_bound,
    choose_thresholds,
    find_rare,
    fit_temperature,
)
from medvision.tasks.classification.metrics import (
    CALIBRATED,
    METRICS,
    Kind,
    label_of,
    truth_of,
    undefined_metrics,
)
from medvision.tasks.classification.small_samples import list_parts
from medvision.tasks.classification.weighted import PER_CLASS, Threshold, WeightedScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medvision.evaluation.report.table import Table
    from medvision.stats.hypothesis_tests import Finding

ALIKE = 0.01  # probabilities nearer to each other tell nothing apart
_AT_ARGMAX = ("accuracy", "precision", "recall", "specificity", "f1")
HEADLINE = {
    "binary": ("auroc", "recall", "specificity"),
    "multiclass": ("auroc", "accuracy"),
    "multilabel": ("auroc", "recall", "specificity"),
}


class ClassificationEvaluator(Evaluator):
    """Probabilities of classes, and decisions by the likeliest class or by thresholds.

    Args:
        target: `classes` in the order of the logits, and their `kind`.
        decision: `temperature` (of an ensemble None), `rule` and `threshold`: one, one a class of
            several labels, or None where the likeliest class is decided for.
    """

    task = "classification"
    predicted = "classes"
    template = "medvision.tasks.classification/report.html"
    primary = "auroc"
    compared = ("accuracy", "balanced_accuracy", "recall", "specificity", "brier")
    pooled = ("auroc", "average_precision", "accuracy", "balanced_accuracy", "recall",
              "specificity", "f1", "brier")  # fmt: skip
    captions = {  # noqa: RUF012 -- read only
        "roc": ("ROC curve", "Sensitivity over 1 - specificity; a circle is the operating point."),
        "precision_recall": (
            "Precision and recall", "The dashed line is what chance would reach.",
        ),
        "confusion": ("Confusion matrix", "Counts, and their share of the true class."),
        "decision": (
            "Decision curve",
            "Net benefit of acting on the model from each probability on, counted in true "
            "positives, beside acting on all and on nobody, at the prevalence of this part.",
        ),
        "reliability": (
            "Reliability",
            "On the diagonal, probabilities come true as said. Points are bins of equally many, "
            "bars their 95 % intervals over patients; below, how often each was said.",
        ),
        "scores": ("Predicted probabilities", "Where each class falls, and the threshold."),
    }  # fmt: skip

    def __init__(self, target: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
        super().__init__(target, decision)
        self.classes: list[str] = list(target.get("classes", ()))
        self.kind: Kind = target.get("kind", "binary")
        self.metrics = {name: self._metric(name) for name in METRICS}
        self.headline = HEADLINE.get(self.kind, ())
        self.tests = {} if self.kind == "multilabel" else {"decisions": "accuracy"}
        probs = tuple(f"prob_{name}" for name in self.classes)
        self.tables = {
            "": Schema(("label", "pred"), ("label",), ("logit_", "prob_"), ("pred", *probs),
                       example="prob_<class>"),
            "slices": Schema(("label",), ("label",), ("attention", "prob_"), scored=False),
        }  # fmt: skip

    def _metric(self, name: str) -> Metric:
        return Metric(
            name,
            self._label(name),
            "low" if name in CALIBRATED else "high",
            lambda scored, weights: self.weigh(scored).score(name, weights),
            lambda scored: self._reasons(scored).get(name),
        )

    def _label(self, name: str) -> str:
        binary = self.kind == "binary" and len(self.classes) == 2
        return label_of(name, self.classes[1] if binary else "")

    def _reasons(self, scored: Scored) -> dict[str, str]:
        label = scored.arrays["label"]
        return scored.once("reasons", lambda: undefined_metrics(label, self.kind))

    def weigh(self, scored: Scored) -> WeightedScores:
        """Make rows ready to be scored under any weights, once."""
        given = scored.arrays
        return scored.once(
            "weighted",
            lambda: WeightedScores(given["probs"], given["label"], self.kind, preds=given["preds"]),
        )

    @property
    def question(self) -> str:
        return f"{', '.join(self.classes)} ({self.kind})"

    @property
    def averaged(self) -> str:
        cut = "" if self.threshold is None else ", cut at the mean of their thresholds"
        return f"mean of calibrated probabilities{cut}"

    def steps(self) -> list[str]:
        return [
            f"logits divided by the temperature {self.decision.get('temperature', 1.0)}",
            "sigmoid" if self.kind == "multilabel" else "softmax",
        ]

    def describe(self) -> dict[str, Any]:
        temperature = self.decision.get("temperature", 1.0)
        return {"classes": self.classes, "kind": self.kind, "temperature": temperature,
                "rule": self.decision.get("rule"), "threshold": self.threshold}  # fmt: skip

    def describe_decision(self) -> dict[str, Any]:
        by = "the likeliest class" if self.threshold is None else "the threshold"
        return {"by": by, "rule": self.decision.get("rule"), "threshold": self.threshold}

    def sum_up_predictions(self, table: pd.DataFrame, unit: str) -> Table:
        from medvision.tasks.classification.tables import decision_table

        return decision_table(table, self.classes, unit)

    @property
    def threshold(self) -> Threshold:
        threshold: Threshold = self.decision.get("threshold")
        return threshold

    # Answers → predictions

    def calibrate(self, outputs: Encoded) -> Floats:
        """Return the probabilities `[N,K]` of outputs: those of `combine`, else of logits."""
        if "probs" in outputs:
            return array_of(outputs, "probs")
        logits = array_of(outputs, "logits")
        return apply_temperature(logits, self.decision.get("temperature", 1.0), self.kind)

    def tabulate(self, outputs: Encoded, facts: Tables) -> dict[str, pd.DataFrame]:
        """Put logits, calibrated probabilities and decisions beside the facts of their rows.

        Probabilities of slices are not calibrated.
        """
        table, probs = facts[""].reset_index(drop=True), self.calibrate(outputs)
        for k, name in enumerate(self.classes if "logits" in outputs else ()):
            table[f"logit_{name}"] = array_of(outputs, "logits")[:, k].astype(np.float64)
        table = self._add_probs(table, probs)
        tables = {"": table.assign(pred=decide_labels(probs, self.classes, self.kind,
                                                      self.threshold))}  # fmt: skip
        if "slices" in facts and not {"attention", "slice_logits", "slice_probs"}.isdisjoint(
            outputs
        ):
            tables["slices"] = self._tabulate_slices(outputs, facts["slices"])
        return tables

    def _tabulate_slices(self, outputs: Encoded, facts: pd.DataFrame) -> pd.DataFrame:
        table = facts.reset_index(drop=True)
        if "attention" in outputs:
            table["attention"] = array_of(outputs, "attention").astype(np.float64)
        if (probs := self._slice_probs(outputs)) is not None:
            table = self._add_probs(table, probs)
        return table

    def _add_probs(self, table: pd.DataFrame, probs: Floats) -> pd.DataFrame:
        return table.assign(**{f"prob_{name}": probs[:, k] for k, name in enumerate(self.classes)})

    def _slice_probs(self, outputs: Encoded) -> Floats | None:
        if "slice_logits" in outputs:
            return apply_temperature(array_of(outputs, "slice_logits"), 1.0, self.kind)
        return array_of(outputs, "slice_probs") if "slice_probs" in outputs else None

    def combine(self, several: Sequence[Encoded], members: Sequence[Evaluator]) -> Encoded:
        """Average calibrated probabilities, and what all nets say of their slices."""
        members = cast(Sequence[ClassificationEvaluator], members)
        probs = [one.calibrate(said) for one, said in zip(members, several, strict=True)]
        joined = {"probs": np.mean(probs, axis=0)}
        joined |= average_attention(several)
        slices = [said for one in several if (said := self._slice_probs(one)) is not None]
        if len(slices) == len(several):
            joined["slice_probs"] = np.mean(slices, axis=0)
        return joined

    def join(self, members: Sequence[Evaluator]) -> ClassificationEvaluator:
        """Decide by the mean threshold of all.

        An ensemble of thresholds t decides as the mean of p - t over its members does, so that
        each keeps the operating point it was given; .5 would throw it away.
        """
        decisions = [one.decision for one in members]
        rules = sorted({str(decision.get("rule", "youden")) for decision in decisions})
        if len(rules) > 1 and self.kind != "multiclass":
            raise MedvisionError(
                f"the runs decide by different operating points ({', '.join(rules)}), whose mean "
                "means nothing; train them with one operating_point, or take each run alone"
            )
        cuts = [cut for one in decisions if (cut := one.get("threshold")) is not None]
        joined = {"threshold": np.mean(np.array(cuts), axis=0).tolist() if cuts else None}
        if len(members) > 1:
            joined["temperature"] = None  # each member has its own
        return ClassificationEvaluator(self.target, self.decision | joined)

    def fit(
        self, outputs: Encoded, truth: Encoded, rule: str,
        patients: Sequence[str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Fit the temperature, then choose the operating point on calibrated probabilities.

        `too_few`: class → its patients, of classes too rare for a threshold, which is then .5.
        """
        label = encoded_label(truth)
        temperature = fit_temperature(array_of(outputs, "logits"), label, self.kind)
        probs = apply_temperature(array_of(outputs, "logits"), temperature, self.kind)
        few = find_rare(label, self.kind, rule, patients)
        threshold = choose_thresholds(probs, label, self.kind, rule, few)
        decision = {"temperature": temperature, "rule": rule, "threshold": threshold}
        too_few = {self.classes[k]: n for k, n in few.items()}
        return decision | ({"too_few": too_few} if few else {})

    # Predictions → scores

    def read(self, tables: Tables) -> Scored:
        """Take labels, probabilities and decisions out of a table: `label`, `probs`, `preds`.

        Decisions are made anew at the operating point or, where it is not known, as stored.
        """
        table, classes = tables[""], self.classes
        missing = [f"prob_{name}" for name in classes if f"prob_{name}" not in table]
        if missing:
            raise collect("the predictions lack columns", missing, "Run `medvision evaluate` again")
        label = encode_labels(table["label"].tolist(), classes, self.kind)
        known = label >= 0 if label.ndim == 1 else (label >= 0).any(axis=1)
        rows = table[known]
        probs = rows[[f"prob_{name}" for name in classes]].to_numpy(dtype=np.float64)
        datasets = rows["dataset"].tolist() if "dataset" in rows else [""] * len(rows)
        patients = list(zip(datasets, rows["patient"].tolist(), strict=True))
        preds = self._decide(probs) if "threshold" in self.decision else self._read_preds(rows)
        arrays = {"probs": probs, "label": label[known], "preds": preds}
        return Scored(rows, {}, arrays, patients, int((~known).sum()))

    def _decide(self, probs: Floats) -> NDArray[np.bool_]:
        return apply_thresholds(np.clip(probs, 0, 1), self.kind, self.threshold)

    def _read_preds(self, rows: pd.DataFrame) -> NDArray[np.bool_]:
        """Read the column `pred`: "" is no class at all, which only multi-label decides."""
        decided = encode_labels(rows["pred"].tolist(), self.classes, self.kind)
        return np.asarray(truth_of(decided, self.kind, len(self.classes)) == 1)

    def by_patient(self, scored: Scored) -> Scored | None:
        """Judge patients by all their series: the mean of their probabilities.

        A patient whose series disagree in their labels is left out, and counted as unlabelled.
        """
        number = {patient: n for n, patient in enumerate(dict.fromkeys(scored.patients))}
        if len(number) == len(scored):
            return None
        place = np.array([number[patient] for patient in scored.patients], dtype=np.intp)
        probs, label = np.zeros((len(number), len(self.classes))), scored.arrays["label"]
        np.add.at(probs, place, scored.arrays["probs"])
        probs /= np.bincount(place, minlength=len(number))[:, None]
        first = np.unique(place, return_index=True)[1]
        differs = (label != label[first][place]).reshape(len(place), -1).any(axis=1)
        agree = np.bincount(place, differs, minlength=len(number)) == 0
        joined = scored.take(first[agree])
        means = {"probs": probs[agree], "preds": self._decide(probs[agree])}
        return replace(joined, arrays=joined.arrays | means, left_out=int((~agree).sum()))

    def count(self, scored: Scored, unit: str) -> dict[str, Any]:
        """Count what is scored, its patients and each class."""
        truth = truth_of(scored.arrays["label"], self.kind, len(self.classes))
        per_class = dict(zip(self.classes, (truth == 1).sum(axis=0).tolist(), strict=True))
        each = [len(np.unique(scored.place[own == 1])) for own in truth.T]
        patients_per_class = dict(zip(self.classes, each, strict=True))
        order = {unit: 0, "patients": 0, "per_class": per_class}
        order["patients_per_class"] = patients_per_class
        return order | super().count(scored, unit)

    def counted(self, n: Mapping[str, Any], scores: Sequence[str]) -> dict[str, int]:
        """Choose the positive class of two, if a score looks at it alone."""
        per_class = dict(n["per_class"])
        alone = len(per_class) == 2 and "recall" in scores
        return dict(list(per_class.items())[1:]) if alone else {}

    def sum_up(self, name: str, scored: Scored, drawn: Floats) -> dict[str, Any]:
        """Write a score with its interval; of a mean over classes how many define it."""
        over = {}
        if self.kind != "binary" and name in PER_CLASS:
            over["classes"] = self._count_classes(scored)[name]
        return super().sum_up(name, scored, drawn) | over

    def bound_score(self, name: str, scored: Scored, drawn: Floats) -> Bounds | None:
        """Return bounds of shares, of areas, and of means of them; other scores have none."""
        parts = list_parts(name, self.weigh(scored), scored.place, self.classes)
        return bound_mean(parts, drawn[1:]) if parts else None

    def _count_classes(self, scored: Scored) -> dict[str, int]:
        def count() -> dict[str, int]:
            once, weighted = np.ones((1, len(scored))), self.weigh(scored)
            scores = {name: weighted.score_classes(name, once) for name in PER_CLASS}
            return {name: int((~np.isnan(found)).sum()) for name, found in scores.items()}

        return scored.once("classes", count)

    def details(self, scored: Scored) -> dict[str, Metric]:
        """Return the scores of each class against the rest, and of two classes the NPV."""

        def score(scored: Scored, weights: Floats, name: str, k: int) -> Floats:
            return self.weigh(scored).score_classes(name, weights)[:, k]

        alone = {"npv": self._metric("npv")} if self.kind == "binary" else {}
        return alone | {
            (full := f"{name}/{title}"): replace(
                self.metrics[name], name=full, compute=partial(score, name=name, k=k)
            )
            for k, title in enumerate(self.classes)
            for name in PER_CLASS
        }

    def beside(
        self, part: str, scored: Scored, scores: Mapping[str, Any], draw: Draw
    ) -> dict[str, Any]:
        """Return the scores of test decided by the likeliest class, or at .5."""
        if part != "test":
            return {}
        plain = apply_thresholds(np.clip(scored.arrays["probs"], 0, 1), self.kind)
        other = replace(scored, arrays=scored.arrays | {"preds": plain})
        drawn = draw({name: self.metrics[name] for name in _AT_ARGMAX}, other)
        found = {name: self.sum_up(name, other, values) for name, values in drawn.items()}
        return {"test_argmax": {"auroc": scores["auroc"]} | found}

    def decided(self) -> dict[str, Any]:
        """Return operating point and temperature."""
        cut = self.threshold
        shown = None if cut is None else np.asarray(cut, dtype=np.float64).tolist()
        rule = "argmax" if self.kind == "multiclass" else self.decision["rule"]
        point = {"rule": rule, "threshold": shown}
        point |= {name: held for name, held in self.decision.items() if name == "too_few"}
        return {"operating_point": point, "temperature": self.decision.get("temperature", 1.0)}

    def extras(self, scored: Scored, drawn: Mapping[str, Floats]) -> dict[str, Any]:
        """Return counts of decisions and, where they were drawn, the scores of each class."""
        found: dict[str, Any] = {"confusion": self.confuse(scored)}
        if "npv" in drawn:
            found["predictive_values"] = self._predict_values(scored, drawn)
        if f"{PER_CLASS[0]}/{self.classes[0]}" in drawn:
            n = (self.weigh(scored).truth == 1).sum(axis=0)
            found["per_class"] = {
                title: {"n": int(n[k])}
                | {
                    name: self.interval(full := f"{name}/{title}", [scored], drawn[full])
                    for name in PER_CLASS
                }
                for k, title in enumerate(self.classes)
            }
        return found

    def _predict_values(self, scored: Scored, drawn: Mapping[str, Floats]) -> dict[str, Any]:
        """Return PPV and NPV, which hold where the positive class is as frequent as here."""
        share = float((scored.arrays["label"] == 1).mean()) if len(scored) else None
        names = {"ppv": "precision", "npv": "npv"}
        values = {k: self.interval(name, [scored], drawn[name]) for k, name in names.items()}
        return {"prevalence": share} | values

    def doubts(self, scored: Scored) -> Iterator[str]:
        """Yield that all is told or decided alike, or that the temperature found no end."""
        probs, weighted = scored.arrays["probs"], self.weigh(scored)
        if len(scored) < 2 or not weighted.finite:
            return
        if np.ptp(probs, axis=0).max() < ALIKE:
            low, high = probs[:, -1].min(), probs[:, -1].max()
            yield (
                f"all probabilities of {self.classes[-1]} lie between {low:.4f} and {high:.4f}: "
                "the net tells nothing apart; train longer (trainer.max_epochs) and look at its "
                "curves before you read a score"
            )
        decided, true = weighted.preds.any(axis=0), (weighted.truth == 1).any(axis=0)
        if self.kind != "multilabel" and decided.sum() == 1 < true.sum():
            yield (
                f"every image is decided as {self.classes[int(decided.argmax())]}: accuracy is the "
                "share of that class; look at the threshold, and give val more patients"
            )
        if (temperature := self.decision.get("temperature")) and at_bound(temperature):
            yield (
                f"the temperature is {temperature:.3g}, the end of its range: the probabilities "
                "are not calibrated; val is too small, or the net has learned nothing"
            )

    def confuse(self, scored: Scored) -> Any:
        """Count decisions, rows true and columns predicted; multi-label: 2 x 2 for each class."""
        once = np.ones((1, len(scored)))
        counts = self.weigh(scored).confusion(once)[0].astype(int).tolist()
        several = self.kind == "multilabel"
        return dict(zip(self.classes, counts, strict=True)) if several else counts

    def exact_test(self, name: str, a: Sequence[Scored], b: Sequence[Scored]) -> Finding | None:
        """Test AUROCs by DeLong where a patient has one row and an arm one training.

        `decisions` are tested by McNemar, with the rows (a mean over trainings) that one arm alone
        had right.
        """
        from medvision.stats.hypothesis_tests import compare_areas, compare_decisions

        if name == "decisions":
            first, second = (np.array([self._hits(one) for one in arm]) for arm in (a, b))
            gains = (second.astype(np.float64) - first).mean(axis=0)
            counts = {"only_first": first & ~second, "only_second": second & ~first}
            found = {side: float(rows.sum(axis=1).mean()) for side, rows in counts.items()}
            return compare_decisions(gains, a[0].patients)._replace(counts=found)
        single = len(set(a[0].patients)) == len(a[0]) and len(a) == 1
        if name == "auroc" and self.kind == "binary" and single:
            first, second = (arm[0].arrays["probs"][:, 1] for arm in (a, b))
            return compare_areas(a[0].arrays["label"], first, second)
        return None

    def _hits(self, scored: Scored) -> NDArray[np.bool_]:
        truth = truth_of(scored.arrays["label"], self.kind, len(self.classes)) == 1
        return np.asarray((scored.arrays["preds"] & truth).any(axis=1))

    def confidence(self, scored: Scored) -> Floats:
        """Return the probability of what was decided, or of several labels of the likeliest."""
        from medvision.tasks.classification.cases import choose_targets

        targets = choose_targets(scored, self.classes)
        sureness: Floats = scored.arrays["probs"][np.arange(len(scored)), targets]
        return sureness

    # Predictions → people

    def figures(self, scored: Scored) -> Iterator[tuple[str, Figure]]:
        """Yield confusion, scores, ROC, precision-recall, reliability and the decision curve."""
        from medvision.evaluation.figures.confusion import draw_confusion
        from medvision.tasks.classification import curves, figures
        from medvision.tasks.classification.bands import draw_bands

        counts = self.confuse(scored)
        counts = list(counts.values()) if isinstance(counts, Mapping) else counts
        yield "confusion", draw_confusion(counts, self.classes)
        if not len(scored):
            return
        probs, label, point = scored.arrays["probs"], scored.arrays["label"], self.threshold
        bands: dict[str, Any] = {}
        if self.kind == "binary":
            bands = draw_bands(probs[:, 1], label, scored.patients, scored.contents)
            cut = None if point is None else float(np.squeeze(point))
            yield "scores", figures.draw_scores(probs[:, 1], label, cut)
            yield "decision", figures.draw_decision(probs[:, 1], label, cut, bands["decision"])
        shared = (probs, label, self.classes, self.kind)
        yield "roc", curves.draw_roc(*shared, band=bands.get("roc"), operating_point=point)
        yield (
            "precision_recall",
            curves.draw_precision_recall(*shared, band=bands.get("pr"), operating_point=point),
        )
        yield "reliability", figures.draw_reliability(probs, label, self.kind, scored.place)

    def kinds(self, scored: Scored) -> list[str]:
        """Name what each prediction is: a hit, or which kind of miss."""
        from medvision.tasks.classification.cases import name_kind

        pairs = zip(scored.table["label"], scored.table["pred"], strict=True)
        return [name_kind(label, pred, self.classes, self.kind) for label, pred in pairs]

    def cases(self, scored: Scored) -> Iterator[Case]:
        """Yield the surest misses, then hits."""
        from medvision.tasks.classification.cases import choose_cases, choose_targets

        targets = choose_targets(scored, self.classes)
        sureness = self.confidence(scored)
        yield from choose_cases(scored, self.kinds(scored), targets, sureness, self.classes)

    def phrase_case(self, facts: Mapping[str, Any]) -> str:
        from medvision.tasks.classification.cases import phrase_case

        return phrase_case(facts)

    def phrase_kind(self, kind: str) -> str:
        from medvision.tasks.classification.cases import phrase_kind

        return phrase_kind(kind)

    def columns(self, metrics: Mapping[str, Any]) -> dict[str, str]:
        from medvision.tasks.classification.tables import name_columns

        return name_columns(metrics)

    def notes(self, metrics: Mapping[str, Any], scores: Mapping[str, Any]) -> Iterator[str]:
        from medvision.tasks.classification.tables import note_scores

        return note_scores(metrics, scores)

    def sections(self) -> Sequence[Section]:
        """Return the scores of each class, and what was decided and what that means."""
        from medvision.tasks.classification.tables import (
            class_table,
            confusion_table,
            predictive_table,
        )

        return (
            Section("classes", "Classes", class_table),
            Section("confusion", "Decisions", confusion_table),
            Section("predictive", "Predictive values", predictive_table),
        )

    def sentences(self) -> dict[str, str]:
        """Return what is said of classes, decisions and how these were fitted."""
        from medvision.evaluation.report.page import read_sentences

        return read_sentences("medvision.tasks.classification/sentences.toml")


def encode_labels(labels: Sequence[str], classes: Sequence[str], kind: Kind) -> NDArray[np.int64]:
    """Turn class names into `[N]` indices, or `[N,K]` of 0 and 1 if multi-label; "" is -1.

    Raises:
        MedvisionError: names that are not among the classes.
    """
    number = {name: k for k, name in enumerate(classes)}
    texts = [str(text) for text in labels]
    names = [text.split("|") if kind == "multilabel" else [text] for text in texts]
    used = {name for text, some in zip(texts, names, strict=True) if text for name in some}
    used -= {NOTHING} if kind == "multilabel" else set()
    unknown = sorted(used - set(classes))
    if unknown:
        problems = [f"{name!r}{did_you_mean(name, classes)}" for name in unknown]
        way_out = f"The classes are {', '.join(classes)}; rename with data.rename"
        raise collect("unknown labels in the predictions", problems, way_out)
    if kind != "multilabel":
        return np.array([number.get(text, -1) for text in texts], dtype=np.int64)
    rows = [
        [int(c in some) if t else -1 for c in classes] for t, some in zip(texts, names, strict=True)
    ]
    return np.array(rows, dtype=np.int64).reshape(len(texts), len(classes))


def decide_labels(
    probs: Floats, classes: Sequence[str], kind: Kind, threshold: Threshold = None
) -> list[str]:
    """Write decisions at the operating point as the column `pred` does: names, joined by `|`."""
    return ["|".join(np.array(classes)[row]) for row in apply_thresholds(probs, kind, threshold)]
