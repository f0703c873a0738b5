"""Where the pixels go: matrices and boxes, in numpy, the same for both backends."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SHOWN = 0.25  # share of its area that a box must keep inside the image


def linear(
    turn: Array,
    shear: Array,
    scale_y: Array,
    scale_x: Array,
    mirror_y: NDArray[np.bool_],
    mirror_x: NDArray[np.bool_],
    quarters: Array,
) -> Array:
    """Return `[B,2,2]` on (x, y): mirror, quarter turns, scale, shear, turn (radians), in order.

    Mirrors and quarter turns alone give exact integers, so that they only permute pixels.
    """
    exact = np.array([0.0, 1.0, 0.0, -1.0])
    sine, cosine = (exact[(quarters.astype(int) + step) % 4] for step in (0, 1))
    flip_x, flip_y = 1.0 - 2.0 * mirror_x, 1.0 - 2.0 * mirror_y
    a, b = scale_x * cosine * flip_x, -scale_x * sine * flip_y
    c, d = scale_y * sine * flip_x, scale_y * cosine * flip_y
    skew = np.tan(shear)
    a, b = a + skew * c, b + skew * d
    sine, cosine = np.sin(turn), np.cos(turn)
    return _matrices(
        cosine * a - sine * c, cosine * b - sine * d, sine * a + cosine * c, sine * b + cosine * d
    )


def source_matrix(linear: Array, shift_y: Array, shift_x: Array, size: tuple[int, int]) -> Array:
    """Return `[B,2,3]` from output pixel (x, y) to source pixel, about the image's centre.

    Args:
        linear: `[B,2,2]`, source to output.
        shift_y: `[B]` pixels that the content moves down.
        shift_x: `[B]` pixels that the content moves right.
        size: Height and width.
    """
    a, b, c, d = linear[:, 0, 0], linear[:, 0, 1], linear[:, 1, 0], linear[:, 1, 1]
    inverse = _matrices(d, -b, -c, a) / (a * d - b * c)[:, None, None]
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    to_x, to_y = x + shift_x, y + shift_y
    matrix = np.empty((len(linear), 2, 3))
    matrix[:, :, :2] = inverse
    matrix[:, 0, 2] = x - inverse[:, 0, 0] * to_x - inverse[:, 0, 1] * to_y
    matrix[:, 1, 2] = y - inverse[:, 1, 0] * to_x - inverse[:, 1, 1] * to_y
    return matrix


def unit_matrix(matrix: Array, size: tuple[int, int]) -> Array:
    """Rewrite pixel matrices `[B,2,3]` in torch's coordinates: -1..1 between the outer edges."""
    height, width = size
    side = np.array([width, height], dtype=float)
    middle = (side - 1) / 2
    linear = matrix[:, :, :2] * side[None, None, :] / side[None, :, None]
    offset = matrix[:, :, :2] @ middle + matrix[:, :, 2]
    return np.concatenate([linear, ((2 * offset + 1) / side - 1)[:, :, None]], axis=2)


def boxes(unit: dict[str, Array], erase: float, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return `[B,4]` y0, y1, x0, x1 of a box that covers up to `erase` of the area, inside it."""
    share = np.sqrt(erase * unit["erase"])
    height, width = np.rint(share * size[0]), np.rint(share * size[1])
    top = np.floor(unit["erase_y"] * (size[0] - height + 1))
    left = np.floor(unit["erase_x"] * (size[1] - width + 1))
    return np.stack([top, top + height, left, left + width], axis=1).astype(np.int64)


def move_boxes(
    boxes: NDArray[np.float32], matrix: Array, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Move boxes as their images are: the box of the four moved corners, clipped.

    Args:
        boxes: `[M,D]`; the first four numbers are x0, y0, x1, y1 from the image's outer edges.
        matrix: `[M,2,3]`, from output pixel to source pixel.
        size: height and width of the images.

    Returns:
        the boxes, and which of them stay (`clip_boxes`).
    """
    inverse = np.linalg.inv(matrix[:, :, :2])
    corners = boxes[:, [[0, 1], [2, 1], [0, 3], [2, 3]]].astype(float) - 0.5  # [M,4,2]
    moved = np.einsum("mij,mkj->mki", inverse, corners - matrix[:, None, :, 2]) + 0.5
    placed = boxes.copy()
    placed[:, :2], placed[:, 2:4] = moved.min(axis=1), moved.max(axis=1)
    return clip_boxes(placed, size)


def clip_boxes(
    boxes: NDArray[np.float32], size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Cut boxes `[M,D]` at the image's edges; who loses most of its area does not stay."""
    clipped = boxes.copy()
    clipped[:, 0:4:2] = clipped[:, 0:4:2].clip(0, size[1])
    clipped[:, 1:4:2] = clipped[:, 1:4:2].clip(0, size[0])
    return clipped, _areas(clipped) > SHOWN * _areas(boxes)


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((boxes[:, 2:4] - boxes[:, :2]).prod(axis=1))


def _matrices(a: Array, b: Array, c: Array, d: Array) -> Array:
    rows = np.empty((len(a), 2, 2))
    rows[:, 0, 0], rows[:, 0, 1], rows[:, 1, 0], rows[:, 1, 1] = a, b, c, d
    return rows
