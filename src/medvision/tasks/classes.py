"""The target of tasks that ask for classes: their order, and labels as numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.class_order import find_negative, note_order, order_classes
from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.target import Array, Encoded, Ints, Ragged, Target, array_of

Kind = Literal["binary", "multiclass", "multilabel"]
NOTHING = "-"  # the decoded label of a multi-label row in which nothing was found


@dataclass(frozen=True)
class Classes(Target):
    """Classes in the order of the logits; of two, the last is the positive one.

    Encoded they are one entry, `label`: int64 `[N]`, −1 = unlabelled; multi-label float32 `[N,K]`
    of 0 and 1, rows of nan = unlabelled.

    Attributes:
        names: one a logit.
        kind: what the labels of a row mean: one of two, one of several, any number.
        negative: the label of a multi-label row in which nothing was found; not a class.
        rename: label as found → class name (None: treated as missing).
        order_note: of two, why the last is the positive one; "" where that is not known.
    """

    columns: ClassVar[tuple[str, ...]] = ("label", "series_label")

    names: list[str]
    kind: Kind
    negative: str | None = None
    rename: Mapping[str, str | None] = field(default_factory=dict)
    order_note: str = field(default="", compare=False)

    @classmethod
    def resolve(
        cls,
        table: pd.DataFrame,
        card: Mapping[str, Any],
        *,
        classes: Sequence[str] | None = None,
        rename: Mapping[str, str | None] | None = None,
        multilabel: bool | None = None,
        negative: str | None = None,
    ) -> "Classes":
        """Choose the classes as the user says, else as the card says, else from the labels.

        What is not given as `multilabel` or `negative` is a fact of the card.

        Raises:
            MedvisionError: see `choose_classes`.
        """
        facts = card["facts"]
        return choose_classes(
            table["label"], classes, card["classes"], rename,
            multilabel=bool(facts.get("multilabel") if multilabel is None else multilabel),
            negative=facts.get("negative") if negative is None else negative,
        )  # fmt: skip

    def encode(self, table: pd.DataFrame) -> dict[str, Array | Ragged]:
        return {"label": self.encode_labels(table["label"])}

    def encode_labels(self, labels: Sequence[str]) -> Array:
        """Turn labels as found in the manifest into numbers, `[N]` or `[N,K]`.

        Raises:
            MedvisionError: labels that are no class, all of them counted.
        """
        codes, uniques = pd.factorize(np.asarray(labels, dtype=object))
        found: list[list[str]] = [split_label(label, self.rename) for label in uniques]
        self.refuse_unknown(found, np.bincount(codes, minlength=len(uniques)).tolist())
        if self.kind != "multilabel":
            single = [self.names.index(names[0]) if names else -1 for names in found]
            numbers: NDArray[np.int64] = np.array(single, dtype=np.int64)[codes]
            return numbers
        hot = [
            [float(name in names) if names else np.nan for name in self.names] for names in found
        ]
        several: NDArray[np.float32] = np.array(hot, dtype=np.float32)[codes]
        return several.reshape(-1, len(self.names))

    def decode(self, encoded: Encoded) -> dict[str, list[Any]]:
        return {"label": self.decode_labels(encoded_label(encoded))}

    def decode_labels(self, label: Array) -> list[str]:
        """Name encoded labels again: "" = unlabelled, `|` joins several, "-" is none of them."""
        if label.ndim == 1:
            return ["" if k < 0 else self.names[k] for k in label.tolist()]
        joined = ["|".join(n for n, on in zip(self.names, row, strict=True) if on == 1)
                  for row in label.tolist()]  # fmt: skip
        known = self.known({"label": label})
        return [(text or NOTHING) if k else "" for k, text in zip(known, joined, strict=True)]

    def known(self, encoded: Encoded) -> NDArray[np.bool_]:
        label = encoded_label(encoded)
        return np.asarray(~np.isnan(label).all(axis=1) if label.ndim == 2 else label >= 0)

    @classmethod
    def of_unit(cls, table: pd.DataFrame, keys: pd.Series) -> pd.DataFrame:
        """Return as `label` that of the whole series, "" = unlabelled."""
        said = table["series_label" if "series_label" in table else "label"].fillna("")
        whole = said.where(said != "").groupby(keys).transform("first").fillna("")
        return pd.DataFrame({"label": whole})

    def encode_rows(self, table: pd.DataFrame, keys: pd.Series) -> dict[str, Array | Ragged]:
        """Encode labels of slices: there are some where a series has its `series_label` as well.

        Raises:
            MedvisionError: labels of slices that are no class of the series.
        """
        own, whole = table["label"], self.of_unit(table, keys)["label"]
        if "series_label" not in table or ((own == "") | (own == whole)).all():
            return {}
        try:
            return self.encode(table)
        except MedvisionError as error:
            raise MedvisionError(
                f"{error}; these are labels of slices: without them say columns.label=null"
            ) from error

    def strata(self, table: pd.DataFrame) -> pd.Series:
        """Return the labels as found; where series alone have labels, theirs."""
        bare = "series_label" in table and not (table["label"] != "").any()
        return table["series_label"].fillna("") if bare else table["label"]

    def count(self, encoded: Encoded, patients: Sequence[str]) -> dict[str, Any]:
        """Count samples a class and patients with at least one; `nothing`: samples of none."""
        label, whose = encoded_label(encoded), np.asarray(patients, dtype=object)
        hot = label == 1 if label.ndim == 2 else label[:, None] == np.arange(len(self.names))
        known = self.known(encoded)
        counts: dict[str, Any] = {"unlabelled": int((~known).sum())}
        counts["per_class"] = dict(zip(self.names, hot.sum(axis=0).tolist(), strict=True))
        counts["patients_per_class"] = {
            name: len(set(whose[hot[:, k]])) for k, name in enumerate(self.names)
        }
        if label.ndim == 2:
            counts["nothing"] = int((known & ~hot.any(axis=1)).sum())
        return counts

    def weights(self, encoded: Encoded) -> NDArray[np.float32]:
        """Return weights of the classes, `[K]`.

        Inverse frequency, mean 1, a class without rows weighing 1; for multi-label, negatives over
        positives, which is what weights the positive side of each class.
        """
        label = encoded_label(encoded)
        if label.ndim == 2:
            counts = np.asarray(np.nansum(label, axis=0))
            absent = int(self.known(encoded).sum()) - counts
            odds = np.where(counts > 0, absent / np.maximum(counts, 1), 1.0)
            return np.maximum(odds, 1e-3).astype(np.float32)
        counts = np.bincount(label[label >= 0], minlength=len(self.names))
        weights = 1 / np.maximum(counts, 1)
        weights = np.where(counts > 0, weights / weights[counts > 0].mean(), 1.0)
        return weights.astype(np.float32)

    def row_weights(self, encoded: Encoded) -> NDArray[np.float64]:
        """Return the weight of each row's class; an image counts as its rarest finding."""
        label, weight = encoded_label(encoded), self.weights(encoded).astype(np.float64)
        if label.ndim == 2:
            return np.asarray(np.where(label > 0, weight, weight.min()).max(axis=1))
        return np.asarray(weight[label])

    def groups(self, encoded: Encoded) -> tuple[Ints, Sequence[str]] | None:
        return None if self.kind == "multilabel" else (encoded_label(encoded), self.names)

    def notes(self) -> list[str]:
        return [self.order_note] if self.order_note else []

    def unlike(self, card: Mapping[str, Any]) -> str:
        names = [n for label in card["classes"] or () for n in split_label(label, self.rename)]
        if sorted(names) == sorted(self.names):
            return ""
        if not names:
            return (
                f"names no classes on its card; say there which of {', '.join(self.names)} it has"
            )
        return (
            f"is of the classes {', '.join(names)}, and the run has {', '.join(self.names)}; "
            "map them with data.rename.THEIRS=OURS"
        )

    def plain(self) -> dict[str, Any]:
        return {
            "classes": self.names, "kind": self.kind, "negative": self.negative,
            "rename": dict(self.rename),
        }  # fmt: skip

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Classes":
        return cls(*(content[key] for key in ("classes", "kind", "negative", "rename")))

    def refuse_unknown(self, found: Sequence[Sequence[str]], rows: Sequence[int]) -> None:
        """Refuse labels that are no class, or contradict themselves.

        Args:
            found: the names in each different label.
            rows: how many rows hold it.

        Raises:
            MedvisionError: naming each with its rows and the nearest class.
        """
        nothing = [self.negative] if self.kind == "multilabel" and self.negative else []
        known = [*self.names, *nothing]
        unknown: Counter[str] = Counter()
        torn: Counter[str] = Counter()
        for names, count in zip(found, rows, strict=True):
            unknown.update({name: count for name in names if name not in known})
            if len(names) > 1 and (self.kind != "multilabel" or self.negative in names):
                torn["|".join(names)] += count
        problems = [
            f"{name!r} ({count} rows){did_you_mean(name, known)}" for name, count in unknown.items()
        ]
        problems += [
            f"{name!r} ({count} rows) says two things at once" for name, count in torn.items()
        ]
        if problems:
            raise collect(
                f"labels that do not fit the classes {', '.join(known)}",
                problems,
                "Map a label with data.rename, or list all classes in data.classes",
            )


