"""NIfTI volumes in folders: a row a slice, along one axis of the patient."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from medvision.data.formats.nifti import AXES, SUFFIXES, VolumeFile
from medvision.data.sources.found import Found
from medvision.data.sources.recordings import bare_name, describe_recordings, find_recordings
from medvision.errors import MedvisionError, collect, did_you_mean

MM_DIGITS = 4
HEADERS = (".hdr",)  # of pairs, listed so that they are refused by name


class NiftiOptions(NamedTuple):
    """How volumes become slices."""

    axis: str
    slices: str
    fourth: str


def find(
    input: Path,  # noqa: A002 -- the command's own word
    *,
    columns: Mapping[str, str | None] | None = None,
    labels: str | Path | None = None,
    axis: Literal["auto", "axial", "coronal", "sagittal"] = "auto",
    slices: str = "all",
    masks: str | None = None,
    fourth: Literal["time", "channel"] = "time",
) -> Found:
    """Find the slices of all volumes below a folder; a series is one volume.

    `frame`, orientation and the order of `position` are those of `VolumeFile`. `position_mm` lies
    along the normal of the slices. Of the header only the geometry is kept.

    Args:
        input: the folder on top, or one file.
        columns: `patient=path` makes each file its own patient; or a pattern with one group. With
            `labels`, `label` and `series` may name columns of it.
        labels: see `describe_recordings`.
        axis: `auto` takes each volume's own: that of its largest spacing.
        slices: `all`, `every:N`, or `foreground`, those in which the mask marks something.
        masks: file of a volume's mask as seen from the volume, such as `{stem}_seg.nii.gz`; a
            mask is no volume of its own, and one frame number serves both.
        fourth: what a fourth axis is: `time`, a series each, or `channel` of one series.

    Raises:
        MedvisionError: nothing found, no patient rule, a setting that cannot be, masks that do
            not fit.
    """
    wishes = _check(NiftiOptions(axis, str(slices), fourth), masks)
    top, names, others = find_recordings(Path(input).absolute(), (*SUFFIXES, *HEADERS), "nifti")
    paired = _pair(top, names, masks) if masks else {}
    volumes = [name for name in names if str(top / name) not in set(paired.values())]
    found = describe_recordings(top, volumes, columns or {}, labels, "volume")
    opened = {name: _open(top / name) for name in volumes}
    _check_masks(paired, opened)
    table = _tabulate(found.table, opened, paired, wishes)
    doubts = Counter(volume.doubt for volume in opened.values() if volume and volume.doubt)
    facts = found.facts | {
        "skipped": others, "volumes": len(volumes), "axes": dict(Counter(table["axis"])),
        "orientation": dict(doubts), "without mask": len(volumes) - len(paired) if masks else 0,
    }  # fmt: skip
    return Found(table, found.dataset, found.patient_rule, facts=facts, made=("axis", "volume"))


def _check(wishes: NiftiOptions, masks: str | None) -> NiftiOptions:
    choices = {"axis": ("auto", *AXES), "fourth": ("time", "channel")}
    for key, known in choices.items():
        value = getattr(wishes, key)
        if value not in known:
            near = did_you_mean(str(value), known)
            raise MedvisionError(f"{key}={value} cannot be{near}; choose {', '.join(known)}")
    if wishes.slices not in ("all", "foreground") and not _step(wishes.slices):
        raise MedvisionError(f"slices={wishes.slices} cannot be; say all, foreground or every:N")
    if wishes.slices == "foreground" and masks is None:
        raise MedvisionError("slices=foreground needs masks, as in masks='{stem}_seg.nii.gz'")
    if masks is not None and "{stem}" not in masks:
        raise MedvisionError(f"masks={masks} names no volume; write {{stem}} for its name")
    return wishes


def _step(slices: str) -> int:
    word, _, number = slices.partition(":")
    return int(number) if word == "every" and number.isdecimal() else 0


def _pair(top: Path, names: Sequence[str], masks: str) -> dict[str, str]:
    """Return volume → mask, for those that have one."""
    known = {str(top / name) for name in names}
    paired = {}
    for name in names:
        path = top / name
        mask = os.path.normpath(path.parent / masks.replace("{stem}", bare_name(path.name)))
        if mask in known and mask != str(path):
            paired[name] = mask
    if not paired:
        raise MedvisionError(f"masks={masks} finds no mask in {top}; check the pattern")
    return paired


def _open(path: Path) -> VolumeFile | None:
    """Open a volume; what is broken is one row, and told when that is decoded."""
    try:
        return VolumeFile(path)
    except MedvisionError:
        return None


def _check_masks(paired: Mapping[str, str], opened: Mapping[str, VolumeFile | None]) -> None:
    """Refuse masks whose voxels are not those of their volume."""
    problems = []
    for name, mask in paired.items():
        volume = opened.get(name)
        try:
            problems += [] if volume is None else _misfit(volume, VolumeFile(Path(mask)))
        except MedvisionError as error:
            problems.append(str(error))
    if problems:
        raise collect(f"{len(problems)} masks do not fit", problems, "Draw or export them anew")


def _misfit(volume: VolumeFile, mask: VolumeFile) -> list[str]:
    sizes = [f"{' x '.join(map(str, (*v.shape, v.volumes)))}" for v in (mask, volume)]
    if sizes[0] != sizes[1]:
        return [f"{mask.path} has {sizes[0]} voxels, its volume {sizes[1]}"]
    near = 0.1 * min(volume.spacing_mm)
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.array(volume.shape) - 1
    apart = np.abs(corners @ (mask.affine - volume.affine).T).max()
    if apart > near or mask.axis != volume.axis:
        return [f"{mask.path} lies up to {apart:.3g} mm from its volume"]
    return []


def _tabulate(
    files: pd.DataFrame,
    opened: Mapping[str, VolumeFile | None],
    paired: Mapping[str, str],
    wishes: NiftiOptions,
) -> pd.DataFrame:
    """Give every slice a row with what its file's row says."""
    rows = [
        {"name": name, "mask": paired.get(name, ""), **row}
        for name in files["name"]
        for row in _slice(name, opened[name], paired.get(name), wishes)
    ]
    if not rows:
        raise MedvisionError(f"slices={wishes.slices} leaves no slice; say slices=all")
    table = files.merge(pd.DataFrame(rows), on="name").drop(columns="name")
    table["position"] = table["position"].astype("Int64")
    silent = [name for name in ("mask", "channel", "volume", "time_s") if name in table
              and (table[name].isna() | (table[name] == "")).all()]  # fmt: skip
    return table.drop(columns=silent)


