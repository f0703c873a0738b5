"""An image as its file holds it: what is kept of it beside its pixels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from medvision.data.formats.decode import Decoded, pixel_digest
from medvision.data.formats.dicom.facts import read_header_facts

_Pair = tuple[float, float]

BYTES, WORDS, UNITS = "unsigned 8-bit", "unsigned 16-bit", "signed or float"
TOLD = ("modality", "spacing_y_mm", "spacing_x_mm")
"""Columns of a manifest that say what a header would."""
KINDS = {np.dtype(np.uint8): BYTES, np.dtype(np.uint16): WORDS}


@dataclass(frozen=True, slots=True)
class FileFacts:
    """An image as its file holds it, before any window.

    Attributes:
        stored: `BYTES`, `WORDS` or `UNITS`.
        low, high: smallest and largest value.
        modality, photometric: "" where neither header nor manifest says it.
        spacing_mm: between rows and between columns.
    """

    height: int
    width: int
    stored: str
    colour: bool
    low: float
    high: float
    modality: str = ""
    photometric: str = ""
    spacing_mm: _Pair | None = None


class Facts(NamedTuple):
    """What is kept of an image beside its pixels: their digest, and what its file holds."""

    digest: str
    native: FileFacts


def describe_image(image: Decoded) -> Facts:
    """Take down what is kept of an image."""
    return Facts(pixel_digest(image.pixels), read_facts(image))


def read_facts(image: Decoded) -> FileFacts:
    """Take down what an image is."""
    pixels, facts = (
        image.pixels,
        read_header_facts(image.header) if image.header is not None else {},
    )
    height, width, channels = pixels.shape
    stored = KINDS.get(pixels.dtype, UNITS)
    told = _pair(facts.get("spacing_y_mm", ""), facts.get("spacing_x_mm", ""))
    return FileFacts(
        height, width, stored, channels == 3, float(pixels.min()), float(pixels.max()),
        facts.get("modality", ""), facts.get("photometric", ""), told or image.spacing_mm,
    )  # fmt: skip


def pack(natives: Sequence[FileFacts | None]) -> dict[str, list[Any]]:
    """Write natives in columns: most images of a set are alike but for their values."""
    known: dict[tuple[Any, ...], int] = {}
    facts = [None if native is None else _alike(native) for native in natives]
    which = [-1 if fact is None else known.setdefault(fact, len(known)) for fact in facts]
    low, high = ([native and getattr(native, end) for native in natives] for end in ("low", "high"))
    return {"alike": [list(fact) for fact in known], "which": which, "low": low, "high": high}


def unpack(packed: Mapping[str, list[Any]]) -> list[FileFacts | None]:
    """Read what `pack` wrote."""
    alike = [_read_alike(*fact) for fact in packed["alike"]]
    columns = zip(packed["which"], packed["low"], packed["high"], strict=True)
    return [None if k < 0 else replace(alike[k], low=low, high=high) for k, low, high in columns]


def _read_alike(height: int, width: int, stored: str, colour: bool, *told: Any) -> FileFacts:
    modality, photometric, spacing = told
    spacing_mm = (spacing[0], spacing[1]) if spacing else None
    return FileFacts(height, width, stored, colour, 0.0, 0.0, modality, photometric, spacing_mm)


def _alike(native: FileFacts) -> tuple[Any, ...]:
    return (native.height, native.width, native.stored, native.colour, native.modality,
            native.photometric, native.spacing_mm)  # fmt: skip


def tell_by_table(
    facts: Sequence[FileFacts | None], columns: Mapping[str, Sequence[object]]
) -> list[FileFacts]:
    """Return the facts of images that could be read; the manifest's own words win.

    Args:
        facts: an image a row.
        columns: those of `TOLD` that there are.
    """
    silent = [""] * len(facts)
    modality, y, x = (columns.get(name, silent) for name in TOLD)
    return [
        replace(fact, modality=_text(m) or fact.modality,
                spacing_mm=_pair(*spacing) or fact.spacing_mm)
        for fact, m, *spacing in zip(facts, modality, y, x, strict=True) if fact is not None
    ]  # fmt: skip


def _text(cell: object) -> str:
    return cell.strip().upper() if isinstance(cell, str) else ""


def _pair(y: object, x: object) -> _Pair | None:
    """Read two lengths; what is none is not known."""
    try:
        first, second = float(str(y)), float(str(x))
    except ValueError:
        return None
    fits = math.isfinite(first) and math.isfinite(second) and min(first, second) > 0
    return (first, second) if fits else None
