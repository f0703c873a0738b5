"""Slices to series in order; what stands against that is said of each series."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from medvision.data.sources.dicom import geometry
from medvision.data.sources.dicom.header import TRAITS, Slice

SERIES_BY = (*TRAITS, "orientation", "size", "spacing")
By = Literal["normal", "instance", "frame", "alone"]


@dataclass(frozen=True)
class DicomOptions:
    """What the user chose.

    Attributes:
        order: images without a position are series of their own, or follow InstanceNumber.
        series_by: what tells series apart beside their id, of `SERIES_BY`.
        on_gap: `keep` takes series with gaps as they are.
    """

    order: Literal["alone", "instance"] = "alone"
    series_by: Sequence[str] = ()
    on_gap: Literal["stop", "keep"] = "stop"


@dataclass(frozen=True)
class Series:
    """Slices in order.

    Attributes:
        uid: the raw id, and whatever told the series apart.
        mm: distance of each slice along the normal, where slices have positions.
        by: what put them in order.
        gaps: missing slices that were seen.
        oddities: why this is no series to learn from, each with its way out.
        told: rank of this series among those of its id, by each of `series_by`.
        channel: the name given to it.
    """

    uid: str
    slices: list[Slice]
    by: By
    mm: list[float] | None = None
    gaps: int = 0
    oddities: list[str] = field(default_factory=list)
    told: dict[str, int] = field(default_factory=dict)
    channel: str = ""

    @property
    def name(self) -> str:
        """How an error calls the series: by its folder, never by its id."""
        first = min(each.name for each in self.slices)
        folder, count = self.slices[0].folder, len(self.slices)
        return f"{count} slices in {folder!r} (first file {first.rpartition('/')[2]!r})"


def group_series(slices: Sequence[Slice], wishes: DicomOptions) -> list[Series]:
    """Put slices together by the id of their series, and in order."""
    found: dict[str, list[Slice]] = {}
    for each in slices:
        found.setdefault(each.series or each.name, []).append(each)
    return [series for uid, held in found.items() for series in _form(uid, held, wishes)]


def _form(uid: str, slices: list[Slice], wishes: DicomOptions) -> list[Series]:
    patients = len({each.patient for each in slices})
    if patients > 1:
        odd = f"name {patients} patients (mend the headers, or give a rule with columns.patient)"
        return [Series(uid, slices, "normal", oddities=[odd])]
    told = {name: _rank(_tell(name, slices)) for name in wishes.series_by}
    parts: dict[tuple[int, ...], list[Slice]] = {}
    for number, each in enumerate(slices):
        parts.setdefault(tuple(ranks[number] for ranks in told.values()), []).append(each)
    series = []
    for ranks, held in parts.items():
        words = dict(zip(told, ranks, strict=True))
        key = "\\".join([uid, *(f"{name}={rank}" for name, rank in words.items())])
        series += [_order(*part, wishes, words) for part in _take_apart(key, held, wishes)]
    return series


def _take_apart(
    uid: str, slices: list[Slice], wishes: DicomOptions
) -> list[tuple[str, list[Slice]]]:
    """Without any position, clips are series of their own, and so is each image if so wished."""
    if any(each.plane for each in slices):
        return [(uid, slices)]
    parts: dict[str, list[Slice]] = {}
    for each in slices:
        alone = each.frames > 1 or wishes.order == "alone"
        parts.setdefault(f"{uid}\\{each.name}" if alone else uid, []).append(each)
    return list(parts.items())


def _tell(name: str, slices: list[Slice]) -> list[str]:
    """Return what `series_by=name` compares, as text."""
    if name == "size":
        return ["x".join(map(str, each.shape)) for each in slices]
    if name == "spacing":
        return [str(each.spacing_mm and tuple(f"{s:.3g}" for s in each.spacing_mm))
                for each in slices]  # fmt: skip
    if name == "orientation":
        nowhere = (9.0,) * 6
        cosines = [each.plane.orientation if each.plane else nowhere for each in slices]
        return [str(number) for number in geometry.number_orientations(np.array(cosines))]
    return [each.traits[name] for each in slices]


def _rank(values: list[str]) -> list[int]:
    """Return the rank of each value among all, by number where all are numbers."""
    try:
        ordered = sorted(set(values), key=float)
    except ValueError:
        ordered = sorted(set(values))
    return [ordered.index(value) for value in values]


def _order(uid: str, slices: list[Slice], wishes: DicomOptions, told: dict[str, int]) -> Series:
    oddities = _find_mixtures(slices)
    if not any(each.plane for each in slices):
        by: By = "alone" if len(slices) == 1 else "frame" if slices[0].frames > 1 else "instance"
        slices, odd = _count(slices, by)
        return Series(uid, slices, by, oddities=[*oddities, *odd], told=told)
    odd = _find_unplaced(slices)
    if odd:
        return Series(uid, slices, "normal", oddities=[*oddities, *odd], told=told)
    orientation, positions = _planes(slices)
    mm = geometry.distances_mm(orientation, positions)
    ranks = np.argsort(mm, kind="stable")
    slices, mm = [slices[rank] for rank in ranks], mm[ranks]
    gaps = geometry.find_gaps(mm)
    oddities += _tell_repeats(slices, mm)
    oddities += _tell_gaps(gaps, mm) if wishes.on_gap == "stop" else []
    return Series(uid, slices, "normal", mm.tolist(), len(gaps), oddities, told)


def _planes(slices: list[Slice]) -> tuple[tuple[float, ...], np.ndarray]:
    planes = [each.plane for each in slices if each.plane]
    return planes[0].orientation, np.array([plane.position for plane in planes])


def _count(slices: list[Slice], by: By) -> tuple[list[Slice], list[str]]:
    """Order what has no position, by frame or by InstanceNumber."""
    if by != "instance":
        return sorted(slices, key=lambda each: each.frame), []
    numbers = [each.number for each in slices if each.number is not None]
    if len(set(numbers)) < len(slices):
        return slices, ["lack an InstanceNumber or have one twice (say order=alone)"]
    return sorted(slices, key=lambda each: each.number or 0), []


def _find_mixtures(slices: list[Slice]) -> list[str]:
    odd = []
    sizes = sorted(set(_tell("size", slices)))
    if len(sizes) > 1:
        odd.append(f"have {len(sizes)} sizes, {' and '.join(sizes[:3])} (say series_by=size)")
    spacings = [each.spacing_mm for each in slices if each.spacing_mm]
    uneven = bool(spacings) and not np.allclose(spacings, spacings[0], rtol=1e-3, atol=0)
    if uneven or 0 < len(spacings) < len(slices):
        odd.append("have pixels of several spacings (say series_by=spacing)")
    return odd


def _find_unplaced(slices: list[Slice]) -> list[str]:
    """Say what keeps placed slices from being ordered along one normal."""
    nowhere = sum(each.plane is None for each in slices)
    if nowhere:
        way_out = "take them out, or say series_by=type if they are of another type"
        return [f"hold {nowhere} without a position or an orientation ({way_out})"]
    cosines = [each.plane.orientation for each in slices if each.plane]
    if not all(geometry.is_plane(cosine) for cosine in cosines):
        return ["have directions that are not at right angles (mend ImageOrientationPatient)"]
    kinds = len(set(_tell("orientation", slices)))
    return [f"have {kinds} orientations (say series_by=orientation)"] if kinds > 1 else []


def _tell_gaps(gaps: list[tuple[int, float]], mm: np.ndarray) -> list[str]:
    if not gaps:
        return []
    (rank, step), usual = gaps[0], geometry.usual_step_mm(mm)
    count = "a gap" if len(gaps) == 1 else f"{len(gaps)} gaps, the first"
    return [
        f"have {count} of {step:.4g} mm after slice {rank} where steps are {usual:.4g} mm "
        "(find the missing files, or say on_gap=keep)"
    ]


def _tell_repeats(slices: list[Slice], mm: np.ndarray) -> list[str]:
    places: dict[int, list[Slice]] = {}
    for place, each in zip(geometry.find_places(mm), slices, strict=True):
        places.setdefault(int(place), []).append(each)
    crowds = [held for held in places.values() if len(held) > 1]
    if not crowds:
        return []
    repeats = sum(len(held) - 1 for held in crowds)
    return [f"hold {repeats} in the place of another one ({_part(crowds)})"]


def _part(crowds: list[list[Slice]]) -> str:
    """Say how to tell the slices of one place apart."""
    for trait in TRAITS:
        if all(len({each.traits[trait] for each in held}) == len(held) for held in crowds):
            return f"they differ in {trait}: say series_by={trait}"
    differ = [
        trait for trait in TRAITS
        if any(len({each.traits[trait] for each in held}) > 1 for held in crowds)
    ]  # fmt: skip
    if len(differ) > 1:
        return f"they differ in {', '.join(differ)}: say series_by=[{','.join(differ)}]"
    if any(len({(s.instance, s.frame) for s in held}) < len(held) for held in crowds):
        return "copies of one file: remove all but one"
    return "nothing in their headers tells them apart: remove all but one of a place"
