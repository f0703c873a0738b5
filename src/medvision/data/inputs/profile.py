"""What a model was trained on, and in what a new image is unlike it.

A net answers to any array of numbers, also to what it has never seen the like of. So `model.pt`
says what the training images were before the reader made them alike, and what comes in is compared.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from medvision.data.store.facts import BYTES, UNITS, FileFacts
from medvision.errors import MedvisionError, collect

_SIZE_TIMES = 4.0  # a lesion of 8 pixels is 2, or a texture of 2 is 8: filters see something else
_SPACING_TIMES = 2.0  # beyond it an adult's organ has the size of a child's
SIGNED = 0.05  # of the span: resampling leaves small negative values where nothing was measured
_TAIL = 0.1  # percent of the training images at each end whose extremes do not count: odd ones
# One modality under two names, and the ways to take a radiograph, which archives mix.
SAME = {"MRI": "MR", "CR": "DX", "RG": "DX", "X-RAY": "DX", "XRAY": "DX"}


@dataclass(frozen=True)
class TrainedOn:
    """What the training images were, as plain types; pairs are lowest and highest.

    Attributes:
        values: without the most extreme `_TAIL` percent of the images at each end.
        signed: the usual image reaches clearly below 0, as Hounsfield units do.
    """

    images: int
    modality: list[str]
    stored: list[str]
    colour: list[bool]
    photometric: list[str]
    height: list[int]
    width: list[int]
    spacing_y_mm: list[float] | None
    spacing_x_mm: list[float] | None
    values: list[float]
    signed: bool


class Mismatch(NamedTuple):
    """One way in which an image is foreign: what it concerns, and found and expected in words."""

    about: str
    text: str


def summarise_facts(natives: Sequence[FileFacts]) -> TrainedOn | None:
    """Return what a model that is trained on these will expect; None where nothing is known."""
    if not natives:
        return None
    low, high = np.array([(n.low, n.high) for n in natives]).T
    middle, span = np.median(low), np.median(high) - np.median(low)
    spacings = np.array([n.spacing_mm for n in natives if n.spacing_mm])
    return TrainedOn(
        images=len(natives),
        modality=sorted({n.modality for n in natives} - {""}),
        stored=sorted({n.stored for n in natives}),
        colour=sorted({n.colour for n in natives}),
        photometric=sorted({n.photometric for n in natives} - {""}),
        height=_ends([n.height for n in natives]),
        width=_ends([n.width for n in natives]),
        spacing_y_mm=_ends(spacings[:, 0].tolist()) if len(spacings) else None,
        spacing_x_mm=_ends(spacings[:, 1].tolist()) if len(spacings) else None,
        values=[float(np.percentile(low, _TAIL)), float(np.percentile(high, 100 - _TAIL))],
        signed=bool(middle < -SIGNED * span),
    )


def _ends(numbers: Sequence[Any]) -> list[Any]:
    return [min(numbers), max(numbers)]


def to_plain(trained: TrainedOn | None) -> dict[str, Any] | None:
    """Return plain types for `model.pt`."""
    return None if trained is None else asdict(trained)


def from_plain(content: Mapping[str, Any] | None) -> TrainedOn | None:
    """Read what `to_plain` wrote; None of a model that does not say it."""
    return None if content is None else TrainedOn(**content)


def find_mismatches(
    native: FileFacts, trained: TrainedOn | None, window: object = ""
) -> list[Mismatch]:
    """Return all in which an image is unlike what a model was trained on; unknown is no fault.

    Args:
        native: the image.
        trained: of the model.
        window: the model's reader; under "dicom" the header brings units to what is shown.
    """
    if trained is None:
        return []
    checks = (_tell_modality, _tell_colour, _tell_size, _tell_spacing, _tell_values)
    found = [text for check in checks for text in check(native, trained)]
    return found + list(_tell_kind(native, trained, window == "dicom"))


def _tell_modality(native: FileFacts, trained: TrainedOn) -> Iterator[Mismatch]:
    known = {SAME.get(name, name) for name in trained.modality}
    if native.modality and known and SAME.get(native.modality, native.modality) not in known:
        yield Mismatch(
            "modality", f"modality {native.modality}, not {' or '.join(trained.modality)}"
        )


def _tell_colour(native: FileFacts, trained: TrainedOn) -> Iterator[Mismatch]:
    """Compare colours; a palette colours measurements, true colour is what a camera saw."""
    if native.colour not in trained.colour:
        yield Mismatch("colour", "colour, not grey" if native.colour else "grey, not colour")
    elif native.colour and native.photometric and trained.photometric:
        given, *known = ("PALETTE" in name for name in (native.photometric, *trained.photometric))
        if given not in known:
            names = ("true colour", "colours of a palette")
            yield Mismatch("photometric", f"{names[given]}, not {names[not given]}")


def _tell_size(native: FileFacts, trained: TrainedOn) -> Iterator[Mismatch]:
    sides = ((native.height, trained.height), (native.width, trained.width))
    if any(_is_outside(side, ends, _SIZE_TIMES) for side, ends in sides):
        known = " x ".join(_range(ends) for _, ends in sides)
        yield Mismatch("size", f"{native.height} x {native.width} pixels, not {known}")


def _tell_spacing(native: FileFacts, trained: TrainedOn) -> Iterator[Mismatch]:
    if native.spacing_mm is None or trained.spacing_y_mm is None or trained.spacing_x_mm is None:
        return
    y, x = native.spacing_mm
    sides = ((y, trained.spacing_y_mm), (x, trained.spacing_x_mm))
    if any(_is_outside(mm, ends, _SPACING_TIMES) for mm, ends in sides):
        known = " x ".join(_range(ends) for _, ends in sides)
        yield Mismatch("spacing", f"pixels of {y:.3g} x {x:.3g} mm, not {known}")


def _tell_values(native: FileFacts, trained: TrainedOn) -> Iterator[Mismatch]:
    low, high = trained.values
    if native.high < low or native.low > high:
        text = f"values of {_range([native.low, native.high])}, not {_range(trained.values)}"
        yield Mismatch("values", text)


def _tell_kind(native: FileFacts, trained: TrainedOn, viewed: bool) -> Iterator[Mismatch]:
    """Tell grey levels from measured units: 0..255 is no Hounsfield unit, and the other way."""
    if native.stored != UNITS and trained.signed and trained.stored == [UNITS]:
        text = f"{native.stored} values, not signed units such as {_range(trained.values)}"
        yield Mismatch("units", text)
    signed = native.low < -SIGNED * (native.high - native.low)
    if signed and trained.stored == [BYTES] and not viewed:
        yield Mismatch("units", f"signed units such as {native.low:.6g}, not {BYTES} values")


def _is_outside(number: float, ends: Sequence[float], times: float) -> bool:
    return number < ends[0] / times or number > ends[1] * times


def _range(ends: Sequence[float]) -> str:
    """Return "3" or "3 to 5"."""
    low, high = (f"{end:.6g}" for end in ends)
    return low if low == high else f"{low} to {high}"


def note_unchecked_facts(trained: TrainedOn | None, natives: Sequence[FileFacts]) -> list[str]:
    """Say once what could not be compared, and why."""
    if trained is None:
        return ["inputs not checked: the model does not say what it was trained on (train it anew)"]
    known = {"modality": trained.modality, "pixel spacing": trained.spacing_y_mm}
    silent = {
        "modality": sum(not native.modality for native in natives),
        "pixel spacing": sum(native.spacing_mm is None for native in natives),
    }
    unknown = [name for name, told in known.items() if not told]
    them = "them" if len(unknown) > 1 else "it"
    notes = [f"{' and '.join(unknown)} not checked: the model does not know {them}"]
    return (notes if unknown else []) + [
        f"{name} not checked for {silent[name]} of {len(natives)} images: they do not say it"
        for name, told in known.items() if told and silent[name]
    ]  # fmt: skip


def join_mismatches(oddities: Sequence[Mismatch]) -> str:
    """Put what is foreign in an image into one phrase."""
    return "; ".join(oddity.text for oddity in oddities)


def refuse_unlike_training(
    foreign: Mapping[int, Sequence[Mismatch]], names: Callable[[int], object], total: int
) -> MedvisionError:
    """Name what is unlike the training images; frames of one file that are alike are one problem.

    Args:
        foreign: by row.
        names: the file of a row.
        total: number of images.
    """
    counts: dict[tuple[str, str], int] = {}
    for row in sorted(foreign):
        problem = (str(names(row)), join_mismatches(foreign[row]))
        counts[problem] = counts.get(problem, 0) + 1
    problems = [
        f"{name} ({text}{f'; {count} frames' if count > 1 else ''})"
        for (name, text), count in counts.items()
    ]
    what = f"{len(foreign)} of {total} images are unlike those the model was trained on"
    return collect(
        what, problems, "Leave them out, or go on with on_foreign=warn, which marks them"
    )
