"""Two textures laid over each other, and how much of one is found in the other."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medvision.data.audit.texture import SIDE, Texture

_HALF = SIDE // 2
_SCALES = (0.83, 0.91, 1.0, 1.1, 1.2)
_REACH = 5  # pixels of the halved texture: a sixth of a side
_EDGE = 4  # pixels of a texture that are not looked at: what was cut off ends there
_BLOCK = 8
_CORNER, _FEWEST = 0.3, 16  # so many blocks must change in all directions by so much
_ENOUGH, _MISSING = 30, 0.01  # the fewer blocks, the better must they agree
_TOP = 127  # of a texture
_COVERED = 0.45  # of one texture by the other
_SCALED, _STRETCHED = 1.4, 1.25  # up to so much, and in one direction more than in the other
_TURNED = np.cos(np.radians(10))  # at most
_AGREEING = 0.3  # letters and frames may hide so much: 70 % of the blocks agree at least so well
_FIRST, _MORE = 10, 40  # steps of the exact alignment; more only where it begins to agree
_HOPE = 0.65
_SYMMETRIC = 0.85  # chests reach 0.8

_BLOCKS = np.pad(
    np.repeat(np.eye((SIDE - 2 * _EDGE) // _BLOCK), _BLOCK, axis=1), ((0, 0), (_EDGE, _EDGE))
)

_Reals = NDArray[np.float32]


class Alignment(NamedTuple):
    """How one texture alignments over another.

    Attributes:
        correlation: of the two, negative where one is the inverse of the other.
        turn: quarter turns to the left, after a mirroring where it is 4 and more.
        scale: how much larger it is shown.
        down, right: in pixels of a texture.
    """

    correlation: float
    turn: int
    scale: float
    down: int
    right: int


def turn(textures: np.ndarray, number: int) -> np.ndarray:
    """Turn (0 to 3) or mirror and turn (4 to 7) textures `[…,H,W]`."""
    mirrored = textures[..., ::-1] if number >= 4 else textures
    return np.rot90(mirrored, number % 4, axes=(-2, -1))


def hann(side: int) -> _Reals:
    """Return `[side,side]` that falls to 0 at the edges."""
    one = np.hanning(side + 2)[1:-1]
    return np.outer(one, one).astype(np.float32)


def align(
    first: Sequence[Texture], second: Sequence[Texture], turns: Sequence[Sequence[int]]
) -> list[Alignment]:
    """Find how the second of each pair lies over the first, by shifts, scales and its turns."""
    window = hann(_HALF)
    fixed = np.stack([_halve(texture) for texture in first]) * window
    scaled = np.stack([_scale(_halve(texture)) for texture in second])  # [P,scales,H,W]
    best = [Alignment(0.0, 0, 1.0, 0, 0)] * len(first)
    for number in range(8):
        asked = np.flatnonzero([number in some for some in turns])
        if len(asked):
            moving = turn(scaled[asked], number) * window
            for row, found in zip(asked.tolist(), _correlate(fixed[asked], moving), strict=True):
                if abs(found.correlation) > abs(best[row].correlation):
                    best[row] = found._replace(turn=number)
    return best


def _correlate(fixed: _Reals, moving: _Reals) -> Iterator[Alignment]:
    """Find the shift and scale by which each of `moving` `[P,scales,H,W]` fits `[P,H,W]` best."""
    across = scipy.fft.rfft2(fixed)[:, None] * np.conj(scipy.fft.rfft2(moving))
    lengths = np.linalg.norm(fixed, axis=(1, 2))[:, None] * np.linalg.norm(moving, axis=(2, 3))
    found = scipy.fft.irfft2(across, s=(_HALF, _HALF)) / (lengths + 1e-9)[..., None, None]
    near = np.roll(found, (_REACH, _REACH), (2, 3))[..., : 2 * _REACH + 1, : 2 * _REACH + 1]
    for one in near:
        scale, down, right = np.unravel_index(np.abs(one).argmax(), one.shape)
        shift = 2 * (int(down) - _REACH), 2 * (int(right) - _REACH)
        yield Alignment(float(one[scale, down, right]), 0, _SCALES[scale], *shift)


def _halve(texture: Texture) -> _Reals:
    size = (_HALF, _HALF)
    return np.asarray(cv2.resize(texture.astype(np.float32), size, interpolation=cv2.INTER_AREA))


def _scale(texture: _Reals) -> _Reals:
    shown = [_warp(texture, _map(len(texture), scale, 0, 0)) for scale in _SCALES]
    return np.stack(shown)


def _map(side: int, scale: float, down: int, right: int) -> _Reals:
    """Return what takes pixels of the fixed texture to those of the moving one, `[2,3]`."""
    middle = (side - 1) / 2
    rows = [[1 / scale, 0, middle - (middle + right) / scale],
            [0, 1 / scale, middle - (middle + down) / scale]]  # fmt: skip
    return np.array(rows, dtype=np.float32)


def _warp(texture: _Reals, way: _Reals) -> _Reals:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(texture, way, texture.shape[::-1], flags=flags))


def measure_agreement(first: Texture, second: Texture, start: Alignment) -> float:
    """Return how well 70 % of the places of two textures agree, -1 to 1, aligned exactly.

    The fewer places have corners, the less they count.

    Reference:
        Evangelidis, Psarakis: Parametric Image Alignment Using Enhanced Correlation Coefficient
        Maximization, PAMI 2008, with affine maps.
    """
    fixed = first.astype(np.float32)
    moving = np.ascontiguousarray(turn(second, start.turn)).astype(np.float32)
    moving *= np.sign(start.correlation)
    inner = np.zeros((SIDE, SIDE), np.float32)
    inner[_EDGE:-_EDGE, _EDGE:-_EDGE] = 1
    mask = inner.astype(np.uint8) * 255
    way = _map(SIDE, start.scale, start.down, start.right)
    best = _compare_blocks(fixed, moving, way, inner)
    for steps in (_FIRST, _MORE):
        end = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-4)
        try:
            way = np.asarray(
                cv2.findTransformECC(fixed, moving, way, cv2.MOTION_AFFINE, end, mask, 3)[1],
                dtype=np.float32,
            )
        except cv2.error:  # it does not converge: they do not agree that way
            break
        best = max(best, _compare_blocks(fixed, moving, way, inner))
        if best < _HOPE:
            break
    return best


def is_textured(texture: Texture) -> bool:
    """Tell whether enough places of a texture have corners for an agreement to prove anything."""
    return int((_measure_corners(texture.astype(np.float32)) > _CORNER).sum()) >= _FEWEST


def is_symmetric(texture: Texture) -> bool:
    """Tell whether a texture agrees with itself mirrored or turned, as discs and rings do."""
    for number in range(1, 8):
        found = align([texture], [texture], [(number,)])[0]
        if (
            abs(found.correlation) > _HOPE
            and measure_agreement(texture, texture, found) > _SYMMETRIC
        ):
            return True
    return False


def _compare_blocks(fixed: _Reals, moving: _Reals, way: _Reals, inner: _Reals) -> float:
    """Return how well 70 % of the blocks agree that have corners: an edge fits along itself."""
    if not _is_plausible(way):
        return -1.0
    shown = _warp(moving, way)
    held = (_warp(inner, way) > 0.99) * inner
    if held.mean() < _COVERED:
        return -1.0
    full = _sum_blocks(held)
    told = (full > 0.6 * _BLOCK**2) & (_measure_corners(fixed) > _CORNER)
    if told.sum() < _FEWEST:
        return -1.0
    number = np.maximum(full, 1)
    mean, other = _sum_blocks(fixed * held) / number, _sum_blocks(shown * held) / number
    variance = _sum_blocks(fixed**2 * held) / number - mean**2
    variance_other = _sum_blocks(shown**2 * held) / number - other**2
    shared = _sum_blocks(fixed * shown * held) / number - mean * other
    correlation = shared / np.sqrt(np.maximum(variance * variance_other, 1e-6))
    missing = max(_ENOUGH - int(told.sum()), 0)
    return float(np.quantile(correlation[told], _AGREEING)) - _MISSING * missing


def _is_plausible(way: _Reals) -> bool:
    """Tell whether copies are made so: any three spots fit any other three by some affine map."""
    left, sizes, right = np.linalg.svd(way[:, :2])
    turned = (left @ right)[0, 0]
    largest, smallest = sizes.tolist()
    return bool(
        smallest >= 1 / _SCALED and largest <= _SCALED
        and largest <= _STRETCHED * smallest and turned >= _TURNED
    )  # fmt: skip


def _measure_corners(texture: _Reals) -> NDArray[np.float64]:
    """Return how much each block changes in the direction in which it changes least.

    Reference:
        Shi, Tomasi: Good Features to Track, CVPR 1994.
    """
    right, down = (cv2.Sobel(texture, cv2.CV_32F, *axis) / _TOP for axis in ((1, 0), (0, 1)))
    across, along, both = (
        _sum_blocks(product) / _BLOCK**2 for product in (right**2, down**2, right * down)
    )
    return (across + along - np.hypot(across - along, 2 * both)) / 2


def _sum_blocks(values: _Reals) -> NDArray[np.float64]:
    return np.asarray(_BLOCKS @ values.astype(np.float64) @ _BLOCKS.T).ravel()