def _slice(
    name: str, volume: VolumeFile | None, mask: str | None, wishes: NiftiOptions
) -> Iterator[dict[str, Any]]:
    if volume is None:
        yield {"frame": 0, "series": name, "position": None, "axis": ""}
        return
    axis = volume.axis if wishes.axis == "auto" else wishes.axis
    spacing_y_mm, spacing_x_mm = (round(mm, MM_DIGITS) for mm in volume.in_plane_mm(axis))
    many, channels = volume.volumes > 1, wishes.fourth == "channel"
    marked = VolumeFile(Path(mask)) if mask and wishes.slices == "foreground" else None
    for time in range(volume.volumes):
        for position in range(0, volume.slices(axis), _step(wishes.slices) or 1):
            frame = volume.number(axis, position, time)
            if wishes.slices == "foreground" and not (marked and marked.frame(frame).any()):
                continue
            yield {
                "frame": frame, "series": f"{name}#{time}" if many and not channels else name,
                "position": position,
                "position_mm": round(volume.position_mm(axis, position), MM_DIGITS),
                "spacing_y_mm": spacing_y_mm, "spacing_x_mm": spacing_x_mm, "axis": axis,
                "channel": str(time) if many and channels else "",
                "volume": str(time) if many and not channels else "",
                "time_s": time * volume.step_s if volume.step_s and not channels else None,
            }  # fmt: skip
