"""The phantom: simulated CT of the liver with known truth, for tests, studies and first steps.

`phantom_anatomy` says what a patient looks like, `phantom_scanner` how it is measured; here
patients are dealt out, scanned and written down.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from medvision.data.sources.found import Found
from medvision.data.sources.phantom_anatomy import (
    Body,
    Grid,
    Lesion,
    draw_body,
    draw_in_plane,
    paint,
)
from medvision.data.sources.phantom_scanner import SITES, Site, acquire
from medvision.errors import MedvisionError, collect
from medvision.files import written_aside

Task = Literal["lesion", "order"]
CLASSES = {"lesion": ["healthy", "lesion"], "order": ["lucent_first", "dense_first"]}
EASIEST_CONTRAST_HU = 140.0
TRUTH = {
    "label": "task lesion: class of the slice; task order: class of the series",
    "series_label": "class of the patient",
    "mask": "array [S, H, W] in the order of `frame`; 1 = lesion",
    "boxes": "'x0 y0 x1 y1' in pixels, x1 and y1 exclusive; several lesions joined by '|'",
    "lesion_px": "pixels of the mask in this slice",
    "finding": "dense or lucent where the slice cuts a lesion",
    "x_contrast_hu": "what a lesion of this slice adds to the liver; 0 = none",
    "x_radius_mm": "radius of the largest lesion this slice cuts; 0 = none",
    "x_lesions": "lesions this slice cuts",
    "x_noise_hu": "noise of the site in the middle of 280 mm of water",
}


@dataclass(frozen=True)
class Patient:
    """What is decided about a patient before anything is drawn: class 0 or 1, site, direction."""

    index: int
    positive: bool
    site: Site
    direction: int

    @property
    def name(self) -> str:
        return f"p{self.index:04d}"


@dataclass(frozen=True)
class Settings:
    """The arguments of `make_phantom` that decide what is in the pixels."""

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
            "task": (self.task in CLASSES, "lesion or order"),
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
        return float(EASIEST_CONTRAST_HU * (1 - self.difficulty))


def make_phantom(
    output: Path,
    *,
    patients: int = 400,
    slices: int = 6,
    size: int = 96,
    seed: int = 0,
    prevalence: float = 0.5,
    difficulty: float = 0.5,
    duplicates: int = 0,
    shortcut: float = 0.0,
    task: Task = "lesion",
    workers: int | None = None,
) -> Found:
    """Simulate a set of CT scans of the upper abdomen under `output`; every value by `seed` alone.

    Writes `images/<patient>.npy` (int16 HU) and `masks/<patient>.npy` (uint8), both `[S, H, W]`.
    In task `order` each patient has a dense and a lucent lesion, never in one slice, and the class
    is which one is scanned first. As the direction of scanning is random, each set of slices is
    as likely under either class: only their order tells it.

    Args:
        output: folder to write to.
        patients: number of patients, one series each.
        slices: slices a patient; they always cover 72 mm.
        size: height and width in pixels; they always cover 352 mm.
        seed: decides everything; patient i draws from the stream (seed, i).
        prevalence: share of patients with lesions (order: with the dense one first), met exactly.
        difficulty: 0 (a lesion differs by about 140 HU) to 1 (by nothing), in proportion.
        duplicates: this many patients return under a new id, as a copy of their first image (task
            order: of all their images).
        shortcut: 0 (site says nothing of the class) to 1 (site B if and only if positive).
        task: what `label` asks for.
        workers: threads; None = one a processor. No pixel depends on it.

    Raises:
        MedvisionError: a value out of range, or `output` cannot be written.
    """
    settings = Settings(
        patients, slices, size, seed, prevalence, difficulty, duplicates, shortcut, task
    )
    settings.check()
    if workers is not None and workers < 1:
        raise MedvisionError(f"phantom: workers={workers} must be 1 or more, or null for all cores")
    output = Path(output).absolute()
    dealt = deal_patients(settings)
    rows = list(_scan_all(dealt, settings, output, workers or os.cpu_count() or 1))
    copies = _plant_copies(rows, dealt, settings, output)
    return Found(
        table=pd.DataFrame([row for series in [*rows, *copies] for row in series]),
        dataset="phantom" if task == "lesion" else "phantom-order",
        patient_rule="simulated patients, one series each",
        classes=CLASSES[task],
        facts=_write_facts(settings, dealt, copies),
    )


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


def _scan_all(
    dealt: list[Patient], settings: Settings, output: Path, workers: int
) -> Iterator[list[dict[str, Any]]]:
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda patient: scan(patient, settings, output), dealt)
        yield from track(
            done, "phantom", total=len(dealt), transient=True, disable=not sys.stderr.isatty()
        )


def scan(patient: Patient, settings: Settings, output: Path) -> list[dict[str, Any]]:
    """Draw, scan and write one patient; return one row a slice."""
    anatomy, disease, texture, noise = np.random.default_rng([settings.seed, patient.index]).spawn(
        4
    )
    grid = Grid(settings.slices, settings.size, patient.direction)
    body = draw_body(anatomy)
    body = body.with_lesions(draw_lesions(disease, body, grid, patient, settings))
    image = acquire(
        paint(body, grid, texture), body.wall + body.organs + body.bones, grid, patient.site, noise
    )
    inside = [lesion.distance(grid) <= lesion.radius_mm for lesion in body.lesions]
    mask = np.any(inside, axis=0) if inside else np.zeros(image.shape, bool)
    series = {
        "path": _write(output / "images" / f"{patient.name}.npy", image),
        "mask": _write(output / "masks" / f"{patient.name}.npy", mask.astype(np.uint8)),
        "patient": patient.name,
        "series": f"{patient.name}-ct",
        "series_label": CLASSES[settings.task][patient.positive],
        "site": patient.site.name,
        "x_noise_hu": patient.site.noise_hu,
    }
    return [
        {**series, **_place(k, grid), **_describe(k, body, inside, patient, settings)}
        for k in range(settings.slices)
    ]


def draw_lesions(
    rng: np.random.Generator, body: Body, grid: Grid, patient: Patient, settings: Settings
) -> list[Lesion]:
    """Draw balls of 11 to 20 mm radius inside the liver, each through the middle of at least one slice.

    Task lesion: one to three lucent ones, apart from each other, in a positive patient.
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


