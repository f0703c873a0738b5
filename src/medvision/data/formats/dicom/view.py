"""The view a DICOM header asks for: its windows and tables, and whether low values are white."""

import numpy as np
from pydicom import Dataset
from pydicom.pixels.processing import apply_windowing

from medvision.data.formats.dicom.values import look_up, table_top

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def is_inverted(header: Dataset) -> bool:
    """Tell whether low values are shown white; both marks together still mean one inversion."""
    photometric = header.get("PhotometricInterpretation")
    shape = str(header.get("PresentationLUTShape") or "").strip().upper()
    return photometric == "MONOCHROME1" or (photometric == "MONOCHROME2" and shape == "INVERSE")


def displayed(pixels: np.ndarray, header: Dataset, view: int = 0) -> np.ndarray | None:
    """Apply one view of the header to modality units; float32 0..1, before any inversion.

    The views are the VOI tables, then the windows, in the order of the header; a window of width 0
    is not set. Returns None where the header has fewer views.

    Raises:
        ValueError: an unknown VOI function, or a width that its function cannot have.

    Reference: DICOM PS3.3 C.11.2.1.
    """
    tables = _tables(header)
    if view < len(tables):
        shown = look_up(pixels, header, tables[view]) / table_top(tables[view])
        return np.asarray(shown, dtype=np.float32)
    windows = _windows(header)
    if view - len(tables) >= len(windows):
        return None
    asked = _as_dataset(header)
    with np.errstate(over="ignore"):  # far from the center a sigmoid is 0
        shown = apply_windowing(pixels, asked, windows[view - len(tables)])
    return np.asarray(shown, dtype=np.float32)


def stored_top(header: Dataset) -> int | None:
    """Return the highest unsigned value of the stored bits or modality table; None for a palette.

    A scanner of 12 bits fills a sixteenth of its 16-bit words: without a window this is its white.
    """
    tables = header.get("ModalityLUTSequence")
    if tables:
        return table_top(tables[0])
    if header.get("PhotometricInterpretation") == "PALETTE COLOR" or "BitsStored" not in header:
        return None
    return int(2 ** int(header.BitsStored) - 1)


def _tables(header: Dataset) -> list[Dataset]:
    items = header.get("VOILUTSequence") or []
    return [item for item in items if "LUTData" in item and "LUTDescriptor" in item]


def _windows(header: Dataset) -> list[int]:
    """Return the positions of the windows that are set.

    Raises:
        ValueError: there are more centers than widths, or the other way round.
    """
    centers, widths = (_listed(header.get(key)) for key in ("WindowCenter", "WindowWidth"))
    pairs = zip(centers, widths, strict=True)
    return [position for position, (_, width) in enumerate(pairs) if float(width) != 0]


def _listed(value: object) -> list[float]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, float) else list(value)  # type: ignore[call-overload]


def _as_dataset(header: Dataset) -> Dataset:
    """Write the windows as a file of 1 unsigned bit, so that pydicom's output range is 0..1."""
    asked = Dataset()
    asked["WindowCenter"], asked["WindowWidth"] = header["WindowCenter"], header["WindowWidth"]
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in _FUNCTIONS:
        raise ValueError("the VOI LUT function is none of the standard")
    asked.VOILUTFunction = function
    asked.PhotometricInterpretation = "MONOCHROME2"
    asked.BitsStored, asked.PixelRepresentation = 1, 0
    return asked
