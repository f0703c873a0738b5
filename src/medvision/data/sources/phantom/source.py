"""The phantom: simulated CT of the liver with known truth, for tests, studies and first steps.

`phantom_cohort` says who takes part, `phantom_anatomy` what a patient looks like, `phantom_raster`
and `phantom_scanner` how that becomes pixels; here each patient is scanned and written down.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.progress import track

from medvision.data.sources.found import Found
from medvision.data.sources.phantom.anatomy import Body, ScanGrid, draw_body
from medvision.data.sources.phantom.cohort import (
    CLASSES,
    LARGE_MM,
    Patient,
    Settings,
    Task,
    choose_class,
    deal_patients,
    draw_lesions,
    name_patient,
)
from medvision.data.sources.phantom.raster import paint
from medvision.data.sources.phantom.scanner import SITES, acquire
from medvision.errors import MedvisionError
from medvision.files import written_aside

_TRUTH = {
    "label": "task lesion: class of the slice; task order: class of the series; task size: of the "
    f"largest lesion this slice cuts, large from a radius of {LARGE_MM:g} mm on",
    "series_label": "class of the patient",
    "mask": "array [S, H, W] in the order of `frame`; 1 = lesion",
    "boxes": "'x0 y0 x1 y1' in pixels, x1 and y1 exclusive; several lesions joined by '|'",
    "lesion_px": "pixels of the mask in this slice",
    "finding": "dense or lucent where the slice cuts a lesion",
    "x_contrast_hu": "what a lesion of this slice adds to the liver; 0 = none",
    "x_radius_mm": "radius of the largest lesion this slice cuts; 0 = none",
    "x_lesions": "lesions this slice cuts",
    "y_radius_mm": "of the largest disc that this slice cuts out of a lesion; empty where it cuts "
    "none, since there is nothing to measure",
    "y_volume_ml": "of all lesions of the patient together, cut by a slice or not; 0 = none",
    "x_noise_hu": "noise of the site in the middle of 280 mm of water",
}


def find(
    input: Path | None = None,  # noqa: A002, ARG001 -- what every source is called with
    *,
    columns: Mapping[str, str | None] | None = None,  # noqa: ARG001
    output: Path,
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
    as likely under either class: only their order tells it. Task `size` is task `lesion` in pixels,
    graded by the largest lesion: none, small, large.

    Args:
        input: nothing is read.
        columns: none is read.
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
    copies = _choose_copies(settings)
    rows += [_plant_copy(name, rows[source], settings, output) for name, source in copies.items()]
    return Found(
        table=pd.DataFrame([row for series in rows for row in series]),
        dataset="phantom" if task == "lesion" else f"phantom-{task}",
        patient_rule="simulated patients, one series each",
        classes=CLASSES[task],
        facts=_write_facts(settings, dealt, copies),
        made=("lesion_px", "finding"),
    )


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
    stream = np.random.default_rng([settings.seed, patient.index])
    anatomy, disease, texture, noise = stream.spawn(4)
    grid = ScanGrid(settings.slices, settings.size, patient.direction)
    body = draw_body(anatomy)
    body = body.with_lesions(draw_lesions(disease, body, grid, patient, settings))
    image = acquire(paint(body, grid, texture), body.tissues, grid, patient.site, noise)
    inside = [lesion.distance(grid) <= lesion.radius_mm for lesion in body.lesions]
    mask = np.any(inside, axis=0) if inside else np.zeros(image.shape, bool)
    series = {
        "path": _write(output / "images" / f"{patient.name}.npy", image),
        "mask": _write(output / "masks" / f"{patient.name}.npy", mask.astype(np.uint8)),
        "patient": patient.name,
        "series": f"{patient.name}-ct",
        "series_label": choose_class(settings.task, patient.positive, body.lesions),
        "site": patient.site.name,
        "modality": "CT",
        "spacing_y_mm": grid.pixel_mm,
        "spacing_x_mm": grid.pixel_mm,
        "x_noise_hu": patient.site.noise_hu,
        "y_volume_ml": round(sum(lesion.volume_ml for lesion in body.lesions), 3),
    }
    return [
        {**series, **_place(k, grid), **_describe(k, body, grid, inside, patient, settings)}
        for k in range(settings.slices)
    ]


def _place(k: int, grid: ScanGrid) -> dict[str, Any]:
    return {"frame": k, "position": k, "position_mm": round(k * grid.spacing_mm, 6)}


def _describe(
    k: int, body: Body, grid: ScanGrid, inside: list[NDArray[np.bool_]], patient: Patient,
    settings: Settings,
) -> dict[str, Any]:  # fmt: skip
    """Return the truth about slice `k`."""
    cut = [(lesion, where[k]) for lesion, where in zip(body.lesions, inside, strict=True)]
    cut = [(lesion, where) for lesion, where in cut if where.any()]
    lesions = [lesion for lesion, _ in cut]
    discs = [lesion.radius_at(float(grid.planes[k])) for lesion in lesions]
    return {
        "label": choose_class(settings.task, patient.positive, lesions),
        "lesion_px": sum(int(where.sum()) for _, where in cut),
        "boxes": "|".join(_box(where) for _, where in cut),
        "finding": cut[0][0].finding if cut else "",
        "x_contrast_hu": round(cut[0][0].contrast_hu, 3) if cut else 0.0,
        "x_radius_mm": round(max((lesion.radius_mm for lesion in lesions), default=0.0), 3),
        "x_lesions": len(cut),
        "y_radius_mm": round(max(discs), 3) if discs else "",
    }


def _box(where: NDArray[np.bool_]) -> str:
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return f"{columns[0]} {rows[0]} {columns[-1] + 1} {rows[-1] + 1}"


def _write(path: Path, array: NDArray[Any]) -> str:
    with written_aside(path) as aside, aside.open("wb") as stream:
        np.save(stream, array)
    return str(path)


def _choose_copies(settings: Settings) -> dict[str, int]:
    """Return new patient id → index of the patient it is a copy of."""
    rng = np.random.default_rng([settings.seed, settings.patients])
    sources = np.sort(rng.permutation(settings.patients)[: settings.duplicates])
    return {name_patient(settings.patients + n): int(i) for n, i in enumerate(sources)}


def _plant_copy(
    name: str, rows: list[dict[str, Any]], settings: Settings, output: Path
) -> list[dict[str, Any]]:
    """Copy a patient's first image (task order: all of them) under another patient's id."""
    rows = rows if settings.task == "order" else rows[:1]
    new = {"patient": name, "series": f"{name}-ct"}
    for column, folder in (("path", "images"), ("mask", "masks")):
        new[column] = _write(output / folder / f"{name}.npy", np.load(rows[0][column])[: len(rows)])
    # A series of one slice is what that slice is.
    return [{**row, **new, "series_label": row["label"]} for row in rows]


def _write_facts(
    settings: Settings, dealt: list[Patient], copies: dict[str, int]
) -> dict[str, Any]:
    grid = ScanGrid(settings.slices, settings.size)
    return {
        **asdict(settings),
        "simulated": True,
        "unit": "HU",
        "pixel_mm": grid.pixel_mm,
        "spacing_mm": grid.spacing_mm,
        "lesion_contrast_hu": settings.contrast_hu,
        "sites": [asdict(site) for site in SITES],
        "positive_patients": sum(patient.positive for patient in dealt),
        "copies": {name: dealt[source].name for name, source in copies.items()},
        "truth": _TRUTH,
    }
