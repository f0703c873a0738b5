"""Images that may be copies: those whose waves are of like strengths, wherever they are shown."""

from collections.abc import Sequence

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medvision.data.audit.alignment import hann
from medvision.data.audit.texture import SIDE, Texture
from medvision.data.splits.groups import Ints

NEIGHBOURS = 5
_SLOWEST, _FASTEST = 2, 14  # waves a side
_WIDTH = 2 * _FASTEST + 1
_BLOCK = 512
_TURNS = ((0, 2), (4, 6), (5, 7), (1, 3))
"""The turns of an image that leave its waves as they are, mirror, transpose and turn them."""

Waves = NDArray[np.float32]


def measure_waves(textures: Sequence[Texture]) -> Waves:
    """Return `[N,29,29]`: how strong each wave is, against others of its length; of length 1."""
    blocks = range(0, len(textures), _BLOCK)
    return np.concatenate([_measure_block(textures[at : at + _BLOCK]) for at in blocks])


def _measure_block(textures: Sequence[Texture]) -> Waves:
    drawn = np.stack(textures).astype(np.float32) * hann(SIDE)
    strong = np.abs(scipy.fft.fftshift(scipy.fft.fft2(drawn), axes=(1, 2)))
    smooth = np.stack([cv2.GaussianBlur(one, (0, 0), 1) for one in strong])
    middle = slice(SIDE // 2 - _FASTEST, SIDE // 2 + _FASTEST + 1)
    strong = np.sqrt(smooth[:, middle, middle]).reshape(len(drawn), -1)
    y, x = np.mgrid[-_FASTEST : _FASTEST + 1, -_FASTEST : _FASTEST + 1]
    length = np.hypot(y, x).ravel()
    ring = np.round(length).astype(int)
    rings = np.eye(ring.max() + 1, dtype=np.float32)[ring]
    strong -= (strong @ rings / rings.sum(axis=0))[:, ring]
    strong[:, (length < _SLOWEST) | (length > _FASTEST)] = 0
    strong /= np.linalg.norm(strong, axis=1, keepdims=True) + 1e-12
    return np.asarray(strong.reshape(len(drawn), *y.shape), dtype=np.float32)


def flatten(strengths: Waves) -> Waves:
    """Return `[N,D]` of length 1: half of the waves, for the other half is their mirror image."""
    return np.ascontiguousarray(strengths.reshape(len(strengths), -1)[:, : _WIDTH**2 // 2]) * 2**0.5


def find_candidates(strengths: Waves, barred: Sequence[Ints]) -> tuple[Ints, list[tuple[int, ...]]]:
    """Return the pairs worth laying over, the smaller first, and by which turns.

    Args:
        strengths: of the waves of each row.
        barred: numbers a row; rows that have one in common are not compared.
    """
    flat, other = flatten(strengths), strengths.transpose(0, 2, 1)
    turned = [flatten(way) for way in (strengths, strengths[:, :, ::-1], other, other[:, :, ::-1])]
    firsts, seconds, ways = [], [], []
    take = min(NEIGHBOURS, len(flat) - 1)
    for start in range(0, len(flat), _BLOCK):
        block = slice(start, start + _BLOCK)
        each = np.stack([way[block] @ flat.T for way in turned])
        way, alike = each.argmax(axis=0), each.max(axis=0)
        for kind in barred:
            alike[kind[block, None] == kind] = -np.inf
        near = np.argpartition(-alike, take - 1, axis=1)[:, :take]
        row = np.repeat(np.arange(len(near)), take)
        near = near.ravel()
        fits = np.isfinite(alike[row, near])
        firsts.append(row[fits] + start)
        seconds.append(near[fits])
        ways.append(way[row, near][fits])
    both = np.stack([np.concatenate(firsts), np.concatenate(seconds)], axis=1)
    pairs, at = np.unique(np.sort(both, axis=1), axis=0, return_index=True)
    return pairs.astype(np.int64), [_TURNS[way] for way in np.concatenate(ways)[at]]
