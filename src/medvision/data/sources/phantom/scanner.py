"""The phantom's scanners: blur, calibration, and the noise of counted photons.

Filtered back-projection is linear, so image and noise are made apart and added: the image is the
true body seen through the point spread function, the noise is reconstructed from the counting noise
of each ray, whose variance grows with what the ray has passed. That gives CT's own noise: grainy,
correlated, stronger in the middle, streaked along the body's long axis.

Reference: Kak and Slaney, Principles of Computerized Tomographic Imaging, 1988, chapters 3 and 5.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medvision.data.sources.phantom.anatomy import (
    AIR_HU,
    FIELD_OF_VIEW_MM,
    Ellipsoid,
    ScanGrid,
    Volume,
)

VIEWS = 72
_WATER_PER_MM = 0.0195  # attenuation at about 70 keV
_REFERENCE_MM = 280.0  # of water: the path at which a site's noise is stated


@dataclass(frozen=True)
class Site:
    """One scanner and its protocol.

    Attributes:
        noise_hu: standard deviation in the middle of a body of 280 mm water.
        psf_mm: standard deviation of the point spread function of its kernel.
        gain: error of its calibration: attenuation is read `gain` times too high.
    """

    name: str
    noise_hu: float
    psf_mm: float
    gain: float


SITES = (Site("A", 11.0, 2.6, 1.0), Site("B", 17.0, 3.4, 1.012))


def acquire(
    hu: Volume, tissues: Iterable[Ellipsoid], grid: ScanGrid, site: Site, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Scan true CT numbers `[S, H, W]`; `rng` draws the noise, independent in every slice."""
    sigma = site.psf_mm / grid.pixel_mm
    seen = np.stack([cv2.GaussianBlur(one, (0, 0), sigma) for one in hu])
    seen = AIR_HU + np.float32(site.gain) * (seen - np.float32(AIR_HU))
    seen += _reconstruct_noise(_paths(tissues, grid), grid, site, rng)
    pixels: NDArray[np.int16] = np.clip(np.rint(seen), -1024, 3071).astype(np.int16)
    return pixels


def _rays(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the angles of the views and the places of the detector's bins in mm."""
    bins = int(np.ceil(1.45 * size))
    angles = np.arange(VIEWS, dtype=np.float32) * np.float32(np.pi / VIEWS)
    places = (np.arange(bins, dtype=np.float32) - (bins - 1) / 2) * (FIELD_OF_VIEW_MM / size)
    return angles, places


def _paths(tissues: Iterable[Ellipsoid], grid: ScanGrid) -> Volume:
    """Line integrals of attenuation `[V, bins, S]`, exact for ellipses, of the large tissues."""
    angles, places = _rays(grid.size)
    total = np.zeros((len(angles), len(places), grid.slices), np.float32)
    for tissue in tissues:
        if tissue.under is None:
            continue
        a, b, _ = tissue.semi
        width = np.hypot(a * np.cos(angles - tissue.angle), b * np.sin(angles - tissue.angle))
        middle = tissue.center[0] * np.cos(angles) + tissue.center[1] * np.sin(angles)
        offset = ((places - middle[:, None]) / width[:, None])[:, :, None]
        chord = np.sqrt(np.maximum(tissue.extent(grid.planes) ** 2 - offset**2, 0))
        density = (tissue.hu - tissue.under) / 1000 * _WATER_PER_MM
        total += np.float32(2 * a * b * density) * chord / width[:, None, None]
    return total


def _reconstruct_noise(
    paths: Volume, grid: ScanGrid, site: Site, rng: np.random.Generator
) -> Volume:
    bins = paths.shape[1]
    response, gain = _kernel(grid.size, site.psf_mm)
    # A count of N photons errs by 1/sqrt(N), and N falls as exp(-path).
    rays = rng.standard_normal(paths.shape, dtype=np.float32)
    rays *= np.float32(site.noise_hu / gain) * np.exp((paths - _WATER_PER_MM * _REFERENCE_MM) / 2)
    spectrum = np.fft.rfft(rays, 2 * bins, axis=1) * response[:, None]
    # Twice as many points come back, so that taking the nearest one to a pixel is exact enough.
    filtered = 2 * np.fft.irfft(spectrum, 4 * bins, axis=1)[:, : 2 * bins]
    noise = _back_projector(grid.size) @ filtered.reshape(-1, grid.slices)
    return np.asarray(noise.T, np.float32).reshape(grid.slices, grid.size, grid.size)


@lru_cache(maxsize=8)
def _kernel(size: int, psf_mm: float) -> tuple[NDArray[np.float32], float]:
    """Return the filter's frequency response and the noise a unit of noise in each ray makes.

    The response is the ramp times the transform of the point spread function, for rays padded to
    twice their number. By Parseval the noise is the root of its mean square, summed over views.
    """
    bins = len(_rays(size)[1])
    frequency = np.fft.fftfreq(2 * bins, FIELD_OF_VIEW_MM / size)
    response = np.abs(frequency) * np.exp(-2 * (np.pi * psf_mm * frequency) ** 2)
    gain = np.sqrt(VIEWS * np.mean(response**2))
    return response[: bins + 1].astype(np.float32), float(gain)


@lru_cache(maxsize=2)
def _back_projector(size: int) -> sparse.csr_array:
    """Matrix `[H·W, V·2·bins]` that sums, for each pixel, the nearest ray of each view."""
    angles, places = _rays(size)
    axis = ScanGrid(1, size).axis
    along = axis[:, None, None] * np.sin(angles) + axis[:, None] * np.cos(angles)
    nearest = np.rint((along - places[0]) / (places[1] - places[0]) * 2).astype(np.int32)
    columns = nearest.reshape(-1, VIEWS) + np.arange(VIEWS, dtype=np.int32) * (2 * len(places))
    starts = np.arange(size * size + 1, dtype=np.int32) * VIEWS
    ones = np.ones(columns.size, np.float32)
    shape = (size * size, VIEWS * 2 * len(places))
    return sparse.csr_array((ones, columns.ravel(), starts), shape=shape)