def _draw_radius(rng: np.random.Generator, grid: Grid) -> float:
    """At least three quarters of a pixel, or a ball could pass between the pixels' centres."""
    smallest = max(11.0, 0.75 * grid.pixel_mm)
    return float(rng.uniform(smallest, max(20.0, smallest)))


def _draw_height(rng: np.random.Generator, grid: Grid, radius: float) -> float:
    off = 0.25 * min(grid.spacing_mm, radius)
    return float(rng.choice(grid.planes) + rng.uniform(-off, off))


def _draw_two_heights(
    rng: np.random.Generator, grid: Grid
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


def _place(k: int, grid: Grid) -> dict[str, Any]:
    return {"frame": k, "position": k, "position_mm": round(k * grid.spacing_mm, 6)}


def _describe(
    k: int, body: Body, inside: list[NDArray[np.bool_]], patient: Patient, settings: Settings
) -> dict[str, Any]:
    """Return the truth about slice `k`."""
    cut = [(lesion, where[k]) for lesion, where in zip(body.lesions, inside, strict=True)]
    cut = [(lesion, where) for lesion, where in cut if where.any()]
    positive = patient.positive if settings.task == "order" else bool(cut)
    return {
        "label": CLASSES[settings.task][positive],
        "lesion_px": sum(int(where.sum()) for _, where in cut),
        "boxes": "|".join(_box(where) for _, where in cut),
        "finding": cut[0][0].finding if cut else "",
        "x_contrast_hu": round(cut[0][0].contrast_hu, 3) if cut else 0.0,
        "x_radius_mm": round(max((lesion.radius_mm for lesion, _ in cut), default=0.0), 3),
        "x_lesions": len(cut),
    }


def _box(where: NDArray[np.bool_]) -> str:
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return f"{columns[0]} {rows[0]} {columns[-1] + 1} {rows[-1] + 1}"


def _write(path: Path, array: NDArray[Any]) -> str:
    with written_aside(path) as aside, aside.open("wb") as stream:
        np.save(stream, array)
    return str(path)


def _plant_copies(
    rows: list[list[dict[str, Any]]], dealt: list[Patient], settings: Settings, output: Path
) -> list[list[dict[str, Any]]]:
    """Copy some patients' first image (task order: all of them) under new patient ids."""
    rng = np.random.default_rng([settings.seed, settings.patients])
    kept = settings.slices if settings.task == "order" else 1
    copies = []
    for n, i in enumerate(np.sort(rng.permutation(len(dealt))[: settings.duplicates])):
        name = f"p{settings.patients + n:04d}"
        new = {"patient": name, "series": f"{name}-ct", "copy_of": dealt[i].name}
        for column, folder in (("path", "images"), ("mask", "masks")):
            stack = np.load(rows[i][0][column])[:kept]
            new[column] = _write(output / folder / f"{name}.npy", stack)
        # A series of one slice is what that slice is.
        copies.append([{**row, **new, "series_label": row["label"]} for row in rows[i][:kept]])
    return copies


def _write_facts(
    settings: Settings, dealt: list[Patient], copies: list[list[dict[str, Any]]]
) -> dict[str, Any]:
    grid = Grid(settings.slices, settings.size)
    return {
        **asdict(settings),
        "simulated": True,
        "unit": "HU",
        "pixel_mm": grid.pixel_mm,
        "spacing_mm": grid.spacing_mm,
        "lesion_contrast_hu": settings.contrast_hu,
        "sites": [asdict(site) for site in SITES],
        "positive_patients": sum(patient.positive for patient in dealt),
        "copies": {series[0]["patient"]: series[0]["copy_of"] for series in copies},
        "truth": TRUTH,
    }