def encoded_label(encoded: Encoded) -> Array:
    """Return the one entry that classes encode: `[N]` or `[N,K]`."""
    return array_of(encoded, "label")


def split_label(label: str, rename: Mapping[str, str | None]) -> list[str]:
    """Return the class names in one label; none = unlabelled."""
    whole = rename.get(label, label)
    parts = [part.strip() for part in (whole or "").split("|")]
    renamed = [rename.get(part, part) if whole == label else part for part in parts]
    return list(dict.fromkeys(name for name in renamed if name))


def choose_classes(
    labels: Sequence[str],
    given: Sequence[str] | None = None,
    card: Sequence[str] | None = None,
    rename: Mapping[str, str | None] | None = None,
    *,
    multilabel: bool = False,
    negative: str | None = None,
) -> Classes:
    """Settle the classes: as given, else as on the card, else as the labels tell.

    Labels are sorted; of two, one that is named as the negative class comes first.

    Args:
        labels: label a row, "" = unlabelled; any `|` makes the data multi-label.
        given: `data.classes`.
        card: the card's classes.
        rename: label as found → class name, applied to `labels` and `card`, never to `given`.
        multilabel: several labels a row are possible though none has `|`.
        negative: the multi-label name for "nothing found", such as `No Finding`.

    Raises:
        MedvisionError: no label at all, a single class, a class named twice, or a label that is
            no class.
    """
    rename = dict(rename or {})
    different = sorted(set(labels))
    several = multilabel or any("|" in label for label in different)
    on_card = [name for label in card or () for name in split_label(label, rename)]
    found = _sort_names(different, rename)
    names = list(given or dict.fromkeys(on_card) or order_classes(found))
    if several:
        names = [name for name in names if name != negative]
    check_names(names, "data.classes" if given else "the card's classes" if card else "the labels")
    kind: Kind = "multilabel" if several else "binary" if len(names) == 2 else "multiclass"
    where = "data.classes" if given else "the card" if card else ""
    told = _note_positive(names, found, where) if kind == "binary" else ""
    classes = Classes(names, kind, negative, rename, told)
    classes.encode_labels(labels)
    return classes


