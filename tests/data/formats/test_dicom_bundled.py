"""pydicom's own test files: each is read as pydicom reads it, or refused with its reason."""

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data.data_manager import DATA_ROOT
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from medvision.data.formats.decode import decode, pixel_digest
from medvision.data.formats.images import COPY_AGAIN
from medvision.errors import MedvisionError

FILES = sorted(
    path
    for path in Path(DATA_ROOT).rglob("*")
    if path.is_file() and (path.suffix == ".dcm" or path.open("rb").read(132)[128:] == b"DICM")
)
# pytest shows warnings that the program itself silences; see the test of planted names.
pytestmark = pytest.mark.filterwarnings("ignore")
WITHOUT_PREAMBLE = ("ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "no_meta.dcm")


def reference(path):
    """Every frame by pydicom's own functions in modality units, and which pixels are padding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = dcmread(path)
        frames = stored = header.pixel_array
        if header.PhotometricInterpretation == "PALETTE COLOR":
            frames = apply_color_lut(stored, header)
        elif header.SamplesPerPixel == 1:
            frames = apply_modality_lut(stored, header)
    padding = stored == header.get("PixelPaddingValue", np.nan)
    single = int(header.get("NumberOfFrames") or 1) == 1
    return (frames[None], padding[None]) if single else (frames, padding)


def attempt(read, path):
    try:
        return read(path), ""
    except MedvisionError as error:
        return None, str(error).removeprefix(f"{path} ")
    except Exception as error:
        return None, repr(error)


@pytest.fixture(scope="module")
def table():
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    found = {path: (attempt(decode, path), attempt(reference, path)) for path in FILES}
    for path, ((image, fault), _) in found.items():
        told = f"refused: {fault}" if image is None else f"read {image.shape} {image.dtype}"
        print(f"{path.relative_to(DATA_ROOT)!s:60} {told}")
    read = sum(image is not None for (image, _), _ in found.values())
    print(f"{len(found)} files: {read} read, {len(found) - read} refused")
    return found


def test_what_pydicom_decodes_is_read_and_equal(table):
    checked = 0
    for path, ((image, fault), (frames, _)) in table.items():
        if frames is None:
            continue
        assert image is not None, f"{path.name}: {fault}"
        for number, (exact, padding) in enumerate(zip(*frames, strict=True)):
            mine = decode(path, number)
            exact = exact if exact.ndim == 3 else exact[..., None]
            real = ~(padding if padding.ndim == 3 else padding[..., None])
            same = np.broadcast_to(real, exact.shape)
            assert np.array_equal(mine[same], exact.astype(np.float32)[same]), (path.name, number)
            lowest = exact[same].min() if padding.any() else 0
            assert (mine[~same] == lowest).all(), path.name
        checked += 1
    assert checked >= 91  # more with the decoders of medvision[dicom]


def test_nothing_else_is_read(table):
    """Files without preamble are older than it; pydicom reads them only when forced to."""
    for path, ((image, _), (frames, _)) in table.items():
        older = path.name in WITHOUT_PREAMBLE
        assert (image is None) == (frames is None) or older, path.name


def test_every_refusal_has_a_reason_and_a_way_out(table):
    ways = (COPY_AGAIN, "remove it from the manifest", "pip install 'medvision[dicom]'`", "mend it")
    faults = {path.name: fault for path, ((image, fault), _) in table.items() if image is None}
    assert all(any(way in fault for way in ways) for fault in faults.values()), faults
    expected = {
        "test-SR.dcm": "is a DICOM file without pixels",
        "rtplan.dcm": "is a DICOM file without pixels",
        "MR_truncated.dcm": "is truncated or damaged (8130 of 8192 bytes of pixels)",
        "badVR.dcm": "has a header that breaks the standard",
    }
    for name, fault in expected.items():
        assert faults[name].startswith(fault), name


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "JPEG-LS Lossless Image Compression"),
        ("JPEGLSNearLossless_16.dcm", "JPEG-LS Lossy (Near-Lossless) Image Compression"),
        ("SC_rgb_jpeg_gdcm.dcm", "JPEG Lossless, Non-Hierarchical"),
        ("JPGExtended.dcm", "JPEG Extended (Process 2 and 4)"),
    ],
)
def test_a_syntax_nobody_decodes_here_is_named(table, name, syntax, tmp_path):
    path = next(path for path in FILES if path.name == name)
    if get_decoder(dcmread(path).file_meta.TransferSyntaxUID).available_plugins not in (
        (),
        ("pillow",),
    ):
        pytest.skip("a package that decodes it is installed")
    fault = table[path][0][1]
    assert syntax in fault
    assert "pip install 'medvision[dicom]'" in fault


def named(name):
    return next(path for path in FILES if path.name == name)


def test_encodings_of_one_image_are_one_image():
    names = ("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm",
             "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm",
             "MR_small_padded.dcm")  # fmt: skip
    assert len({pixel_digest(decode(named(name))) for name in names}) == 1
    odd = ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm")
    assert len({pixel_digest(decode(named(name))) for name in odd}) == 1


PLANTED = "PLANTED^NAME"
TEXTS = ("PN", "LO", "SH", "CS", "UI", "LT", "ST", "DA", "TM", "AE", "AS")
READ_ALL = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.DEBUG)
from medvision.data.formats.decode import load_frames
for path in sys.argv[1:]:
    for found in load_frames(Path(path), [0, 7]):
        print(found if isinstance(found, Exception) else "read")
"""


def test_no_text_of_a_header_is_ever_told(tmp_path):
    """In messages, warnings and logs, of whole and of damaged files."""
    paths = []
    for name in ("MR_small.dcm", "examples_palette.dcm", "JPGExtended.dcm", "SC_rgb_jpeg.dcm"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = dcmread(named(name))
            for element in header:
                if element.VR in TEXTS and element.keyword != "PhotometricInterpretation":
                    element.value = PLANTED
            header.SpecificCharacterSet = PLANTED
            for number, photometric in enumerate((header.PhotometricInterpretation, PLANTED)):
                header.PhotometricInterpretation = photometric
                paths.append(tmp_path / f"{number}{name}")
                header.save_as(paths[-1])
        paths.append(tmp_path / f"cut{name}")
        paths[-1].write_bytes(paths[-3].read_bytes()[:-300])
    done = subprocess.run([sys.executable, "-c", READ_ALL, *map(str, paths)],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.count("read\n") >= 3
    assert done.stdout.count(str(tmp_path)) > len(paths)
    assert "PLANTED" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_damaged_bytes_never_fall_over(tmp_path):
    draw = np.random.default_rng(4)
    outcomes = {"read": 0, "refused": 0}
    for name in (
        "MR_small_RLE.dcm",
        "SC_rgb_small_odd_jpeg.dcm",
        "rtdose_1frame.dcm",
        "chrH31.dcm",
    ):
        whole = named(name).read_bytes()
        for _ in range(150):
            broken = bytearray(whole[: draw.integers(132, len(whole))] if draw.random() < 0.3
                               else whole)  # fmt: skip
            for place in draw.integers(132, min(len(broken), 2500), draw.integers(1, 6)):
                broken[place % len(broken)] = draw.integers(0, 256)
            path = tmp_path / "broken.dcm"
            path.write_bytes(broken)
            image, fault = attempt(decode, path)
            assert image is not None or fault.endswith(("source", "manifest", "image", "DICOM",
                "0", "first", "`", "MONOCHROME2")) , fault  # fmt: skip
            outcomes["refused" if image is None else "read"] += 1
    assert min(outcomes.values()) > 50, outcomes
