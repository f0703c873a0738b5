"""What turns answers of a net into predictions, and predictions into scores, figures and words.

Each task has an `Evaluator`; all that is shared (intervals over patients, subgroups, comparisons,
folds put together, rankings, reports) knows this page alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

import medvision.trust.integrity as integrity
from medvision.errors import MedvisionError, did_you_mean
from medvision.stats.bootstrap import Interval, drop_point, interval, number, widen_level
from medvision.stats.ranking import Floats
from medvision.stats.small_samples import Bounds
from medvision.target import TASKS, array_of, find_folder, list_tasks
from medvision.trust.names import refuse_foreign_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from rich.console import Console

    from medvision.evaluation.predictions import Schema
    from medvision.evaluation.report.run_files import RunFiles
    from medvision.evaluation.report.table import Table
    from medvision.stats.hypothesis_tests import Finding
    from medvision.target import Encoded

T = TypeVar("T")
Tables = Mapping[str, "pd.DataFrame"]  # "" has a row a sample; nested ones, by name, several
Pixels = NDArray[np.uint8]  # [V,H,W,C], C is 1 or 3
HIT = "hit"  # the kind of a case that was decided rightly


@dataclass(frozen=True, eq=False)
class Scored:
    """Predictions of one part that can be scored: rows whose truth is known.

    Attributes:
        table: a row a sample; its index says where the row stands in the table as stored.
        nested: what a sample has several of; their column `row` counts the rows of `table` from 0.
        arrays: `[N,…]`, what metrics use again and again.
        patients: `[N]` of (dataset, patient).
        left_out: the number of rows whose truth is not known.
    """

    table: pd.DataFrame
    nested: dict[str, pd.DataFrame]
    arrays: dict[str, NDArray[Any]]
    patients: list[tuple[str, str]]
    left_out: int = 0
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def size(self) -> int:
        """The numbers that are scored: rows, times classes where there are several."""
        return max([len(self), *(array.size for array in self.arrays.values())])

    @property
    def place(self) -> NDArray[np.intp]:
        """The number of the patient of each row `[N]`."""
        return self.once("place", lambda: number(self.patients)[1])

    @property
    def contents(self) -> list[bytes]:
        """Return what is true and predicted of each row `[N]`: neither whose it is nor its place.

        The numbers of `arrays`, then a hash of those of its nested rows, whatever their order.
        """
        return self.once("contents", self._write_contents)

    def _write_contents(self) -> list[bytes]:
        from pandas.util import hash_pandas_object

        flat = (a.reshape(len(self), math.prod(a.shape[1:])) for a in self.arrays.values())
        parts = [a.astype(a.dtype.newbyteorder(">")) for a in flat]  # bytes that sort as numbers
        for rows in self.nested.values():
            numbers = rows.select_dtypes("number").drop(columns="row")
            hashed = hash_pandas_object(numbers, index=False).to_numpy()
            sums = np.zeros(len(self), dtype=np.uint64)
            np.add.at(sums, rows["row"].to_numpy(), hashed)
            parts.append(sums[:, None])
        return [b"".join(part[row].tobytes() for part in parts) for row in range(len(self))]

    def take(self, chosen: NDArray[Any]) -> Scored:
        """Return some of the rows: those a mask `[N]` keeps, or those of these places, in order."""
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        number = np.full(len(self), -1)
        number[places] = np.arange(len(places))
        nested = {name: rows.assign(row=number[rows["row"]]) for name, rows in self.nested.items()}
        return replace(
            self,
            table=self.table.iloc[places],
            nested={name: rows[rows["row"] >= 0] for name, rows in nested.items()},
            arrays={name: array[places] for name, array in self.arrays.items()},
            patients=[self.patients[place] for place in places],
            left_out=0,
        )

    def once(self, what: str, make: Callable[[], T]) -> T:
        """Return what `make` answers, asked once: metrics share what costs time."""
        if what not in self._made:
            self._made[what] = make()
        made: T = self._made[what]
        return made


@dataclass(frozen=True)
class Metric:
    """One score of predictions.

    Attributes:
        label: what a reader knows it by.
        better: which way; there is no default, so that nothing is maximised by accident. None:
            best near a value of its own, as a bias is at 0: it is told, and ranks nothing.
        compute: weights of rows `[R,N]` → `[R]`, nan where undefined; a mean over classes
            is so where weights leave one out.
        needs: the reason why these rows leave it undefined, whatever was predicted; None if none.
    """

    name: str
    label: str
    better: Literal["high", "low"] | None
    compute: Callable[[Scored, Floats], Floats]
    needs: Callable[[Scored], str | None]


@dataclass(frozen=True)
class Case:
    """A sample worth looking at.

    Attributes:
        row: its place in `Scored.table`.
        kind: `HIT`, or a kind of miss.
        truth, said, text: what is true, what was decided, and both in one line.
        facts: what is written down beside its picture.
        target: the output that a heat map speaks for; None where that means nothing.
        curve: column of the nested table `slices` that is drawn over a series, and its name.
    """

    row: int
    kind: str
    truth: str
    said: str
    text: str
    facts: dict[str, Any]
    target: int | None = None
    curve: tuple[str, str] = ("", "")

    @property
    def hit(self) -> bool:
        return self.kind == HIT


@dataclass(frozen=True)
class Section:
    """A section of the report that only this task has.

    Attributes:
        id: its anchor, and the name its content has in the evaluator's template.
        title: in the list of contents.
        show: what it shows; empty where the run has nothing of it.
    """

    id: str
    title: str
    show: Callable[[RunFiles], Any]


class Evaluator(ABC):
    """What a task knows of its predictions.

    Args:
        target: what the annotations of a run mean, as plain values; {} names metrics all the same.
        decision: what was fitted on val and frozen, as plain values; {}: decisions are as stored.

    Attributes:
        task: the name it is opened by.
        metrics: name → metric, in the order of tables.
        primary: the metric of places that hold one.
        headline: those of subgroups; `compared` beside a tested one, `pooled` over folds.
        tests: name of a further exact test → the metric beside which it is shown.
        tables: "" and, of what a sample has several of, names → columns; {}: nothing is predicted.
        predicted: what two runs must have in common to be compared.
        opens_test: whether a run of this task is scored on its test part at all.
        figures_first: what is drawn stands before what is scored.
        template: the page of its sections, as `package/file`; "" = none.
        captions: kind of a figure → title and text, in the order of the report; one of those
            that any task may have (`gallery.CAPTIONS`) takes its place.
    """

    task: str
    predicted: ClassVar[str] = "values"
    opens_test: ClassVar[bool] = True
    figures_first: ClassVar[bool] = False
    template: ClassVar[str] = ""
    captions: ClassVar[Mapping[str, tuple[str, str]]] = {}
    metrics: Mapping[str, Metric]
    primary: str
    headline: Sequence[str] = ()
    compared: Sequence[str] = ()
    pooled: Sequence[str] = ()
    tests: Mapping[str, str] = {}
    tables: Mapping[str, Schema]

    def __init__(self, target: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
        self.target, self.decision = dict(target), dict(decision)

    @property
    def question(self) -> str:
        """What is predicted, in words: equal for runs that may be compared or averaged."""
        return self.task

    @property
    def averaged(self) -> str:
        """How several models decide together, in words."""
        return "mean of their predictions"

    def steps(self) -> list[str]:
        """Say in order how the answers of a net become predictions."""
        return []

    def describe(self) -> dict[str, Any]:
        """Return what of the target and the decision explains a prediction, as plain values."""
        return {"target": self.target, "decision": self.decision}

    def describe_decision(self) -> dict[str, Any]:
        """Return how predictions are decided: `by`, in words, and what was fixed for it."""
        return {"by": "the answer of the net", **self.decision}

    def label(self, name: str) -> str:
        """Return what a reader knows a score by, also one that is no metric of this task."""
        return self.metrics[name].label if name in self.metrics else name.replace("_", " ")

    # Answers → predictions

    @abstractmethod
    def tabulate(self, outputs: Encoded, facts: Tables) -> dict[str, pd.DataFrame]:
        """Put predictions beside the facts of their samples, and of what these have several of.

        Args:
            outputs: of a net, or of `combine`: an entry of one row a sample, or of several
                (`Ragged`).
            facts: `""`, a row a sample; nested tables that nothing is predicted for are left out.
        """

    def combine(self, several: Sequence[Encoded], members: Sequence[Evaluator]) -> Encoded:
        """Average the outputs of several nets, each under the decision of its own evaluator.

        Those of one are to be put into the table of new inputs.
        """
        (alone,) = several
        return alone

    def join(self, members: Sequence[Evaluator]) -> Evaluator:
        """Return the evaluator that decides for all members.

        Raises:
            MedvisionError: their decisions have no mean.
        """
        if len(members) > 1:
            raise MedvisionError(
                f"predictions of {self.task} have no mean; take each run alone, with run=RUN"
            )
        return members[0]

    @abstractmethod
    def fit(
        self, outputs: Encoded, truth: Encoded, rule: str,
        patients: Sequence[str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Fit the decision on the val part: `decision` of an evaluator, as plain values.

        Args:
            outputs: of a net, a row a sample.
            truth: what the target encodes of the same samples; rows may be unknown.
            rule: as the user chose one; what it may be is the task's own.
            patients: of the rows; None: each is somebody's own.
        """

    def sum_up_predictions(self, table: pd.DataFrame, unit: str) -> Table:
        """Sum up what was predicted for new inputs, whose truth nobody knows.

        Args:
            table: as `tabulate` makes it; of inputs that could be read.
            unit: what a row is: images, series.
        """
        from medvision.evaluation.report.table import Table

        names = [name for name in table if name.startswith(self.tables[""].numbers)]
        numbers = table[names].dropna(axis=1, how="all")
        rows = [
            [name, *(f"{value:.4g}" for value in (held.mean(), held.min(), held.max()))]
            for name, held in numbers.items()
        ]
        return Table(["predicted", "mean", "least", "most"], rows)

    def write(self, outputs: Encoded, facts: Tables, folder: Path) -> Iterator[Path]:
        """Write the files of a prediction that fit into no table."""
        return iter(())

    # Predictions → scores

    @abstractmethod
    def read(self, tables: Tables) -> Scored:
        """Make stored predictions ready to be scored; rows whose truth is unknown are left out.

        Raises:
            MedvisionError: a column is missing, or a cell means nothing.
        """

    def by_patient(self, scored: Scored) -> Scored | None:
        """Join the samples of each patient; None where each has one, or they cannot be joined."""
        return None

    def count(self, scored: Scored, unit: str) -> dict[str, Any]:
        """Count what is scored: samples, patients, and rows that were left out if there are any."""
        counts: dict[str, Any] = {unit: len(scored), "patients": len(set(scored.patients))}
        return counts | ({"unlabelled": scored.left_out} if scored.left_out else {})

    def counted(self, n: Mapping[str, Any], scores: Sequence[str]) -> dict[str, int]:
        """Choose from what `count` gave the numbers that stand beside the scores of a subgroup."""
        return {}

    def sum_up(self, name: str, scored: Scored, drawn: Floats) -> dict[str, Any]:
        """Write the draws `[1+R]` of a metric as `value`, `low`, `high`, and what belongs to it."""
        return dict(self.interval(name, [scored], drawn))

    def interval(self, name: str, repeats: Sequence[Scored], drawn: Floats) -> Interval:
        """Return the 95 % interval over patients of a metric's mean over repeats.

        It has no ends where nothing can be told on so few: where no resample differs.

        Args:
            name: of the metric, or of one of `details`.
            repeats: predictions of the same rows.
            drawn: `[1+R]`, the mean on the data and on resamples.
        """
        bounds = (
            [] if np.isnan(drawn[0]) else [self.bound_score(name, one, drawn) for one in repeats]
        )
        if known := [pair for pair in bounds if pair is not None]:
            return interval(drawn, bounds=known)
        level = widen_level(len(set(repeats[0].patients))) if repeats else 0.95
        return drop_point(interval(drawn, level))

    def bound_score(self, name: str, scored: Scored, drawn: Floats) -> Bounds | None:
        """Return bounds of a metric that hold on few patients; None where there are none."""
        return None

    def details(self, scored: Scored) -> Mapping[str, Metric]:
        """Return the scores of each class or structure; `extras` writes them down."""
        return {}

    def beside(
        self, part: str, scored: Scored, scores: Mapping[str, Any], draw: Draw
    ) -> dict[str, Any]:
        """Return what `metrics.json` holds beside the scores of a part, such as other decisions."""
        return {}

    def decided(self) -> dict[str, Any]:
        """Return what `metrics.json` says of the decision."""
        return {}

    def extras(self, scored: Scored, drawn: Mapping[str, Floats]) -> dict[str, Any]:
        """Return what else `metrics.json` says of a part, such as counts of decisions.

        Args:
            scored: the part.
            drawn: of its metrics and, of the first part, `details`: name → `[1+R]`.
        """
        return {}

    def doubts(self, scored: Scored) -> Iterator[str]:
        """Yield why scores of these predictions prove nothing, each with what to do."""
        return iter(())

    def exact_test(self, name: str, a: Sequence[Scored], b: Sequence[Scored]) -> Finding | None:
        """Test the difference of two arms where more is known than a bootstrap needs.

        Args:
            name: a metric, or one of `tests`.
            a: the trainings of the first arm, of the same rows in the same order as `b`.
            b: those of the second.

        Returns:
            None: the paired patient bootstrap is all there is.
        """
        return None

    def confidence(self, scored: Scored) -> Floats | None:
        """Return how sure each prediction is `[N]`, higher is surer; None if nothing says it."""
        return None

    # Predictions → people

    def figures(self, scored: Scored) -> Iterator[tuple[str, Figure]]:
        """Yield name and figure of what is drawn of a part."""
        return iter(())

    def kinds(self, scored: Scored) -> list[str]:
        """Name what each prediction is: `HIT`, or which kind of miss."""
        return []

    def cases(self, scored: Scored) -> Iterator[Case]:
        """Yield the samples worth looking at, misses first."""
        return iter(())

    def draw(self, case: Case, image: Pixels, outputs: Encoded) -> Sequence[Pixels]:
        """Return rows of pictures of a case: its image, and what was found in it.

        Args:
            case: whose.
            image: `[V,H,W,C]`, of an image V is 1.
            outputs: what was answered, and `heat` `[V,H,W]`, what spoke for it, if there is any.
        """
        from medvision.evaluation.figures.series import overlay

        if "heat" not in outputs:
            return [image]
        heat = array_of(outputs, "heat")
        return [image, overlay(image, heat, heat.max())]

    def phrase_case(self, facts: Mapping[str, Any]) -> str:
        """Say of a case in one line what its facts hold."""
        return ""

    def phrase_kind(self, kind: str) -> str:
        """Head the cases of one kind of miss."""
        return kind

    def phrase_choice(self, kind: str) -> str:
        """Say which cases of a kind are shown where there are more."""
        return "the surest, of different patients"

    def columns(self, metrics: Mapping[str, Any]) -> dict[str, str]:
        """Return the columns of the table of scores: key of `metrics.json` → heading."""
        return dict(COLUMNS)

    def notes(self, metrics: Mapping[str, Any], scores: Mapping[str, Any]) -> Iterator[str]:
        """Yield what a reader of the scores must know; `scores` are those of the columns shown."""
        return iter(())

    def print_scores(self, metrics: Mapping[str, Any], console: Console) -> bool:
        """Print what stands in place of a table of scores; False where the table is what is due."""
        return False

    def sections(self) -> Sequence[Section]:
        """Return the sections of the report between scores and figures."""
        return ()

    def sentences(self) -> Mapping[str, str]:
        """Return what only this task can say of a run: name → template, as `Sentences` fills it.

        Such are `result`, `decision` (what was fitted on val) and `limits_of_decision`; each takes
        the place of the sentence of that name in the templates of the report.
        """
        return {}


