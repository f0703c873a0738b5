"""What is asked of a data set."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from medvision.data.batches.mixing import Ratio
from medvision.data.batches.read import OnUnreadable
from medvision.data.store.reader import Reader
from medvision.data.units.series_form import SeriesForm


class Wishes(Protocol):
    """What is asked of a data set; `ImageDataModule` explains each and is the one that asks."""

    manifest: str | None
    columns: Mapping[str, str | None] | None
    reader: Reader
    classes: Sequence[str] | None
    rename: Mapping[str, str] | None
    multilabel: bool | None
    negative: str | None
    mode: Literal["auto", "given", "patient", "site"]
    shares: Mapping[str, float] | None
    val_share: float
    fold: int | None
    folds: int
    split_seed: int
    stratify: str | None
    on_leak: Literal["error", "drop"]
    on_unreadable: OnUnreadable
    extra: list[str]
    extra_ratio: Ratio | None
    form: SeriesForm | None
    residency: Literal["auto", "disk", "host", "device"]
    workers: int | None
