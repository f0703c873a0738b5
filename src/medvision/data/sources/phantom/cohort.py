"""Who is in the phantom: classes and sites dealt out to patients, lesions placed in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medvision.data.sources.phantom.anatomy import Body, Lesion, ScanGrid, draw_in_plane
from medvision.data.sources.phantom.scanner import SITES, Site
from medvision.errors import collect

Task = Literal["lesion", "order", "size"]
CLASSES = {
    "lesion": ["healthy", "lesion"], "order": ["lucent_first", "dense_first"],
    "size": ["none", "small", "large"],
}  # fmt: skip
LARGE_MM = 15.5  # radius from which on a lesion is large: half of them are
_EASIEST_CONTRAST_HU = 140.0


@dataclass(frozen=True)
class Patient:
    """What is decided about a patient before anything is drawn: class 0 or 1, site, direction."""

    index: int
    positive: bool
    site: Site
    direction: int

    @property
    def name(self) -> str:
        return name_patient(self.index)


def name_patient(index: int) -> str:
    """Return the id of a patient; ids sort as their numbers do."""
    return f"p{index:04d}"


@dataclass(frozen=True)
class Settings:
    """The arguments of the source that decide what is in the pixels."""

    patients: int
    slices: int
    size: int
    seed: int
    prevalence: float
    difficulty: float
    duplicates: int
    shortcut: float
    task: Task

    def check(self) -> None:
        """Raise one error naming every setting out of range."""
        rules = {
            "patients": (1 <= self.patients <= 100_000, "1 to 100000"),
            "slices": (1 + (self.task == "order") <= self.slices <= 512, "1 to 512 (order: 2)"),
            "size": (32 <= self.size <= 512, "32 to 512 pixels"),
            "seed": (self.seed >= 0, "0 or more"),
            "prevalence": (0 <= self.prevalence <= 1, "0 to 1"),
            "difficulty": (0 <= self.difficulty <= 1, "0 (easy) to 1 (invisible)"),
            "duplicates": (0 <= self.duplicates <= self.patients, "0 to the number of patients"),
            "shortcut": (0 <= self.shortcut <= 1, "0 (none) to 1 (the site tells the class)"),
            "task": (self.task in CLASSES, "lesion, order or size"),
        }
        wrong = [
            f"{name}={getattr(self, name)} must be {allowed}"
            for name, (fine, allowed) in rules.items()
            if not fine
        ]
        if wrong:
            raise collect("phantom", wrong, "Correct the value and run the same command again.")

    @property
    def contrast_hu(self) -> float:
        return float(_EASIEST_CONTRAST_HU * (1 - self.difficulty))


def choose_class(task: Task, positive: bool, lesions: Sequence[Lesion]) -> str:
    """Name the class of what holds these lesions, a slice or a patient.

    Args:
        task: what is asked.
        positive: the patient is, as the classes were dealt.
        lesions: all there are.
    """
    if task == "order":
        return CLASSES[task][positive]
    if task == "size":
        largest = max((lesion.radius_mm for lesion in lesions), default=0.0)
        return CLASSES[task][(largest > 0) + (largest >= LARGE_MM)]
    return CLASSES[task][bool(lesions)]


def deal_patients(settings: Settings) -> list[Patient]:
    """Deal out classes and sites so that the asked shares are met exactly, in random order.

    Sites are balanced within each class: without a shortcut half of each class is at site B.
    """
    rng = np.random.default_rng(settings.seed)
    n = settings.patients
    order = rng.permutation(n)
    positives = round(settings.prevalence * n)
    positive, at_b = np.zeros(n, bool), np.zeros(n, bool)
    positive[order[:positives]] = True
    for members, lean in ((order[:positives], 1), (order[positives:], -1)):
        share = 0.5 + lean * settings.shortcut / 2
        at_b[members[: int(share * len(members) + rng.uniform())]] = True
    directions = rng.choice((-1, 1), size=n)
    return [
        Patient(i, bool(positive[i]), SITES[int(at_b[i])], int(directions[i])) for i in range(n)
    ]


def draw_lesions(
    rng: np.random.Generator, body: Body, grid: ScanGrid, patient: Patient, settings: Settings
) -> list[Lesion]:
    """Draw balls of 11 to 20 mm radius in the liver, each well cut by at least one slice.

    But for task order: one to three lucent ones, apart from each other, in a positive patient.
    """
    contrast = settings.contrast_hu * rng.uniform(0.8, 1.2)
    if settings.task == "order":
        signs = (1, -1) if patient.positive else (-1, 1)
        heights, radii = _draw_two_heights(rng, grid)
        return [
            _draw_lesion(rng, body, z, radius, sign * contrast)
            for z, radius, sign in zip(heights, radii, signs, strict=True)
        ]
    found: list[Lesion] = []
    for _ in range(rng.integers(1, 4) if patient.positive else 0):
        radius = _draw_radius(rng, grid)
        new = _draw_lesion(rng, body, _draw_height(rng, grid, radius), radius, -contrast)
        if all(_gap_mm(new, old) > 4 for old in found):
            found.append(new)
    return found


def _draw_radius(rng: np.random.Generator, grid: ScanGrid) -> float:
    """At least three quarters of a pixel, or a ball could pass between the pixels' centres."""
    smallest = max(11.0, 0.75 * grid.pixel_mm)
    return float(rng.uniform(smallest, max(20.0, smallest)))


def _draw_height(rng: np.random.Generator, grid: ScanGrid, radius: float) -> float:
    off = 0.25 * min(grid.spacing_mm, radius)
    return float(rng.choice(grid.planes) + rng.uniform(-off, off))


def _draw_two_heights(
    rng: np.random.Generator, grid: ScanGrid
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Draw heights and radii of two balls in the order of scanning, no slice through both."""
    while True:
        radii = (_draw_radius(rng, grid), _draw_radius(rng, grid))
        first, second = (_draw_height(rng, grid, radius) for radius in radii)
        if (second - first) * grid.direction > sum(radii):
            return (first, second), radii


def _draw_lesion(
    rng: np.random.Generator, body: Body, z: float, radius: float, contrast_hu: float
) -> Lesion:
    while True:
        center = (*draw_in_plane(rng, body.liver, z, 0.9), z)
        if body.holds(center, radius):
            return Lesion(center, radius, contrast_hu)


def _gap_mm(one: Lesion, other: Lesion) -> float:
    apart = np.linalg.norm(np.subtract(one.center, other.center))
    return float(apart) - one.radius_mm - other.radius_mm
