"""From the phantom's ellipsoids to pixels: true CT numbers, before any scanner has seen them."""

import cv2
import numpy as np

from medvision.data.sources.phantom.anatomy import (
    AIR_HU,
    COVERAGE_MM,
    FIELD_OF_VIEW_MM,
    Body,
    Ellipsoid,
    ScanGrid,
    Volume,
)

Window = tuple[slice, slice, slice]
NOWHERE = (slice(0), slice(0), slice(0))
_UNEVEN_MM = 4.0
_STRAY_MM = 4 * _UNEVEN_MM


def paint(body: Body, grid: ScanGrid, rng: np.random.Generator) -> Volume:
    """Return the true CT numbers; `rng` draws the tissues' texture and their uneven outlines."""
    canvas = _Canvas(grid, rng)
    for tissue in body.wall:
        canvas.lay(tissue)
    cavity = np.zeros_like(canvas.hu)
    window = canvas.window(body.wall[-1])
    cavity[window] = canvas.share(body.wall[-1], window)
    for tissue in body.organs:
        canvas.lay(tissue, cavity)
    for tissue in body.bones:
        canvas.lay(tissue)
    texture = 0.75 * _draw_field(rng, grid, 20) + 0.66 * _draw_field(rng, grid, 9)
    hu = canvas.hu + canvas.strength * texture
    for lesion in body.lesions:
        depth = (lesion.radius_mm - lesion.distance(grid)) / (0.3 * lesion.radius_mm)
        hu += np.float32(lesion.contrast_hu) * np.clip(depth + 0.5, 0, 1)
    return hu


class _Canvas:
    """CT numbers and strength of texture `[S, H, W]` under work; outlines follow uneven x and y."""

    def __init__(self, grid: ScanGrid, rng: np.random.Generator) -> None:
        self.grid = grid
        self.x = grid.axis + np.float32(_UNEVEN_MM) * _draw_field(rng, grid, 56)
        self.y = grid.axis[:, None] + np.float32(_UNEVEN_MM) * _draw_field(rng, grid, 56)
        self.hu = np.full(self.x.shape, AIR_HU, np.float32)
        self.strength = np.zeros_like(self.hu)

    def lay(self, tissue: Ellipsoid, room: Volume | None = None) -> None:
        """Lay a tissue over what is there, only where there is `room` (0..1)."""
        window = self.window(tissue)
        if window == NOWHERE:
            return
        share = self.share(tissue, window)
        if room is not None:
            share *= room[window]
        for layer, value in ((self.hu, tissue.hu), (self.strength, tissue.texture)):
            layer[window] += share * (np.float32(value) - layer[window])

    def share(self, tissue: Ellipsoid, window: Window) -> Volume:
        """Share of each pixel that is this tissue: 0 or 1 but for the rim, one pixel wide."""
        extent = tissue.extent(self.grid.planes[window[0]])[:, None, None]
        inside = extent - tissue.distance(self.x[window], self.y[window])
        inside *= np.float32(min(tissue.semi[:2]) / self.grid.pixel_mm)
        share: Volume = np.minimum(np.maximum(inside + np.float32(0.5), 0), 1)
        return share

    def window(self, tissue: Ellipsoid) -> Window:
        """Slices, rows and columns a tissue may cover; its outline strays a little."""
        cut = np.flatnonzero(np.abs(self.grid.planes - tissue.center[2]) < tissue.semi[2])
        if not cut.size:
            return NOWHERE
        across, down = tissue.reach()
        columns = self.grid.span(tissue.center[0], across + _STRAY_MM)
        rows = self.grid.span(tissue.center[1], down + _STRAY_MM)
        return slice(int(cut[0]), int(cut[-1]) + 1), rows, columns


def _draw_field(rng: np.random.Generator, grid: ScanGrid, scale_mm: float) -> Volume:
    """Draw a smooth random field of unit variance that varies over `scale_mm` in 3-D."""
    knots = int(np.ceil(FIELD_OF_VIEW_MM / scale_mm)) + 1
    levels = int(np.ceil(COVERAGE_MM / scale_mm)) + 2
    coarse = rng.standard_normal((levels, knots, knots), dtype=np.float32)
    height = (grid.planes + COVERAGE_MM / 2) / scale_mm
    level = height.astype(int)
    part = (height - level)[:, None, None]
    mixed = (1 - part) * coarse[level] + part * coarse[level + 1]
    mixed /= np.sqrt(part**2 + (1 - part) ** 2)
    fine = [cv2.resize(one, (grid.size, grid.size), interpolation=cv2.INTER_CUBIC) for one in mixed]
    # A cubic between knots keeps 0.6 of the variance.
    return np.stack(fine).astype(np.float32) / np.float32(0.77)