def _note_positive(names: Sequence[str], found: Sequence[str], where: str) -> str:
    """Say which of two classes is positive, and why.

    Args:
        names: negative, positive.
        found: the same, as the alphabet has them.
        where: what gave the order; "" = their words or, where these tell nothing, the alphabet.
    """
    if not where:
        return note_order(names, found)
    told = f"the positive class is {names[1]!r} ({where} orders them)"
    if find_negative(names) == names[1]:
        told += f", though it is named as the negative one; data.classes=[{names[1]},{names[0]}]"
        told += " turns them round"
    return told


def _sort_names(labels: Sequence[str], rename: Mapping[str, str | None]) -> list[str]:
    """Sort the names in the labels: as numbers where all are, else as text."""
    names = {name for label in labels for name in split_label(label, rename)}
    return sorted(names, key=int if all(name.isdecimal() for name in names) else None)


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse what cannot be a list of classes.

    Raises:
        MedvisionError: none, one, a name twice, or a name with `|`.
    """
    if not names:
        raise MedvisionError(
            "no row has a label; say where it is with columns.label=NAME, or, of volumes, clips "
            "and DICOM, with labels=FILE.csv (in a training: data.source.labels)"
        )
    if len(names) == 1:
        raise MedvisionError(
            f"only one class, {names[0]!r}, in {where}: there is nothing to tell apart; "
            "check the label column (columns.label) or list all classes in data.classes"
        )
    twice = sorted({name for name in names if names.count(name) > 1 or "|" in name})
    if twice:
        raise MedvisionError(
            f"{where} names {', '.join(map(repr, twice))} twice or with '|'; name each class once"
        )