Draw = Callable[[Mapping[str, Metric], Scored], Mapping[str, Floats]]
"""Metrics and predictions → name → `[1+R]`, on the resamples that all scores of a part have."""

COLUMNS = {
    "test": "test",
    "test_patients": "test, patients",
    "val": "val",
    "val_patients": "val, patients",
}


def average_attention(several: Sequence[Encoded]) -> dict[str, NDArray[Any]]:
    """Return the mean weight of each slice as `attention`; {} where not all nets weigh slices."""
    if not all("attention" in outputs for outputs in several):
        return {}
    weights = [array_of(outputs, "attention") for outputs in several]
    return {"attention": np.asarray(np.mean(weights, axis=0, dtype=np.float64))}


def tabulate_attention(outputs: Encoded, facts: Tables) -> dict[str, pd.DataFrame]:
    """Put the weight of each slice beside its facts, as `slices`; {} where nothing weighs them."""
    if "slices" not in facts or "attention" not in outputs:
        return {}
    attention = array_of(outputs, "attention").astype(np.float64)
    return {"slices": facts["slices"].reset_index(drop=True).assign(attention=attention)}


def name_task(facts: Mapping[str, Any]) -> str:
    """Name the task of a record, a model or metrics; old ones only tell generators apart."""
    made = facts.get("kind") == "generator" or "gate" in facts
    return str(facts.get("task") or ("generation" if made else "classification"))


