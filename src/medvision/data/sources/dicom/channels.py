"""Series of one study that show the same voxels become channels of one series."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from medvision.data.sources.dicom import geometry
from medvision.data.sources.dicom.series import Series


def join_channels(
    series: Sequence[Series], channels: Mapping[str, str]
) -> tuple[list[Series], int, list[str]]:
    """Give the series of each study the names of channels and one id.

    Args:
        series: without oddities.
        channels: name → glob on the folder's path or name, or on the series' description; case
            does not count.

    Returns:
        The named series, the number of those no glob fits, and why studies cannot be joined.
    """
    studies: dict[str, list[Series]] = {}
    for each in series:
        first = each.slices[0]
        studies.setdefault(first.study or f"\\{first.patient}", []).append(each)
    joined: list[Series] = []
    problems: list[str] = []
    unnamed = 0
    for uid, held in studies.items():
        fits = {
            name: [each for each in held if _fits(each, glob)] for name, glob in channels.items()
        }
        unnamed += sum(not any(each in fit for fit in fits.values()) for each in held)
        if not any(fits.values()):
            continue
        odd = _find_misfit(fits)
        if odd:
            problems.append(f"the study in {_place(held)!r} {odd}")
        else:
            joined += _join(uid, {name: fit[0] for name, fit in fits.items()})
    return joined, unnamed, problems


def _fits(series: Series, glob: str) -> bool:
    first = series.slices[0]
    texts = (first.folder, first.folder.rpartition("/")[2], first.description)
    return any(fnmatchcase(text.lower(), str(glob).lower()) for text in texts)


def _place(held: Sequence[Series]) -> str:
    """Name the innermost folder that holds the whole study."""
    paths = [each.slices[0].folder.split("/") for each in held]
    shared = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
    return "/".join(shared) or "."


def _find_misfit(fits: Mapping[str, Sequence[Series]]) -> str:
    """Say why these are no channels of one series; "" where they are."""
    for name, fit in fits.items():
        if len(fit) != 1:
            change = "widen its glob" if not fit else "narrow its glob"
            return f"has {len(fit)} series for channels.{name} ({change})"
    names = list(fits)
    first = fits[names[0]][0]
    for name in names[1:]:
        other = fits[name][0]
        if other is first:
            return f"has one series for channels.{names[0]} and channels.{name} (narrow one)"
        odd = _compare(first, other)
        if odd:
            return f"cannot join channels.{names[0]} and channels.{name}: {odd}"
    return ""


def _compare(series: Series, other: Series) -> str:
    """Say why two series do not show the same voxels; "" where they do."""
    if series.slices[0].patient != other.slices[0].patient:
        return "they are of two patients (mend the headers or the patient rule)"
    if series.mm is None or other.mm is None:
        return "there are no positions to compare (leave channels= out)"
    counts = len(series.slices), len(other.slices)
    if counts[0] != counts[1]:
        return f"{counts[0]} and {counts[1]} slices (resample one to the other first)"
    sizes = [f"{each.slices[0].shape[0]}x{each.slices[0].shape[1]}" for each in (series, other)]
    if sizes[0] != sizes[1]:
        return f"pixels {' and '.join(sizes)} (resample one to the other first)"
    far = geometry.furthest_mm(_corners(series), _corners(other))
    if far > geometry.CHANNEL_MM:
        return f"voxels lie up to {far:.3g} mm apart (register one to the other first)"
    return ""


def _corners(series: Series) -> np.ndarray:
    """Return three corners of each slice in mm, `[S*3,3]`: place, direction and spacing in one."""
    corners = []
    for each in series.slices:
        assert each.plane is not None  # as there are distances
        first, cosines = np.array(each.plane.position), np.array(each.plane.orientation)
        high, wide = np.array(each.spacing_mm or (1.0, 1.0)) * (np.array(each.shape) - 1)
        corners += [first, first + cosines[:3] * wide, first + cosines[3:] * high]
    return np.array(corners)


def _join(uid: str, named: Mapping[str, Series]) -> list[Series]:
    mm = next(iter(named.values())).mm  # rows of one place agree on it
    return [replace(each, uid=f"{uid}\\channels", channel=name, mm=mm)
            for name, each in named.items()]  # fmt: skip
