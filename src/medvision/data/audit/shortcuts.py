"""Can the label be told without looking at the picture? Then a net may learn just that."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.data.audit.scan import ImageFacts
from medvision.identity import patient_keys
from medvision.stats.bootstrap import interval, number, resample_patients
from medvision.stats.ranking import Floats, Ranking, curve_areas, measure_areas

FEWEST = 10  # patients on either side of a question
MOST = 800  # patients asked on either side, drawn at random; more add time, not certainty
_FLAG = 0.65  # the interval's lower end
CLASSES = 20
_DRAWS = 1000
_TOGETHER = "all that is known beside the picture"
NAMES = 12  # commonest words of a column
# How an image came about, not what it shows: no laterality, body part, age or sex.
WORDS = ("dataset", "site", "manufacturer", "modality", "view", "photometric", "burned_in")
_SPACINGS = ("spacing_y_mm", "spacing_x_mm", "slice_thickness_mm")


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
    label, facts = _read_labels(table), _read_facts(table, looks)
    known = label != ""
    if "split" in table:
        known &= (table["split"] != "test").to_numpy()
    if not facts or not known.any():
        return []
    keys = patient_keys(table.assign(dataset=table.get("dataset", ""))).to_numpy()
    rows = pd.DataFrame({"patient": keys, "group": table["group"].to_numpy(), "label": label})
    facts, rows = {fact: values[known] for fact, values in facts.items()}, rows[known]
    found = []
    for name in _choose_classes(rows["label"], classes):
        flagged = list(_ask(name, rows, facts))
        found += [one for one in flagged if one.fact != _TOGETHER] or flagged
    return found


def _read_labels(table: pd.DataFrame) -> NDArray[np.str_]:
    """Return the label of each row, that of its series where it has one."""
    labels = pd.Series("", index=table.index)
    for name in (name for name in ("label", "series_label") if name in table):
        given = table[name].fillna("").astype(str)
        labels = given.where(given != "", labels)
    return np.asarray(labels, dtype=str)


def _choose_classes(label: pd.Series, classes: Sequence[str] | None) -> list[str]:
    held = label.str.split("|").explode().str.strip().value_counts()
    ordered = [name for name in classes or sorted(held.index) if name in held.index]
    if len(ordered) == 2:
        return ordered[1:]
    return [str(name) for name in held.index[:CLASSES]] if len(ordered) > 2 else []


def _read_facts(table: pd.DataFrame, looks: Sequence[ImageFacts]) -> dict[str, Floats]:
    """Return the facts that differ between rows, as numbers `[N,F]`; -1 = not known."""
    sizes = [(look.height, look.width, look.width / look.height) for look in looks]
    facts = {
        "the image size": np.array(sizes, dtype=np.float64),
        "the mean grey of the border": np.array([[look.border] for look in looks]),
    }
    if spacings := [name for name in _SPACINGS if name in table]:
        given = table[spacings].apply(pd.to_numeric, errors="coerce")
        facts["the spacing"] = np.nan_to_num(given.to_numpy(dtype=np.float64), nan=-1.0)
    words = {"the kind of file": pd.Series([look.kind for look in looks])}
    words |= {f"the column {name}": table[name] for name in WORDS if name in table}
    facts |= {name: _one_hot(v.fillna("").astype(str)) for name, v in words.items()}
    differing = {name: v for name, v in facts.items() if (v[1:] != v[:-1]).any()}
    if len(differing) > 1:
        differing[_TOGETHER] = np.hstack(list(differing.values()))
    return differing


def _one_hot(words: pd.Series) -> Floats:
    names = words.value_counts().sort_index().nlargest(NAMES).index
    return np.stack([(words == name).to_numpy(dtype=np.float64) for name in names], axis=1)


def _ask(name: str, rows: pd.DataFrame, facts: Mapping[str, Floats]) -> Iterator[Shortcut]:
    """Yield what tells a class; nothing where too few patients are of it, or are not.

    Copies and near copies of patients are in one fold, and count as one for what is too few.
    """
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    has = rows["label"].str.split("|").map(lambda names: name in map(str.strip, names))
    speaks = (has | ~has.groupby(rows["patient"]).transform("any")).to_numpy()
    rows = rows.assign(has=has)
    patients = rows[speaks].groupby("patient")[["group", "has"]].first()
    patients = patients.iloc[_order(rows[speaks], [v[speaks] for v in facts.values()])]
    _, group = number(patients["group"].tolist())
    holds = patients["has"].to_numpy(dtype=bool)
    if min(len(np.unique(group[side])) for side in (holds, ~holds)) < FEWEST:
        return
    rng = np.random.default_rng(0)
    sides = (rng.permutation(np.flatnonzero(side))[:MOST] for side in (holds, ~holds))
    drawn = np.sort(np.concatenate(list(sides)))
    group, holds = group[drawn], holds[drawn]
    folds = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(drawn, holds, group))
    if any(len(np.unique(holds[train])) < 2 for train, _ in folds):
        return
    for fact, values in facts.items():
        means = _average(rows[speaks], values[speaks]).loc[patients.index]
        tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=5, random_state=0)
        scores = cross_val_predict(tree, means.to_numpy()[drawn], holds, cv=folds,
                                   method="predict_proba")[:, 1]  # fmt: skip
        auroc, low, high = _bound(scores, holds, 0.95 ** (1 / len(facts)))
        if low > _FLAG:
            yield Shortcut(name, fact, auroc, low, high, len(drawn))


def _average(rows: pd.DataFrame, values: Floats) -> pd.DataFrame:
    """Average facts `[N,F]` over the rows of each patient."""
    return pd.DataFrame(values).groupby(rows["patient"].to_numpy()).mean()


def _order(rows: pd.DataFrame, facts: Sequence[Floats]) -> NDArray[np.intp]:
    """Order patients by what is known of them, so that neither names nor order of rows matter."""
    has = rows["has"].to_numpy(dtype=np.float64)[:, None]
    return np.lexsort(_average(rows, np.hstack([*facts, has])).to_numpy().T)


def _bound(scores: Floats, holds: NDArray[np.bool_], level: float) -> tuple[float, float, float]:
    """Return AUROC and its interval over patients, as many on either side each time."""
    auroc, _ = measure_areas(scores, holds)
    if auroc <= _FLAG:  # no flag can come of it
        return auroc, 0.0, 1.0
    ranking, patients = Ranking(scores, holds), range(len(holds))
    resamples = resample_patients(patients, _DRAWS, seed=0, strata=holds.tolist())
    drawn = [curve_areas(*ranking.cumulate(weights))[0] for weights in resamples]
    bounds = interval(np.concatenate(drawn), level)
    return auroc, bounds["low"] or 0.0, bounds["high"] or 1.0
