"""Images that may be copies: those of like amplitude spectra, wherever their content is shifted.

Reference:
    Reddy, Chatterji: An FFT-Based Technique for Translation, Rotation, and Scale-Invariant Image
    Registration, IEEE Trans. Image Process., 1996: the spectrum of amplitudes does not change by
    shifts, and turns with the image.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from medvision.data.audit.alignment import hann
from medvision.data.audit.texture import SIDE, Texture
from medvision.data.splits.groups import Ints

NEIGHBOURS = 5
_LOWEST, _HIGHEST = 2, 14  # cycles a side
_WIDTH = 2 * _HIGHEST + 1
_BLOCK = 256
_TURNS = ((0, 2), (4, 6), (5, 7), (1, 3))
"""The turns of an image that leave its spectrum as it is, mirror, transpose and turn it."""

Spectra = NDArray[np.float32]


def find_candidates(
    textures: Sequence[Texture], barred: Sequence[Ints], asking: Ints
) -> tuple[Ints, list[tuple[int, ...]]]:
    """Return the pairs worth aligning, the smaller first, and the turns to try of each.

    Args:
        textures: of each row.
        barred: numbers a row; rows that have one in common are not compared.
        asking: rows that look for their like among all.
    """
    take = min(NEIGHBOURS, len(textures) - 1)
    if take < 1 or not len(asking):
        return np.empty((0, 2), dtype=np.int64), []
    spectra = _measure_spectra(textures)
    other = spectra.transpose(0, 2, 1)
    turned = [_flatten(way) for way in (spectra, spectra[:, :, ::-1], other, other[:, :, ::-1])]
    firsts, seconds, ways = [], [], []
    for start in range(0, len(asking), _BLOCK):
        block = asking[start : start + _BLOCK]
        way, alike = _compare_spectra([some[block] for some in turned], turned[0])
        for kind in barred:
            alike[kind[block, None] == kind] = -np.inf
        near = np.argpartition(-alike, take - 1, axis=1)[:, :take]
        row = np.repeat(np.arange(len(near)), take)
        near = near.ravel()
        fits = np.isfinite(alike[row, near])
        firsts.append(block[row[fits]])
        seconds.append(near[fits])
        ways.append(way[row, near][fits])
    both = np.stack([np.concatenate(firsts), np.concatenate(seconds)], axis=1)
    pairs, at = np.unique(np.sort(both, axis=1), axis=0, return_index=True)
    return pairs.astype(np.int64), [_TURNS[way] for way in np.concatenate(ways)[at]]


def _compare_spectra(turned: Sequence[Spectra], every: Spectra) -> tuple[NDArray[np.int8], Spectra]:
    """Return by which of its turns each row is most like each of all, and how much, `[B,N]`."""
    alike = turned[0] @ every.T
    best = np.zeros(alike.shape, np.int8)
    for number, way in enumerate(turned[1:], 1):
        found = way @ every.T
        best[found > alike] = number
        np.maximum(alike, found, out=alike)
    return best, alike


def _flatten(spectra: Spectra) -> Spectra:
    """Return `[N,D]` of length 1: half of a spectrum, for the other half is its mirror image."""
    return np.ascontiguousarray(spectra.reshape(len(spectra), -1)[:, : _WIDTH**2 // 2]) * 2**0.5


def _measure_spectra(textures: Sequence[Texture]) -> Spectra:
    """Return `[N,29,29]`: each amplitude against others of its frequency; of length 1."""
    blocks = range(0, len(textures), _BLOCK)
    return np.concatenate([_measure_block(textures[at : at + _BLOCK]) for at in blocks])


def _measure_block(textures: Sequence[Texture]) -> Spectra:
    drawn = np.stack(textures).astype(np.float32) * hann(SIDE)
    strong = np.abs(scipy.fft.fftshift(scipy.fft.fft2(drawn), axes=(1, 2)))
    smooth = np.stack([cv2.GaussianBlur(one, (0, 0), 1) for one in strong])
    middle = slice(SIDE // 2 - _HIGHEST, SIDE // 2 + _HIGHEST + 1)
    strong = np.sqrt(smooth[:, middle, middle]).reshape(len(drawn), -1)
    y, x = np.mgrid[-_HIGHEST : _HIGHEST + 1, -_HIGHEST : _HIGHEST + 1]
    frequency = np.hypot(y, x).ravel()
    ring = np.round(frequency).astype(int)
    rings = np.eye(ring.max() + 1, dtype=np.float32)[ring]
    strong -= (strong @ rings / rings.sum(axis=0))[:, ring]
    strong[:, (frequency < _LOWEST) | (frequency > _HIGHEST)] = 0
    strong /= np.linalg.norm(strong, axis=1, keepdims=True) + 1e-12
    return np.asarray(strong.reshape(len(drawn), *y.shape), dtype=np.float32)