def target_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record says of the annotations; {} of one that says nothing."""
    known = {key: record[key] for key in ("classes", "kind") if record.get(key)}
    return dict(record.get("target") or known)


def open_recorded(record: Mapping[str, Any], metrics: Mapping[str, Any], place: Path) -> Evaluator:
    """Open the evaluator that the files of a run name.

    Args:
        record: the content of `record.json`.
        metrics: of `metrics.json`; empty where there is none.
        place: the run's folder.

    Raises:
        MedvisionError: there is no such task, or a foreign one in a run of somebody else.
    """
    name = name_task({**record, **metrics})
    if integrity.find_signature(record) != "own":
        refuse_foreign_name(name, "task", place)
    return open_evaluator(name, target_of(record))


def open_evaluator(
    task: str, target: Mapping[str, Any] | None = None, decision: Mapping[str, Any] | None = None
) -> Evaluator:
    """Open the evaluator of a task.

    Args:
        task: the folder of one of ours, or the dotted path of a task's class.
        target: as `Evaluator` takes it; None: only its metrics and words are wanted.
        decision: likewise.

    Raises:
        MedvisionError: there is no such task.
    """
    name = find_folder(task) or task
    made: Evaluator = _find_evaluator(name)(target or {}, decision or {})
    made.task = name
    return made


def _find_evaluator(task: str) -> type[Evaluator]:
    module, _, name = task.rpartition(".")
    try:
        if find_folder(task):
            found: type[Evaluator] | None = import_module(f"{TASKS}.{task}").open_evaluator()
        else:
            found = getattr(import_module(module or TASKS), name).evaluator
    except (ImportError, AttributeError) as error:
        raise MedvisionError(
            f"the task {task!r} is not here ({error}); take one of {', '.join(list_tasks())}, "
            "or put its module on PYTHONPATH"
        ) from error
    if found is None or found.__abstractmethods__:
        lacks = ", ".join(sorted(found.__abstractmethods__)) if found else ""
        what = f"{found.__name__} lacks {lacks}" if found else "it names none"
        raise MedvisionError(
            f"the task {task!r} has no evaluator that can be asked ({what}); "
            "see medvision.evaluation.evaluator.Evaluator"
        )
    return found


def direction(monitor: str, task: str | Evaluator | None = None) -> Literal["min", "max"]:
    """Tell whether a logged metric, such as `val/loss`, is better when lower or when higher.

    Args:
        monitor: a metric of a part.
        task: whose metrics: its name, the path of its class, or its evaluator; None: any of ours.

    Raises:
        MedvisionError: there is no such metric, or it has no direction, and none is guessed.
    """
    name = monitor.rpartition("/")[2]
    if name == "loss":
        return "min"
    asked = [task] if task is not None else list_tasks()
    evaluators = [open_evaluator(one) if isinstance(one, str) else one for one in asked]
    found = [one.metrics[name].better for one in evaluators if name in one.metrics]
    if not found or found[0] is None:
        ranked = (n for one in evaluators for n, metric in one.metrics.items() if metric.better)
        known = ["loss", *dict.fromkeys(ranked)]
        raise MedvisionError(
            f"nothing says whether {monitor} is better high or low{did_you_mean(name, known)}; "
            f"known are {', '.join(known)}"
        )
    return "min" if found[0] == "low" else "max"
