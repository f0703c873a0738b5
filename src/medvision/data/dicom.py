"""Single DICOM files: stored values to modality units, and the view their header asks for."""

from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array

from medvision.data.images import COPY_AGAIN, check_pixels, refuse


def read_dicom(path: Path, content: bytes, frame: int = 0) -> tuple[np.ndarray, Dataset]:
    """Decode one frame in modality units (Hounsfield for CT), `[H,W]` or `[H,W,3]`, and its header.

    Rescaled values are float32; a file without rescale keeps its integers. The window and the
    inversion of MONOCHROME1 are not applied here: see `displayed` and `is_inverted`.

    Raises:
        MedvisionError: not DICOM, no pixels, truncated, no such frame or a missing decoder.
    """
    try:
        header = dcmread(BytesIO(content))
    except (InvalidDicomError, EOFError, OSError, ValueError) as error:
        raise refuse(path, "is not a readable DICOM file", COPY_AGAIN) from error
    if "PixelData" not in header or "Rows" not in header:
        raise refuse(path, "is a DICOM file without pixels", "remove it from the manifest")
    check_pixels(path, int(header.Rows), int(header.Columns))
    return _read_pixels(path, header, frame), header


def _read_pixels(path: Path, header: Dataset, frame: int) -> np.ndarray:
    frames = int(header.get("NumberOfFrames") or 1)
    if not 0 <= frame < frames:
        raise refuse(path, f"has no frame {frame}", f"it holds {frames} frames, counted from 0")
    try:
        stored = pixel_array(header, index=frame)
    except (NotImplementedError, RuntimeError) as error:
        syntax = header.file_meta.TransferSyntaxUID.name
        fault = f"cannot be decoded ({syntax}: {error})"
        raise refuse(
            path, fault, "install the decoders with `pip install medvision[dicom]`"
        ) from error
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise refuse(path, f"is truncated or damaged ({error})", COPY_AGAIN) from error
    if header.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(stored, header)
    if stored.ndim == 3:
        return stored
    units = apply_modality_lut(stored, header)
    return units.astype(np.float32) if units.dtype.kind == "f" else units


def is_inverted(header: Dataset) -> bool:
    """Tell whether low values are shown white."""
    return bool(header.PhotometricInterpretation == "MONOCHROME1")


def displayed(pixels: np.ndarray, header: Dataset) -> np.ndarray | None:
    """Apply the first window or table of the header; float32 0..1, before any inversion.

    Returns None where the header asks for nothing. A table wins over a window. The linear formula
    is that of the standard, PS3.3 C.11.2.1.2, where a window of width w spans w - 1 values.
    """
    tables = header.get("VOILUTSequence")
    if tables and "LUTData" in tables[0] and "LUTDescriptor" in tables[0]:
        top = 2 ** int(tables[0].LUTDescriptor[2]) - 1
        table = apply_voi(np.rint(pixels).astype(np.int32), header)
        return np.asarray(table / top, dtype=np.float32)
    center, width = (_first(header.get(key)) for key in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or width <= 0:
        return None
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    if function == "SIGMOID":
        shown = 1 / (1 + np.exp(-4 * (pixels.astype(np.float64) - center) / width))
        return np.asarray(shown, dtype=np.float32)
    if function == "LINEAR":
        center, width = center - 0.5, max(width - 1, 1e-6)
    shown = (pixels.astype(np.float64) - center) / width + 0.5
    return np.asarray(np.clip(shown, 0, 1), dtype=np.float32)


def _first(value: object) -> float | None:
    """Return the first of one or several header values; None for a missing or empty one."""
    if value is None or value == "":
        return None
    values = [value] if isinstance(value, (int, float, str)) else list(value)  # type: ignore[call-overload]
    return float(values[0]) if values else None
