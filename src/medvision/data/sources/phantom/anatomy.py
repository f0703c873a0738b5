"""The phantom's patients: an upper abdomen of ellipsoids in Hounsfield units, and its lesions.

All lengths are in mm. x points to the image's right (the patient's left), y to the back, z to the
head; the origin is the middle of the body and of the scanned range.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]  # [S, H, W]
Point = tuple[float, float, float]

FIELD_OF_VIEW_MM = 352.0
COVERAGE_MM = 72.0
AIR_HU = -1000.0


@dataclass(frozen=True)
class ScanGrid:
    """Where the pixels of one scan lie; `direction` is +1 scanned towards the head, -1 away."""

    slices: int
    size: int
    direction: int = 1

    @property
    def pixel_mm(self) -> float:
        return FIELD_OF_VIEW_MM / self.size

    @property
    def spacing_mm(self) -> float:
        return COVERAGE_MM / self.slices

    @cached_property
    def planes(self) -> NDArray[np.float32]:
        """Height z of each slice in the order of scanning."""
        steps = np.arange(self.slices) - (self.slices - 1) / 2
        return (self.direction * self.spacing_mm * steps).astype(np.float32)

    @cached_property
    def axis(self) -> NDArray[np.float32]:
        """Pixel centres along x, and along y."""
        steps = np.arange(self.size) - (self.size - 1) / 2
        return (self.pixel_mm * steps).astype(np.float32)

    def span(self, middle: float, reach: float) -> slice:
        """Pixels from `middle - reach` to `middle + reach` along x or y, cut at the edge."""
        low, high = ((middle + end * reach) / self.pixel_mm + self.size / 2 for end in (-1, 1))
        return slice(max(0, int(low)), max(0, min(self.size, int(high) + 1)))


@dataclass(frozen=True)
class Ellipsoid:
    """A piece of tissue.

    Attributes:
        center: middle.
        semi: half axes; the first two lie in the slice, turned by `angle` (radians).
        hu: mean CT number.
        texture: standard deviation (HU) of the tissue's own structure.
        under: CT number of what it lies in, for tissue big enough to shadow the noise.
    """

    center: Point
    semi: Point
    hu: float
    angle: float = 0.0
    texture: float = 5.0
    under: float | None = None

    def distance(self, x: Volume, y: Volume) -> Volume:
        """Return the in-plane distance from the middle, in units of the half axes."""
        a, b = self.semi[:2]
        c, s = math.cos(self.angle), math.sin(self.angle)
        x, y = x - np.float32(self.center[0]), y - np.float32(self.center[1])
        u = np.float32(c / a) * x + np.float32(s / a) * y
        v = np.float32(c / b) * y - np.float32(s / b) * x
        distance: Volume = np.sqrt(u * u + v * v)
        return distance

    def reach(self) -> tuple[float, float]:
        """Return how far it extends along x and along y."""
        a, b = self.semi[:2]
        c, s = math.cos(self.angle), math.sin(self.angle)
        return math.hypot(a * c, b * s), math.hypot(a * s, b * c)

    def extent(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the in-plane scale at heights `z`: 1 through the middle, 0 outside."""
        scale: NDArray[np.float32] = np.sqrt(
            np.clip(1 - ((z - self.center[2]) / self.semi[2]) ** 2, 0, 1)
        )
        return scale


@dataclass(frozen=True)
class Lesion:
    """A soft ball that adds `contrast_hu` to the liver; its rim is half as strong at the radius."""

    center: Point
    radius_mm: float
    contrast_hu: float

    @property
    def volume_ml(self) -> float:
        return 4 / 3 * math.pi * self.radius_mm**3 / 1000

    def radius_at(self, z: float) -> float:
        """Return the radius of the disc that a plane at height `z` cuts out of it; 0 beside it."""
        return math.sqrt(max(0.0, self.radius_mm**2 - (z - self.center[2]) ** 2))

    @property
    def finding(self) -> str:
        return "dense" if self.contrast_hu > 0 else "lucent"

    def distance(self, grid: ScanGrid) -> Volume:
        """Distance of every pixel from the middle; the lesion's mask is where it is ≤ radius."""
        x, y = grid.axis - self.center[0], grid.axis[:, None] - self.center[1]
        z = grid.planes[:, None, None] - self.center[2]
        distance: Volume = np.sqrt(x**2 + y**2 + z**2).astype(np.float32)
        return distance


