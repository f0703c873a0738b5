"""The classes of a data set, in order, and labels as numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.errors import MedvisionError, collect, did_you_mean

Kind = Literal["binary", "multiclass", "multilabel"]
NOTHING = "-"  # the decoded label of a multi-label row in which nothing was found


@dataclass(frozen=True)
class Classes:
    """Classes in the order of the logits; of two, the last is the positive one.

    Attributes:
        names: one a logit.
        kind: what the labels of a row mean: one of two, one of several, any number.
        negative: the label of a multi-label row in which nothing was found; not a class.
        rename: label as found → class name (None: treated as missing).
    """

    names: list[str]
    kind: Kind
    negative: str | None = None
    rename: Mapping[str, str | None] = field(default_factory=dict)

    def encode(self, labels: Sequence[str]) -> NDArray[Any]:
        """Turn labels as found in the manifest into numbers.

        Returns:
            int64 [N], -1 = unlabelled; multi-label: float32 [N,K] of 0 and 1, rows of nan =
            unlabelled.

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

    def decode(self, label: NDArray[Any]) -> list[str]:
        """Name encoded labels again: "" = unlabelled, `|` joins several, "-" is none of them."""
        if label.ndim == 1:
            return ["" if k < 0 else self.names[k] for k in label.tolist()]
        joined = ["|".join(n for n, on in zip(self.names, row, strict=True) if on == 1)
                  for row in label.tolist()]  # fmt: skip
        unknown = np.isnan(label).all(axis=1)
        return ["" if u else text or NOTHING for u, text in zip(unknown, joined, strict=True)]

    def absent(self, labels: Sequence[str]) -> list[str]:
        """Return the classes none of the labels names."""
        found = {name for label in set(labels) for name in split_label(label, self.rename)}
        return [name for name in self.names if name not in found]

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
    """Settle the classes: as given, else as on the card, else the labels in sorted order.

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
    names = list(given or dict.fromkeys(on_card) or sort_names(different, rename))
    if several:
        names = [name for name in names if name != negative]
    check_names(names, "data.classes" if given else "the card's classes" if card else "the labels")
    kind: Kind = "multilabel" if several else "binary" if len(names) == 2 else "multiclass"
    classes = Classes(names, kind, negative, rename)
    classes.encode(labels)
    return classes


def sort_names(labels: Sequence[str], rename: Mapping[str, str | None]) -> list[str]:
    """Sort the names in the labels: as numbers where all are, else as text."""
    names = {name for label in labels for name in split_label(label, rename)}
    return sorted(names, key=int if all(name.isdecimal() for name in names) else None)


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse what cannot be a list of classes.

    Raises:
        MedvisionError: none, one, a name twice, or a name with `|`.
    """
    if not names:
        raise MedvisionError("no row has a label; say where it is with columns.label=NAME")
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
