"""Where slices lie: distances along the normal of the image plane, and what is odd about them.

Reference:
    DICOM PS3.3, C.7.6.2.1.1: the position is the centre of the first voxel, in mm of the patient;
    the orientation holds the direction cosines of a row and of a column.
"""

from collections.abc import Sequence

import numpy as np

_COSINE = 1e-3  # directions further apart are two orientations
_PLACE_MM = 1e-3  # slices nearer than this lie in one place; scanners write fewer digits
CHANNEL_MM = 1e-2  # series whose slices lie nearer than this show the same voxels
GAP = 1.5  # usual steps


def normal(orientation: Sequence[float]) -> np.ndarray:
    """Return row × column, the direction in which slices are counted, `[3]`.

    For axial slices as they are shown in radiology (row to the left, column to the back) it points
    to the head. Slices stored with one of both reversed are counted from the head.
    """
    return np.cross(orientation[:3], orientation[3:])


def is_plane(orientation: Sequence[float]) -> bool:
    """Tell whether a row and a column are unit vectors at a right angle, to two digits."""
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    products = np.array([row @ row - 1, column @ column - 1, row @ column])
    return bool((np.abs(products) < 2e-2).all())


def distances_mm(orientation: Sequence[float], positions: np.ndarray) -> np.ndarray:
    """Return how far along the normal each position `[S,3]` lies, in mm, `[S]`."""
    return np.asarray(positions @ normal(orientation), dtype=np.float64)


def number_orientations(orientations: np.ndarray) -> list[int]:
    """Number `[S,6]` cosines by the first slice of equal ones."""
    firsts: list[np.ndarray] = []
    numbers = []
    for cosines in orientations:
        alike = (n for n, first in enumerate(firsts) if np.abs(cosines - first).max() <= _COSINE)
        number = next(alike, len(firsts))
        firsts += [cosines] if number == len(firsts) else []
        numbers.append(number)
    return numbers


def find_places(mm: np.ndarray) -> np.ndarray:
    """Number the places of sorted distances `[S]`: slices with one number lie in one place."""
    return np.concatenate([[0], np.cumsum(np.diff(mm) > _PLACE_MM)])


def usual_step_mm(mm: np.ndarray) -> float | None:
    """Return the lower median of the steps between places; None for a single place.

    The lower one, so that of two unequal steps the longer can be told as a gap.
    """
    steps = np.sort(np.diff(mm))
    steps = steps[steps > _PLACE_MM]
    return float(steps[(len(steps) - 1) // 2]) if len(steps) else None


def find_gaps(mm: np.ndarray) -> list[tuple[int, float]]:
    """Return the rank before each gap and its step in mm, for sorted distances `[S]`."""
    usual = usual_step_mm(mm)
    if usual is None:
        return []
    steps = np.diff(mm)
    return [(int(rank), float(steps[rank])) for rank in np.flatnonzero(steps > GAP * usual)]


def furthest_mm(positions: np.ndarray, others: np.ndarray) -> float:
    """Return the largest distance between slices of one rank, `[S,3]` each, in mm."""
    return float(np.linalg.norm(positions - others, axis=1).max())
