"""NIfTI volumes as slices: anatomical axes, scaled values, shown as radiologists expect."""

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel import Nifti1Header, Nifti2Header, imageglobals
from nibabel.arrayproxy import ArrayProxy
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from medvision.data.formats.arrays import tell_damage
from medvision.data.formats.images import COPY_AGAIN, check_pixels, refuse
from medvision.data.formats.limits import check_unpacked
from medvision.errors import MedvisionError

SUFFIXES = (".nii", ".nii.gz")
PAIRS = (".hdr", ".img")
AXES = ("sagittal", "coronal", "axial")  # along the first, second, third axis of RAS+
PLANE = 1_000_000
_UNITS_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
_UNITS_S = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
_GZIP_BEST = 1032  # deflate cannot pack more than so many bytes into one

imageglobals.logger.setLevel("CRITICAL")  # a broken header is told once, in our words


class VolumeFile:
    """The slices of one NIfTI file, the same ones in whatever order it stores its voxels.

    The axes are those nearest to the patient's (RAS+); nothing is resampled. Slices are counted
    from left to right, posterior to anterior, inferior to superior. Axial and coronal images have
    the patient's right on their left, sagittal ones anterior on their left; rows run from anterior
    to posterior (axial) or from superior to inferior.

    Frames: slice `k` of volume `t` along the file's own axis, that of the largest spacing, is
    `t * slices + k`. The other axes have numbers of their own, so that a path and a frame say all:
    sagittal from 1 000 000, coronal from 2 000 000, axial from 3 000 000.

    Attributes:
        shape: voxels from left to right, posterior to anterior, inferior to superior.
        volumes: length of the fourth axis (time, echo or contrast).
        step_s: seconds from volume to volume; None where the header does not say.
        spacing_mm: along the three axes.
        axis: the file's own.
        doubt: "" or what makes left and right uncertain.

    Raises:
        MedvisionError: missing, a broken header, no map of voxels to millimetres.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._voxels: np.ndarray | None = None
        try:
            self._read_header()
        except MedvisionError:
            raise
        except (OSError, EOFError, zlib.error) as error:
            raise tell_damage(path, error, "no NIfTI header can be read") from error
        except Exception as error:  # a header may hold anything
            raise _broken(path, "what it says cannot be") from error

    def __len__(self) -> int:
        return self.volumes * self.slices(self.axis)

    def slices(self, axis: str) -> int:
        """Count the slices of one volume."""
        return self.shape[AXES.index(axis)]

    def number(self, axis: str, position: int, volume: int = 0) -> int:
        """Return the frame of a slice."""
        inside = volume * self.slices(axis) + position
        return inside if axis == self.axis else PLANE * (AXES.index(axis) + 1) + inside

    def frame(self, number: int) -> np.ndarray:
        """Return one slice `[H,W]` or `[H,W,3]`; float32 where the header scales, else as stored.

        Raises:
            MedvisionError: no such frame, or the voxels are damaged.
        """
        plane, inside = divmod(number, PLANE)
        axis = AXES[plane - 1] if 1 <= plane <= 3 else self.axis
        held = self.volumes * self.slices(axis)
        if not (0 <= plane <= 3 and inside < held):
            way_out = f"it holds {held} {axis} slices, counted from {max(plane, 0) * PLANE}"
            raise refuse(self.path, f"has no frame {number}", way_out)
        width, height = (side for name, side in zip(AXES, self.shape, strict=True) if name != axis)
        check_pixels(self.path, height, width)
        volume, position = divmod(inside, self.slices(axis))
        voxels = self._load()[..., volume]
        shown = np.moveaxis(voxels, AXES.index(axis), 0)[position][::-1, ::-1].T
        return self._scale(shown)

    def in_plane_mm(self, axis: str) -> tuple[float, float]:
        """Return the spacing between rows and between columns."""
        columns, rows = (mm for name, mm in zip(AXES, self.spacing_mm, strict=True) if name != axis)
        return rows, columns

    def frame_mm(self, number: int) -> tuple[float, float]:
        """Return the spacing between rows and between columns of a frame."""
        plane = number // PLANE
        return self.in_plane_mm(AXES[plane - 1] if 1 <= plane <= 3 else self.axis)

    def position_mm(self, axis: str, position: int) -> float:
        """Return where a slice lies along its normal, in the scanner's millimetres."""
        own = AXES.index(axis)
        first, second = (self.affine[:3, k] for k in range(3) if k != own)
        normal = np.cross(first, second)
        normal *= np.sign(normal @ self.affine[:3, own]) / np.linalg.norm(normal)
        return float(normal @ (self.affine[:3, 3] + position * self.affine[:3, own]))

    def _read_header(self) -> None:
        with self._opened() as stream:
            start = stream.read(Nifti1Header.template_dtype.itemsize)
            kind = _choose_kind(self.path, start)
            block = start + stream.read(kind.template_dtype.itemsize - len(start))
        self._header = header = kind(block)
        _check_codes(self.path, header, kind(block, check=False))
        shape = _four_axes(self.path, header.get_data_shape())
        stored, (space, time) = header.get_best_affine(), header.get_xyzt_units()
        _check_affine(self.path, stored)
        self._turn = io_orientation(stored)
        if np.isnan(self._turn).any():
            raise _broken(self.path, "two of its axes point the same way")
        self.affine = stored @ inv_ornt_aff(self._turn, shape[:3])
        self.affine[:3] *= _UNITS_MM[space]
        sides = [shape[int(k)] for k in np.argsort(self._turn[:, 0])]
        self.shape: tuple[int, int, int] = (sides[0], sides[1], sides[2])
        self.volumes, self._stored_shape = shape[3], shape
        x, y, z = (float(mm) for mm in np.linalg.norm(self.affine[:3, :3], axis=0))
        self.spacing_mm = (x, y, z)
        self.axis = _choose_axis(self.shape, self.spacing_mm)
        step = float(header["pixdim"][4]) * _UNITS_S.get(time, math.nan)
        self.step_s = step if self.volumes > 1 and math.isfinite(step) and step > 0 else None
        self.doubt = _doubt(header)
        self._check_size()
        if len(self) > PLANE or self.volumes * max(self.shape) > PLANE:
            raise refuse(self.path, f"has over {PLANE} slices", "split it into several files")

    def _check_size(self) -> None:
        """Refuse a header that tells of more than the file can hold, before that is listed."""
        size = self._header.get_data_dtype().itemsize * math.prod(self._stored_shape)
        self._needed = self._header.get_data_offset() + size
        if self._needed > self.path.stat().st_size * (_GZIP_BEST if self._packed else 1):
            fault = f"is truncated (its header tells of {size} bytes of voxels)"
            raise refuse(self.path, fault, COPY_AGAIN)
        if self._packed:
            check_unpacked(self.path, self._needed)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        """Open the file, unpacked if it is packed, whatever its name ends in."""
        with self.path.open("rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            self._packed = packed
            yield gzip.GzipFile(fileobj=stream) if packed else stream  # type: ignore[misc]

    def _load(self) -> np.ndarray:
        """Return the voxels `[X,Y,Z,T]` as stored, turned to the patient's axes; no copy."""
        if self._voxels is None:
            try:
                with self._voxel_bytes() as stream:
                    stored = ArrayProxy(stream, self._header).get_unscaled()
            except MedvisionError:
                raise
            except Exception as error:
                reason = "the voxels cannot be read"
                raise tell_damage(self.path, error, reason) from error
            turned = apply_orientation(stored.reshape(self._stored_shape, order="F"), self._turn)
            self._voxels = np.asarray(turned)
        return self._voxels

    def _voxel_bytes(self) -> IO[bytes]:
        """Open the voxels; a packed file is read to its end and its checksum."""
        if not self._packed:
            return self.path.open("rb")
        with self._opened() as stream:
            content = stream.read(self._needed)
            while stream.read(2**20):
                pass
        if len(content) < self._needed:
            raise EOFError
        return BytesIO(content)

    def _scale(self, shown: np.ndarray) -> np.ndarray:
        if shown.dtype.names:  # RGB and RGBA voxels; alpha is dropped
            return np.stack([shown[name] for name in shown.dtype.names[:3]], axis=-1)
        slope, inter = self._header.get_slope_inter()
        if slope is None or (slope, inter) == (1, 0) or shown.dtype.kind not in "iuf":
            return shown
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
            scaled = shown.astype(np.float64) * slope + inter
            return np.asarray(scaled, dtype=np.float32)


def _choose_kind(path: Path, start: bytes) -> Any:
    """Tell NIfTI-1 from NIfTI-2 by the size their headers begin with, in either byte order."""
    if path.name.lower().endswith(PAIRS):
        raise refuse(path, "is half of a pair (.hdr and .img)", "convert the pair to one .nii.gz")
    if len(start) < Nifti1Header.template_dtype.itemsize:
        raise EOFError
    sizes = {int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")}
    if not sizes & {348, 540}:
        raise refuse(path, "is not a NIfTI file", "give .nii or .nii.gz files")
    return Nifti1Header if 348 in sizes else Nifti2Header


def _check_codes(path: Path, header: Any, stored: Any) -> None:
    """Refuse what nibabel would mend in silence, so that no orientation or spacing is made up."""
    if bytes(stored["magic"]).startswith((b"ni1", b"ni2")):
        raise refuse(path, "is half of a pair (.hdr and .img)", "convert the pair to one .nii.gz")
    if not all(0 <= int(stored[code]) <= 5 for code in ("qform_code", "sform_code")):
        raise _broken(path, "it says no known space")
    sides, steps = stored.get_data_shape()[:3], stored["pixdim"][1:4]
    unsaid = any(n > 1 and not step for n, step in zip(sides, steps, strict=False))
    if unsaid and not int(stored["sform_code"]):
        raise _broken(path, "its voxels have no size")
    if header.get_data_offset() < len(stored.binaryblock):
        raise _broken(path, "its voxels begin inside the header")


def _four_axes(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    sides = [int(side) for side in shape]
    while len(sides) > 4 and sides[-1] == 1:
        sides.pop()
    if len(sides) > 4:
        fault = f"has {len(sides)} axes ({' x '.join(map(str, sides))} voxels)"
        raise refuse(path, fault, "store at most three of space and one of time or channels")
    if min(sides, default=0) < 1:
        raise _broken(path, "it tells of no voxels")
    x, y, z, t = [*sides, 1, 1, 1][:4]
    return x, y, z, t


def _check_affine(path: Path, affine: np.ndarray) -> None:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or (lengths <= 0).any():
        raise _broken(path, "it does not say where its voxels lie")
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-3:
        raise _broken(path, "two of its axes point the same way")


def _choose_axis(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> str:
    """Choose the axis of the largest spacing, as scans are stored; of equal ones the axial.

    A flat volume is one slice.
    """
    flat = [name for name, side in zip(AXES, shape, strict=True) if side == 1]
    if len(flat) == 1:
        return flat[0]
    widest = max(spacing_mm)
    near = [name for name, mm in zip(AXES, spacing_mm, strict=True) if mm > 0.99 * widest]
    return near[-1]


def _doubt(header: Any) -> str:
    codes = int(header["qform_code"]), int(header["sform_code"])
    if codes == (0, 0):
        return "neither qform nor sform is set, so left and right are assumed"
    if all(codes):
        turns = [io_orientation(header.get_qform()), io_orientation(header.get_sform())]
        if not np.array_equal(*turns):
            return "qform and sform disagree about the orientation; sform counts"
    return ""


def _broken(path: Path, reason: str) -> MedvisionError:
    return refuse(path, f"has a broken NIfTI header ({reason})", "convert it anew from its source")
