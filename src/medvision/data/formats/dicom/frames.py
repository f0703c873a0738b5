"""What an enhanced DICOM file says of each of its frames."""

from pydicom import Dataset

# Functional groups (PS3.3 C.7.6.16) and the single-frame attributes that they hold.
GROUPS: dict[str, tuple[str, ...]] = {
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
}


def count_frames(header: Dataset) -> int:
    """Return NumberOfFrames; a file without it holds one."""
    return int(header.get("NumberOfFrames") or 1)


def header_of_frame(header: Dataset, frame: int) -> Dataset:
    """Return the header with the rescale, window, spacing and place of one frame at its top level.

    A frame's own groups win over the shared ones, as in PS3.3 C.7.6.16.1. Files that are not
    enhanced come back as they are.

    Raises:
        IndexError: groups for fewer frames than there are.
    """
    shared = header.get("SharedFunctionalGroupsSequence")
    own = header.get("PerFrameFunctionalGroupsSequence")
    if not shared and not own:
        return header
    view = _copy(header)
    for holder in (*(shared or [])[:1], *([own[frame]] if own else [])):
        for group, names in GROUPS.items():
            _lift(view, holder.get(group), names)
    return view


def _copy(header: Dataset) -> Dataset:
    """Copy the outermost level; `copy.copy` of a file's header would share its elements."""
    view = Dataset()
    view.update({tag: header.get_item(tag) for tag in header.keys()})  # noqa: SIM118 -- it yields elements
    view.file_meta = header.file_meta
    view.set_original_encoding(*header.original_encoding)
    return view


def _lift(view: Dataset, group: list[Dataset] | None, names: tuple[str, ...]) -> None:
    """Bring the attributes of a group up; a group that is there replaces all it could hold."""
    if not group:
        return
    for name in names:
        if name in group[0]:
            view[name] = group[0][name]
        elif name in view:
            del view[name]