@dataclass(frozen=True)
class Body:
    """One patient, painted in this order: wall, organs (kept inside the cavity), bones, lesions.

    Attributes:
        wall: fat, muscle and, last, the cavity.
        liver: the organ lesions grow in.
    """

    wall: list[Ellipsoid]
    organs: list[Ellipsoid]
    bones: list[Ellipsoid]
    liver: Ellipsoid
    lesions: list[Lesion] = field(default_factory=list)

    @property
    def tissues(self) -> list[Ellipsoid]:
        return self.wall + self.organs + self.bones

    def with_lesions(self, lesions: Sequence[Lesion]) -> "Body":
        return replace(self, lesions=list(lesions))

    def holds(self, center: Point, radius_mm: float) -> bool:
        """Whether a ball fits into liver and cavity with 5 mm to spare, clear of the spine."""
        margin = radius_mm + 5
        spine = self.bones[0]
        return (
            _depth(self.liver, center) > margin
            and _depth(self.wall[-1], center) > margin
            and _depth(spine, center) < -margin
        )


def _depth(tissue: Ellipsoid, point: Point) -> float:
    """How deep (mm, about) a point lies below the in-plane outline; negative outside."""
    x, y, z = (np.full(1, one, np.float32) for one in point)
    return float((tissue.extent(z) - tissue.distance(x, y))[0] * min(tissue.semi[:2]))


def draw_body(rng: np.random.Generator) -> Body:
    """Draw a patient's size, organs, their places and CT numbers, and the phase of contrast."""

    def about(value: float, spread: float) -> float:
        return float(value + spread * rng.uniform(-1, 1))

    a, b = about(145, 15), about(110, 12)
    fat, soft, phase, wall = about(-100, 10), about(52, 6), about(0.5, 0.5), about(16, 7)
    liver = Ellipsoid(
        (-0.38 * a, about(-8, 5), about(4, 8)),
        (about(66, 6), about(62, 5), about(90, 8)),
        about(62, 9) + 40 * phase,
        about(0.35, 0.25),
        about(9, 2),
    )
    spine_y, vessel_hu = 0.52 * b, liver.hu + about(12, 22)
    outside = [
        Ellipsoid((0, 0, 0), (a, b, 900), fat, 0, 8, AIR_HU),
        Ellipsoid((0, 0, 0), (a - wall, b - wall, 900), soft, 0, 8, fat),
        Ellipsoid((0, -6, 0), (a - wall - 12, b - wall - 18, 900), fat + 8, 0, 10, soft),
    ]
    lung = Ellipsoid((0.5 * a, 8, 64), (0.4 * a, 0.62 * b, about(50, 8)), about(-840, 40), 0, 25, 0)
    kidney = Ellipsoid((58, 0.38 * b, about(-34, 10)), (24, 19, 48), soft + 60 * phase, 0.8, 6)
    spleen_at, stomach_x = (0.58 * a, 0.2 * b, about(4, 10)), about(0.36 * a, 8)
    organs = [
        lung,
        replace(lung, center=(-0.5 * a, 8, 72)),
        Ellipsoid(spleen_at, (27, 40, 52), liver.hu + about(-6, 8), 0.4, 6),
        kidney,
        replace(kidney, center=(-58, 0.4 * b, about(-40, 10)), angle=-0.8),
        Ellipsoid((stomach_x, -0.36 * b, 0), (44, 32, 60), about(15, 20), 0.3, 14),
        Ellipsoid((stomach_x, -0.52 * b, 4), (about(22, 8), 11, 30), -900, 0, 20),
        replace(liver, center=(about(-6, 12), -0.42 * b, 6), semi=(48, 26, 60)),
        liver,
        Ellipsoid((about(-34, 8), -0.36 * b, about(-22, 14)), (12, 17, 20), about(10, 8), 0.4, 4),
        *_draw_vessels(rng, liver, vessel_hu),
        Ellipsoid((9, spine_y - 30, 0), (10.5, 10.5, 900), soft + 100 * phase, 0, 5),
        Ellipsoid((-20, spine_y - 33, 0), (14, 10, 900), vessel_hu, 0.2, 5),
    ]
    bones = _draw_spine(rng, spine_y, soft) + _draw_ribs(rng, a - wall - 6, b - wall - 6)
    return Body(outside, organs, bones, liver)


