"""What the annotation columns of a manifest mean, and how they become arrays."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medvision.errors import MedvisionError

TASKS = "medvision.tasks"
Array = NDArray[Any]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ragged:
    """What rows have different numbers of, end to end: boxes, points.

    Attributes:
        values: `[M]` or `[M,D]`.
        start: int64 `[N+1]`: row n has `values[start[n]:start[n + 1]]`.
    """

    values: Array
    start: Ints

    @classmethod
    def of_rows(cls, values: Array, row: Ints, rows: int) -> "Ragged":
        """Sort values `[M]` or `[M,D]` of which the row of each is told, from 0 to `rows` − 1."""
        start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
        return cls(values[np.argsort(row, kind="stable")], start)

    def __len__(self) -> int:
        return len(self.start) - 1

    @property
    def row(self) -> Ints:
        """The row of each value, `[M]`."""
        return np.repeat(np.arange(len(self)), np.diff(self.start))

    def __getitem__(self, rows: Array) -> "Ragged":
        """Return these rows, in this order; they may repeat."""
        first, lengths = self.start[:-1][rows], np.diff(self.start)[rows]
        start = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(start[-1]) + np.repeat(first - start[:-1], lengths)
        return Ragged(self.values[places], start)

    def keep(self, chosen: NDArray[np.bool_]) -> "Ragged":
        """Return the values `[M]` that are chosen; a row may be left with none."""
        counts = np.bincount(self.row[chosen], minlength=len(self))
        return Ragged(self.values[chosen], np.concatenate([[0], np.cumsum(counts)]))


Encoded = Mapping[str, Array | Ragged]
"""Name in a batch → one entry a row."""


class Target(ABC):
    """What the annotation columns of a manifest mean, and how they become arrays.

    A row is a row of the manifest. A missing value is "" in the table; encoded it is −1 among whole
    numbers and nan among real ones, and ragged rows have none.

    Attributes:
        columns: those of the manifest it reads; one that ends in `_` stands for all that begin so.
        files: of these, those that name pixel files, such as `mask`: whole numbers from 0, as high
            and wide as the image. Batches hold them under the name of the column, int64 `[B,H,W]`,
            −1 where a row has none, and they move as the image does.
        boxes: ragged entries whose first four numbers are x0, y0, x1, y1, in pixels of the file
            from the outer edges of its upper left pixel. In a batch `[M,D]`, float32, in pixels of
            the image, beside `<name>_row` `[M]`, their sample; they move as the image does, too.
    """

    columns: ClassVar[tuple[str, ...]]
    files: ClassVar[tuple[str, ...]] = ()
    boxes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def resolve(
        cls, table: pd.DataFrame, card: Mapping[str, Any], *others: Any, **options: Any
    ) -> Self:
        """Settle what is asked of a data set: classes and their order, horizons, ….

        Args:
            table: normalised rows, those of a series under its own target (`of_unit`).
            card: facts beside them, as `card.json` holds them.
            others: none; it lets a target name its options as it likes.
            options: of the user, those that were given.

        Raises:
            MedvisionError: all that is wrong with the annotations, at once.
        """

    @abstractmethod
    def encode(self, table: pd.DataFrame) -> dict[str, Array | Ragged]:
        """Turn the columns of a table into numbers, an entry a row.

        Raises:
            MedvisionError: values that cannot be, all of them counted.
        """

    def decode(self, encoded: Encoded) -> dict[str, list[Any]]:
        """Return the truth in words, column → a cell a row, as predictions carry it."""
        return {}

    @abstractmethod
    def known(self, encoded: Encoded) -> NDArray[np.bool_]:
        """Tell the rows `[N]` that may train and are scored."""

    @classmethod
    @abstractmethod
    def of_unit(cls, table: pd.DataFrame, keys: pd.Series) -> pd.DataFrame:
        """Return the columns that say for each row what its series is annotated with.

        Args:
            table: normalised rows.
            keys: text a row, equal within a series.
        """

    def encode_rows(self, table: pd.DataFrame, keys: pd.Series) -> dict[str, Array | Ragged]:
        """Encode what rows of series say for themselves; {} where they only repeat their series."""
        return {}

    @abstractmethod
    def strata(self, table: pd.DataFrame) -> pd.Series:
        """Return text a row in which the parts of a split are to be alike.

        "" is not annotated; `a|b` is of both strata a and b where images and patients are counted.
        """

    @abstractmethod
    def count(self, encoded: Encoded, patients: Sequence[str]) -> dict[str, Any]:
        """Count samples and patients, as plain values: at least `unlabelled`."""

    def weights(self, encoded: Encoded) -> NDArray[np.float32] | None:
        """Return what each class weighs in a loss, from the training part; None: no classes."""
        return None

    def row_weights(self, encoded: Encoded) -> NDArray[np.float64] | None:
        """Return how often to draw each row so that all classes come up alike; None: no classes."""
        return None

    def groups(self, encoded: Encoded) -> tuple[Ints, Sequence[str]] | None:
        """Return the class of each row, −1 = unknown, and their names; None: a row has not one."""
        return None

    def notes(self) -> list[str]:
        """Return what a reader of the report should know."""
        return []

    def unlike(self, card: Mapping[str, Any]) -> str:
        """Say in what the rows beside another card are annotated otherwise; "" = they may join."""
        return ""

    @abstractmethod
    def plain(self) -> dict[str, Any]:
        """Return plain values for `model.pt`, which `from_plain` reads."""

    @classmethod
    @abstractmethod
    def from_plain(cls, content: Mapping[str, Any]) -> Self:
        """Read what `plain` wrote."""


def array_of(encoded: Encoded, name: str) -> Array:
    """Return an entry of one row a sample or, of what these have several of, all of it."""
    held = encoded[name]
    return held.values if isinstance(held, Ragged) else held


def take(encoded: Encoded, rows: Array) -> dict[str, Array | Ragged]:
    """Return some rows of all entries."""
    return {name: values[rows] for name, values in encoded.items()}


def is_among(name: str, columns: Iterable[str]) -> bool:
    """Tell whether a column is one of these, or begins as one of those that end in `_`."""
    return any(name == each or (each.endswith("_") and name.startswith(each)) for each in columns)


@cache
def list_tasks() -> list[str]:
    """Return the tasks of ours by their folders, one in another as `regression.ordinal`."""
    top = Path(__file__).parent / "tasks"
    folders = [path.parent.relative_to(top) for path in sorted(top.rglob("__init__.py"))]
    return [".".join(folder.parts) for folder in folders if folder.parts]


def find_folder(task: str) -> str:
    """Return the name of a task of ours as `list_tasks` does; "" of another.

    Args:
        task: that name, or the dotted path of a class in its folder.
    """
    ours, inside = list_tasks(), task.removeprefix(f"{TASKS}.")
    if inside == task:
        return task if task in ours else ""
    above = [name for name in ours if f"{inside}.".startswith(f"{name}.")]
    return max(above, key=len, default="")


def open_target(task: str) -> type[Target]:
    """Open what the annotations of a task mean.

    Args:
        task: the folder of one of ours, or the dotted path of a task's class.

    Raises:
        MedvisionError: there is no such task.
    """
    module, _, name = task.rpartition(".")
    try:
        if folder := find_folder(task):
            found: type[Target] = import_module(f"{TASKS}.{folder}").open_target()
        else:
            found = getattr(import_module(module or TASKS), name).target
    except (ImportError, AttributeError) as error:
        raise MedvisionError(
            f"the task {task!r} is not here ({error}); put its module on PYTHONPATH"
        ) from error
    return found
