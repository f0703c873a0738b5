"""What a DICOM header says of each of its frames, with as little of it as a manifest needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from pydicom import Dataset

from medvision.data.formats.dicom.facts import read_header_facts
from medvision.data.formats.dicom.frames import count_frames, header_of_frame

_MOST_FRAMES = 100_000
IDS = (
    "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID",
    "InstitutionName", "SeriesDescription", "StudyDate", "ImageType", "InstanceNumber",
)  # fmt: skip
_GEOMETRY = (
    "Rows", "Columns", "NumberOfFrames", "FrameTime", "PixelSpacing", "ImagerPixelSpacing",
    "SliceThickness", "ImageOrientationPatient", "ImagePositionPatient",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
FACTS = (
    "Modality", "ViewPosition", "ImageLaterality", "Laterality", "Manufacturer", "BodyPartExamined",
    "PhotometricInterpretation", "BurnedInAnnotation", "SequenceOfUltrasoundRegions",
)  # fmt: skip
TRAITS = {
    "echo": (("EchoNumbers",), ("EchoTime",), ("MREchoSequence", "EffectiveEchoTime")),
    "phase": (
        ("TemporalPositionIdentifier",), ("TriggerTime",),
        ("FrameContentSequence", "TemporalPositionIndex"),
        ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    ),
    "acquisition": (
        ("AcquisitionNumber",), ("FrameContentSequence", "FrameAcquisitionNumber"),
    ),
    "b_value": (("DiffusionBValue",), ("MRDiffusionSequence", "DiffusionBValue")),
    "type": (("ImageType",), ("MRImageFrameTypeSequence", "FrameType")),
}  # fmt: skip
"""What may tell slices of one place apart, and where headers and frames say it."""
KEYWORDS = [
    *IDS,
    *_GEOMETRY,
    *FACTS,
    *(w[0] for ways in TRAITS.values() for w in ways if len(w) == 1),
]


class Plane(NamedTuple):
    """Where a slice lies in the patient: cosines of row and column, and its first voxel in mm."""

    orientation: tuple[float, ...]
    position: tuple[float, ...]


@dataclass(frozen=True)
class Slice:
    """One image as its header tells it; ids, dates and descriptions are raw and stay in here.

    Attributes:
        name: the file, as seen from the top of the tree.
        instance: the id of the file's content; copies of a file share it.
        number: what the scanner counted, None where it did not.
        spacing_mm: between rows and between columns.
        time_s: of a frame in a clip.
        traits: what may tell slices of one place apart; "" where the header is silent.
        facts: columns of the manifest.
    """

    name: str
    frame: int
    frames: int
    patient: str
    study: str
    series: str
    instance: str
    number: int | None
    shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    plane: Plane | None
    time_s: float | None
    description: str
    date: str
    site: str
    traits: dict[str, str]
    facts: dict[str, str]

    @property
    def folder(self) -> str:
        return PurePosixPath(self.name).parent.as_posix()

    @property
    def is_localiser(self) -> bool:
        return "LOCALIZER" in self.traits["type"].upper()


def read_slices(name: str, header: Dataset) -> list[Slice]:
    """Return a slice a frame.

    Args:
        name: the file, as seen from the top of the tree.
        header: read with `KEYWORDS` at least.

    Raises:
        Exception: of many kinds, for a damaged header; the texts may quote it.
    """
    frames = count_frames(header)
    if frames > _MOST_FRAMES:  # a header may tell of any number, and each becomes a row
        raise ValueError("more frames than a file can hold")
    own = header.get("PerFrameFunctionalGroupsSequence")
    if own and len(own) != frames:
        raise ValueError("frames and their descriptions differ in number")
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])[:1]
    return [
        _read_slice(name, header_of_frame(header, frame), frame, frames, [*own[frame : frame + 1],
                    *shared] if own else shared)
        for frame in range(frames)
    ]  # fmt: skip


def _read_slice(name: str, view: Dataset, frame: int, frames: int, groups: list[Dataset]) -> Slice:
    facts = read_header_facts(view)
    spacing = facts.pop("spacing_y_mm"), facts.pop("spacing_x_mm")
    step_ms = _numbers(view.get("FrameTime"), 1) if frames > 1 else None
    # A clip may have a place of its own, which says nothing of its frames.
    lies = frames == 1 or "PerFrameFunctionalGroupsSequence" in view
    position = _numbers(view.get("ImagePositionPatient"), 3) if lies else None
    orientation = _numbers(view.get("ImageOrientationPatient"), 6) if lies else None
    number = view.get("InstanceNumber")
    return Slice(
        name=name, frame=frame, frames=frames,
        patient=_text(view.get("PatientID")), study=_text(view.get("StudyInstanceUID")),
        series=_text(view.get("SeriesInstanceUID")), instance=_text(view.get("SOPInstanceUID")),
        number=None if number in (None, "") else int(number),
        shape=(int(view.Rows), int(view.Columns)),
        spacing_mm=(float(spacing[0]), float(spacing[1])) if all(spacing) else None,
        plane=Plane(orientation, position) if orientation and position else None,
        time_s=frame * step_ms[0] / 1000 if step_ms and step_ms[0] > 0 else None,
        description=_text(view.get("SeriesDescription")), date=_text(view.get("StudyDate")),
        site=_text(view.get("InstitutionName")),
        traits={trait: _tell([*groups, view], ways) for trait, ways in TRAITS.items()},
        facts=facts,
    )  # fmt: skip


def _tell(places: Sequence[Dataset], ways: Sequence[tuple[str, ...]]) -> str:
    """Return what the first of some ways answers, as text."""
    return next((text for text in (_text(_ask(places, way)) for way in ways) if text), "")


def _ask(places: Sequence[Dataset], way: tuple[str, ...]) -> Any:
    """Follow a way of keywords through the first items of sequences; the first answer counts."""
    for place in places:
        found: Any = place.get(way[0])
        if len(way) == 2:
            found = found[0].get(way[1]) if found else None
        if found not in (None, "", []):
            return found
    return None


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return so many finite numbers, None where there are others."""
    if value is None or value == "":
        return None
    numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    return tuple(numbers.tolist()) if len(numbers) == count and np.isfinite(numbers).all() else None


def _text(value: Any) -> str:
    if value is None:
        return ""
    several = not isinstance(value, (str, bytes, int, float)) and hasattr(value, "__iter__")
    return "\\".join(str(v).strip() for v in value) if several else str(value).strip()