def _draw_spine(rng: np.random.Generator, y: float, soft: float) -> list[Ellipsoid]:
    """Vertebra first; then its marrow, its processes and canal, the muscles beside it."""
    cortex, marrow = rng.uniform(330, 480), rng.uniform(130, 230)
    muscle = Ellipsoid((38, y + 20, 0), (27, 18, 900), soft + 4, -0.3, 8)
    return [
        Ellipsoid((0, y, 0), (23, 18, 900), cortex, 0, 30, 50),
        Ellipsoid((0, y, 0), (20, 15, 900), marrow, 0, 30),
        muscle,
        replace(muscle, center=(-38, y + 20, 0), angle=0.3),
        Ellipsoid((0, y + 36, 0), (5, 14, 900), cortex, 0, 30),
        *(Ellipsoid((s * 19, y + 23, 0), (14, 5, 900), cortex - 60, s * 0.5, 30) for s in (-1, 1)),
        Ellipsoid((0, y + 22, 0), (10, 8, 900), 30, 0, 4),
    ]


def _draw_ribs(rng: np.random.Generator, a: float, b: float) -> list[Ellipsoid]:
    """Ribs descend from back to front, so that a slice cuts some of them at some angles."""
    ribs = []
    for turn in np.linspace(0.35, 2.5, 6):
        for level in (-30, 0, 30):
            z = level + 26 * (turn - 1.4) + rng.uniform(-6, 6)
            for side in (-1, 1):
                x, y = side * a * np.sin(turn), b * np.cos(turn)
                tangent = float(np.arctan2(-b * np.sin(turn), side * a * np.cos(turn)))
                hu = rng.uniform(250, 420)
                ribs.append(Ellipsoid((x, y, z), (13, 4.5, 11), hu, tangent, 30))
    return ribs


def _draw_vessels(rng: np.random.Generator, liver: Ellipsoid, hu: float) -> list[Ellipsoid]:
    """Vessels, bright or dark by the phase of contrast: what a lesion may be mistaken for."""
    return [
        Ellipsoid(
            _draw_place(rng, liver, 0.85),
            (rng.uniform(8, 24), rng.uniform(2.5, 5.5), rng.uniform(8, 24)),
            hu,
            rng.uniform(0, np.pi),
        )
        for _ in range(rng.integers(5, 12))
    ]


def _draw_place(rng: np.random.Generator, organ: Ellipsoid, within: float) -> Point:
    """Draw a point inside `organ` shrunk to `within`, at a height inside the scanned range."""
    z = rng.uniform(-COVERAGE_MM / 2, COVERAGE_MM / 2)
    x, y = draw_in_plane(rng, organ, z, within)
    return x, y, z


def draw_in_plane(
    rng: np.random.Generator, organ: Ellipsoid, z: float, within: float
) -> tuple[float, float]:
    """Draw x and y uniformly inside `organ` shrunk to `within` of its outline at height `z`."""
    reach = within * float(organ.extent(np.array([z], np.float32))[0]) * np.sqrt(rng.uniform())
    turn = rng.uniform(0, 2 * np.pi)
    u, v = organ.semi[0] * reach * np.cos(turn), organ.semi[1] * reach * np.sin(turn)
    c, s = np.cos(organ.angle), np.sin(organ.angle)
    return organ.center[0] + c * u - s * v, organ.center[1] + s * u + c * v
