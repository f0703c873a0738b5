"""What is asked of a data set: the settings `data.…`, checked once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medvision.augment.draw import Augment
from medvision.augment.sequence import SequenceAugment
from medvision.data.batches.mixing import RULE, Ratio, is_ratio
from medvision.data.batches.read import OnUnreadable
from medvision.data.store.reader import Reader
from medvision.data.units.series_form import OnGap, SeriesForm
from medvision.data.units.unit import Unit, find_unit, make_unit
from medvision.errors import MedvisionError, collect, did_you_mean

Residency = Literal["auto", "disk", "host", "device"]
Backend = Literal["auto", "host", "device"]
LOWEST = {
    "batch_size": 1, "fold": 0, "folds": 2, "split_seed": 0, "epoch_size": 1, "min_steps": 1,
    "workers": 1,
}  # fmt: skip
_MAY_BE_NULL = ("fold", "epoch_size", "workers")
CHOICES = {
    "on_unreadable": ("stop", "exclude"), "residency": ("auto", "disk", "host", "device"),
    "backend": ("auto", "host", "device"),
}  # fmt: skip

_OF_UNITS = ("channels", "neighbours", "difference", "max_slices", "on_gap", "sequence")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The settings `data.…`.

    Attributes:
        manifest: a manifest's CSV; wins over `source`.
        source: what `prepare` is called with once (`name`, `input`, `columns`, …).
        reader: how a file becomes an array.
        augment: random change of training batches.
        columns: ours → theirs, for a `manifest` with foreign column names.
        classes: class names in order; else the card's, else the sorted labels.
        rename: their label → ours.
        multilabel, negative: several labels an image joined by `|`; the name for "none of them".
        annotation: further options of the target, as its `resolve` takes them.
        mode: `given`, `patient`, `site`, or `auto` (given if there is one, else by patient).
        shares: part → share of the patients, for computed splits.
        val_share: share of the rest that is held out where a val part must be cut.
        fold: this part of `folds` is the test part; a given split is then ignored.
        split_seed: alone decides splits and folds.
        carry: columns that go into the run's manifest although no run reads them, or although they
            have almost one value a patient; where patients are hashed, no others do.
        stratify: column in which the parts of a computed split are alike; None: as the target says.
            Runs of other labels on the same patients then split them alike.
        on_leak: what to do with a given split that leaks.
        on_unreadable: stop, or leave unreadable files out, counted.
        balance: draw the training rows so that classes come up equally often.
        epoch_size: images shown an epoch, of which a GAN wants thousands; None: as many as train,
            and as `min_steps` takes.
        min_steps: batches of an epoch at least, where `epoch_size` says nothing: a small train part
            comes up several times, changed anew each time.
        extra: manifests whose rows join the training part: real ones, and what `medvision generate`
            made, which counts in nothing but the batches.
        extra_ratio: generated ÷ real images drawn in an epoch, which has the steps of the real data
            alone; `balance`: classes equally often, each filled up with generated images to the
            commonest one; `only`: nothing but generated images; None: there are none.
        different_patients: equal ids under two dataset names are different people.
        unit: what a sample is: `image`, a row, `series`, all rows of one, or see `data.units.unit`.
        channels, neighbours, difference, max_slices, on_gap: as in `SeriesForm`, for series.
        sequence: random change of the order of training series.
        residency: where decoded pixels stay; `auto` takes the device, else memory, as they fit.
        backend: who augments; `auto` is OpenCV for a CPU, one batched resampling for a device.
        workers: threads that decode; None: one a processor.
        seed: decides order and augmentation, never the split.

    Raises:
        MedvisionError: settings that cannot be.
    """

    manifest: str | None
    source: Mapping[str, Any] | None
    reader: Reader
    augment: Augment
    columns: Mapping[str, str | None] | None
    classes: Sequence[str] | None
    rename: Mapping[str, str] | None
    multilabel: bool | None
    negative: str | None
    annotation: Mapping[str, Any] | None
    mode: Literal["auto", "given", "patient", "site"]
    shares: Mapping[str, float] | None
    val_share: float
    fold: int | None
    folds: int
    split_seed: int
    carry: Sequence[str]
    stratify: str | None
    on_leak: Literal["error", "drop"]
    on_unreadable: OnUnreadable
    batch_size: int
    balance: bool
    epoch_size: int | None
    min_steps: int
    extra: Sequence[str]
    extra_ratio: Ratio | None
    different_patients: bool
    unit: str
    channels: Sequence[str] | None
    neighbours: int
    difference: bool
    max_slices: int | None
    on_gap: OnGap
    sequence: SequenceAugment
    residency: Residency
    backend: Backend
    workers: int | None
    seed: int

    def __post_init__(self) -> None:
        if self.extra_ratio is not None and not is_ratio(self.extra_ratio):
            raise MedvisionError(f"data.extra_ratio={self.extra_ratio} cannot be; choose {RULE}")
        if self.extra_ratio is not None and self.balance:
            raise MedvisionError(
                f"data.balance=true and data.extra_ratio={self.extra_ratio} both say what an epoch "
                "draws; keep one of them (data.extra_ratio=balance fills rare classes up)"
            )
        find_unit(str(self.unit))
        if problems := list(self._find_problems()):
            raise collect("values that cannot be", problems, "Mend them and run again")
        # Whatever the unit: a slip is told, not passed over.
        SeriesForm(self.channels, self.neighbours, self.difference, self.max_slices, self.on_gap)

    def make_unit(self) -> Unit:
        """Make what a sample is, of the settings its unit names."""
        return make_unit(self.unit, {key: getattr(self, key) for key in _OF_UNITS})

    @property
    def target_options(self) -> dict[str, Any]:
        """What the target is asked for, as far as it was said."""
        said = {key: getattr(self, key) for key in ("classes", "rename", "multilabel", "negative")}
        given = {key: value for key, value in said.items() if value not in (None, {})}
        return given | dict(self.annotation or {})

    def _find_problems(self) -> Iterator[str]:
        for key, low in LOWEST.items():
            value = getattr(self, key)
            if not (
                (value is None and key in _MAY_BE_NULL) or (type(value) is int and value >= low)
            ):
                yield f"data.{key}={_show(value)} must be a whole number, {low} or more"
        for key, choices in CHOICES.items():
            if (value := getattr(self, key)) not in choices:
                near = did_you_mean(str(value), choices)
                yield f"data.{key}={_show(value)} must be {' or '.join(choices)}{near}"
        for key in ("balance", "different_patients"):
            if not isinstance(value := vars(self)[key], bool):
                yield f"data.{key}={_show(value)} must be true or false"


def _show(value: object) -> str:
    return "null" if value is None else str(value)
