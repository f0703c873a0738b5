"""Can the label be told without looking at the picture? Then a net may learn just that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.data.audit.scan import ImageFacts
from medvision.data.splits.groups import Ints
from medvision.identity import patient_keys

FEWEST = 10  # patients on either side of a question
MOST = 800  # patients asked on either side, drawn at random; more add time, not certainty
FLAG = 0.65  # the interval's lower end
CLASSES = 20
DRAWS = 1000
TOGETHER = "all that is known beside the picture"
NAMES = 12  # commonest words of a column
# How an image came about, not what it shows: no laterality, body part, age or sex.
WORDS = ("dataset", "site", "manufacturer", "modality", "view", "photometric", "burned_in")
SPACINGS = ("spacing_y_mm", "spacing_x_mm", "slice_thickness_mm")

Reals = NDArray[np.float64]


class Shortcut(NamedTuple):
    """What the label can be told from.

    Attributes:
        label: the class that is told from the others.
        fact: what it is told from.
        auroc: with its 95 % interval over patients.
        patients: how many were asked.
    """

    label: str
    fact: str
    auroc: float
    low: float
    high: float
    patients: int

    def __str__(self) -> str:
        return (
            f"red flag: the label {self.label!r} can be told from {self.fact} alone (AUROC "
            f"{self.auroc:.2f} [{self.low:.2f} to {self.high:.2f}], chance 0.50, "
            f"{self.patients} patients): a net may learn that instead of the disease"
        )


def find_shortcuts(
    table: pd.DataFrame, looks: Sequence[ImageFacts], classes: Sequence[str] | None = None
) -> list[Shortcut]:
    """Ask of each class how well facts beside the picture tell it, a patient at a time.

    A shallow tree is asked for patients it has not seen, for each fact alone. A patient counts
    once, with its rows of the class if there are any, else with all. Facts are the size, spacing,
    kind of file, mean grey of the border and the columns `WORDS`. Rows of a given test part stay
    unseen. The interval is a bootstrap's over patients, widened for the number of facts (Šidák).

    Args:
        table: rows in the order of `looks`, with `group`.
        looks: one a row.
        classes: in order; of two only the last is asked for.

    Returns:
        What lies above chance beyond doubt, all facts together only where none alone does;
        classes of fewer than 10 patients are not asked.
    """
    label, facts = _tell_labels(table), _tell_facts(table, looks)
    known = label != ""
    if "split" in table:
        known &= (table["split"] != "test").to_numpy()
    if not facts or not known.any():
        return []
    found = []
    for name in _choose_classes(label[known], classes):
        asked = _ask(name, label, known, table)
        if asked is None:
            continue
        told = {fact: asked.answer(values, len(facts)) for fact, values in facts.items()}
        flagged = [Shortcut(name, fact, *one) for fact, one in told.items() if one[1] > FLAG]
        alone = [one for one in flagged if one.fact != TOGETHER]
        found += alone or flagged
    return found


def _tell_labels(table: pd.DataFrame) -> NDArray[np.str_]:
    """Return the label of each row, that of its series where it has one."""
    told = pd.Series("", index=table.index)
    for name in (name for name in ("label", "series_label") if name in table):
        said = table[name].fillna("").astype(str)
        told = said.where(said != "", told)
    return np.asarray(told, dtype=str)


def _choose_classes(label: NDArray[np.str_], classes: Sequence[str] | None) -> list[str]:
    held = pd.Series(label).str.split("|").explode().str.strip().value_counts()
    ordered = [name for name in classes or sorted(held.index) if name in held.index]
    if len(ordered) == 2:
        return ordered[1:]
    return [str(name) for name in held.index[:CLASSES]] if len(ordered) > 2 else []


def _tell_facts(table: pd.DataFrame, looks: Sequence[ImageFacts]) -> dict[str, Reals]:
    """Return the facts that differ between rows, as numbers `[N,F]`; nan = not known."""
    columns: dict[str, list[Any]] = {
        "the image size": [(look.height, look.width, look.width / look.height) for look in looks],
        "the mean grey of the border": [(look.border,) for look in looks],
    }
    facts = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
    spacings = [name for name in SPACINGS if name in table]
    if spacings:
        given = table[spacings].apply(pd.to_numeric, errors="coerce")
        facts["the spacing"] = given.to_numpy(dtype=np.float64)
    words = {"the kind of file": pd.Series([look.kind for look in looks])}
    words |= {f"the column {name}": table[name] for name in WORDS if name in table}
    for name, values in words.items():
        facts[name] = _one_hot(values.fillna("").astype(str))
    differing = {name: v for name, v in facts.items() if (v[1:] != v[:-1]).any()}
    if len(differing) > 1:
        differing[TOGETHER] = np.hstack(list(differing.values()))
    return differing


def _one_hot(words: pd.Series) -> Reals:
    names = words.value_counts().sort_index().nlargest(NAMES).index
    return np.stack([(words == name).to_numpy(dtype=np.float64) for name in names], axis=1)


@dataclass(frozen=True)
class _Question:
    """Which patients are of a class, and the parts they are asked in.

    Attributes:
        rows: of the table, and `patient` each is of, 0…P-1; `counted` if it speaks for it.
        holds: whether a patient is of the class.
        folds: numbers of patients to learn from and to ask.
    """

    rows: Ints
    patient: Ints
    counted: NDArray[np.bool_]
    holds: NDArray[np.bool_]
    folds: list[tuple[Ints, Ints]]

    def answer(self, values: Reals, facts: int) -> tuple[float, float, float, int]:
        """Return AUROC, its interval and the number of patients asked."""
        from sklearn.tree import DecisionTreeClassifier

        mean, holds = self._mean(values), self.holds
        scores = np.full(len(holds), np.nan)
        for train, test in self.folds:
            tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=5, random_state=0)
            scores[test] = tree.fit(mean[train], holds[train]).predict_proba(mean[test])[:, 1]
        asked = np.isfinite(scores)
        told = _bound(scores[asked & holds], scores[asked & ~holds], facts)
        return (*told, int(asked.sum()))

    def _mean(self, values: Reals) -> Reals:
        """Average the rows that speak for each patient; `[P,F]`, missing values are −1."""
        told = np.nan_to_num(values[self.rows], nan=-1.0) * self.counted[:, None]
        total = [np.bincount(self.patient, column, len(self.holds)) for column in told.T]
        weight = np.bincount(self.patient, self.counted, len(self.holds))
        return np.asarray(np.stack(total, axis=1) / weight[:, None])


def _ask(
    name: str, label: NDArray[np.str_], known: NDArray[np.bool_], table: pd.DataFrame
) -> _Question | None:
    """Gather rows into patients of a class and others; None where there are too few.

    Copies and near copies of patients are in one fold, and count as one for what is too few.
    """
    rows = np.flatnonzero(known)
    keys = patient_keys(table.assign(dataset=table.get("dataset", ""))).to_numpy()[rows]
    _, firsts, patient = np.unique(keys, return_index=True, return_inverse=True)
    group = table["group"].to_numpy()[rows][firsts]
    said = pd.Series(label[rows]).str.split("|")
    has = np.array([name in (each.strip() for each in one) for one in said])
    holds = np.bincount(patient, has) > 0
    if min(len(np.unique(group[side])) for side in (holds, ~holds)) < FEWEST:
        return None
    rng = np.random.default_rng(0)
    sides = (rng.permutation(np.flatnonzero(side))[:MOST] for side in (holds, ~holds))
    drawn = np.sort(np.concatenate(list(sides)))
    folds = _fold(drawn, holds, group)
    return _Question(rows, patient, has | ~holds[patient], holds, folds) if folds else None


def _fold(drawn: Ints, holds: NDArray[np.bool_], group: Ints) -> list[tuple[Ints, Ints]]:
    """Deal patients to five folds; none where one could not learn from both sides."""
    from sklearn.model_selection import StratifiedGroupKFold

    dealt = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    folds = [(drawn[train], drawn[test]) for train, test in
             dealt.split(drawn, holds[drawn], group[drawn])]  # fmt: skip
    return folds if all(holds[train].any() and not holds[train].all() for train, _ in folds) else []


def _bound(above: Reals, below: Reals, facts: int) -> tuple[float, float, float]:
    """Return AUROC and a bootstrap interval over patients at 95 % for all facts together."""
    wins = (above[:, None] > below) + 0.5 * (above[:, None] == below)
    if wins.mean() <= FLAG:  # no flag can come of it
        return float(wins.mean()), 0.0, 1.0
    rng = np.random.default_rng(0)
    drawn = [
        rng.multinomial(len(side), np.full(len(side), 1 / len(side)), DRAWS) / len(side)
        for side in (above, below)
    ]
    aurocs = np.einsum("bi,bi->b", drawn[0] @ wins, drawn[1])
    tail = (1 - 0.95 ** (1 / facts)) / 2
    low, high = np.quantile(aurocs, [tail, 1 - tail])
    return float(wins.mean()), float(low), float(high)
