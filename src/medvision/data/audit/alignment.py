"""Two textures laid over each other, and how much of one is found in the other."""

from collections.abc import Sequence
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
_FEWEST = 12  # blocks
_COVERED = 0.45  # of one texture by the other
_STRETCH = 1.4
_QUIET = 0.15  # of the median variance of blocks: below, there is nothing to compare
_AGREEING = 0.3  # letters and frames may hide so much: 70 % of the blocks agree at least so well
_FIRST, _MORE = 10, 40  # steps of the exact alignment; more only where it begins to agree
_HOPE = 0.65

_Reals = NDArray[np.float32]


class Lie(NamedTuple):
    """How one texture lies over another.

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


def lay_over(
    first: Sequence[Texture], second: Sequence[Texture], turns: Sequence[Sequence[int]]
) -> list[Lie]:
    """Find how the second of each pair lies over the first, by shifts, scales and its turns."""
    window = hann(_HALF)
    fixed = np.stack([_halve(texture) for texture in first]) * window
    length, waves = np.linalg.norm(fixed, axis=(1, 2)), scipy.fft.rfft2(fixed)
    scaled = np.stack([_scale(_halve(texture)) for texture in second])  # [P,scales,H,W]
    best = [Lie(0.0, 0, 1.0, 0, 0)] * len(first)
    for number in range(8):
        asked = np.flatnonzero([number in some for some in turns])
        if not len(asked):
            continue
        moving = turn(scaled[asked], number) * window
        found = scipy.fft.irfft2(
            waves[asked, None] * np.conj(scipy.fft.rfft2(moving)), s=(_HALF, _HALF)
        )
        found /= (length[asked, None] * np.linalg.norm(moving, axis=(2, 3)) + 1e-9)[..., None, None]
        near = np.roll(found, (_REACH, _REACH), (2, 3))[..., : 2 * _REACH + 1, : 2 * _REACH + 1]
        flat = near.reshape(len(asked), -1)
        peaks = np.abs(flat).argmax(axis=1)
        places = zip(*np.unravel_index(peaks, near.shape[1:]), strict=True)
        for row, value, (scale, down, right) in zip(
            asked.tolist(), flat[np.arange(len(flat)), peaks].tolist(), places, strict=True
        ):
            if abs(value) > abs(best[row].correlation):
                shift = (2 * (int(down) - _REACH), 2 * (int(right) - _REACH))
                best[row] = Lie(value, number, _SCALES[scale], *shift)
    return best


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


def agree(first: Texture, second: Texture, lie: Lie) -> float:
    """Return how well 70 % of the places of two textures agree, -1 to 1, laid over exactly.

    Reference:
        Evangelidis, Psarakis: Parametric Image Alignment Using Enhanced Correlation Coefficient
        Maximization, PAMI 2008, with affine maps.
    """
    fixed = first.astype(np.float32)
    moving = np.ascontiguousarray(turn(second, lie.turn)).astype(np.float32)
    moving *= np.sign(lie.correlation)
    inner = np.zeros((SIDE, SIDE), np.float32)
    inner[_EDGE:-_EDGE, _EDGE:-_EDGE] = 1
    way = _map(SIDE, lie.scale, lie.down, lie.right)
    best = _compare_blocks(fixed, moving, way, inner)
    for steps in (_FIRST, _MORE):
        end = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-4)
        mask = inner.astype(np.uint8) * 255
        try:
            _, found = cv2.findTransformECC(
                fixed, moving, way.copy(), cv2.MOTION_AFFINE, end, mask, 3
            )
        except cv2.error:  # it does not converge: they do not agree that way
            break
        way = np.asarray(found, dtype=np.float32)
        best = max(best, _compare_blocks(fixed, moving, way, inner))
        if best < _HOPE:
            break
    return best


def _compare_blocks(fixed: _Reals, moving: _Reals, way: _Reals, inner: _Reals) -> float:
    sizes = np.linalg.svd(way[:, :2], compute_uv=False)
    if sizes.max() > _STRETCH or sizes.min() < 1 / _STRETCH:
        return -1.0
    shown = _warp(moving, way)
    held = (_warp(inner, way) > 0.99) * inner
    if held.mean() < _COVERED:
        return -1.0
    full = _sum_blocks(held)
    number = np.maximum(full, 1)
    mean, other = _sum_blocks(fixed * held) / number, _sum_blocks(shown * held) / number
    variance = _sum_blocks(fixed**2 * held) / number - mean**2
    variance_other = _sum_blocks(shown**2 * held) / number - other**2
    shared = _sum_blocks(fixed * shown * held) / number - mean * other
    used, strength = full > 0.6 * _BLOCK**2, np.maximum(variance, variance_other)
    if not used.any():
        return -1.0
    told = used & (strength > _QUIET * np.median(strength[used]))
    if told.sum() < _FEWEST:
        return -1.0
    correlation = shared / np.sqrt(np.maximum(variance * variance_other, 1e-6))
    return float(np.quantile(correlation[told], _AGREEING))


def _sum_blocks(values: _Reals) -> NDArray[np.float64]:
    inner = values[_EDGE:-_EDGE, _EDGE:-_EDGE].astype(np.float64)
    blocks = len(inner) // _BLOCK
    return np.asarray(inner.reshape(blocks, _BLOCK, blocks, _BLOCK).sum(axis=(1, 3)).ravel())
