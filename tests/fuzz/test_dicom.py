"""DICOM with damaged bytes and with headers that say anything: read, or refused in a sentence."""

import shutil
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data.data_manager import DATA_ROOT
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_modality_lut

from medvision.data.formats.dicom.facts import read_header_facts
from medvision.data.formats.dicom.file import DicomFile
from medvision.data.sources.dicom.source import find as find_dicom
from medvision.data.sources.dicom.tree import read_tree
from medvision.data.sources.prepare import prepare
from medvision.errors import MedvisionError

PLANTED = "Zebediah^Planted"
# pydicom's warnings quote headers; the program silences them, pytest shows them all the same.
pytestmark = pytest.mark.filterwarnings("ignore")

EXPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
JPEG, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
LONG = ("OB", "OW", "SQ", "UN", "UT", "OF")
HEADER = {
    "ImageType": "ORIGINAL\\PRIMARY", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "SOPInstanceUID": "1.2.3", "StudyDate": "20200103", "Modality": "CT", "Manufacturer": PLANTED,
    "InstitutionName": PLANTED, "SeriesDescription": PLANTED, "PatientName": PLANTED,
    "PatientID": PLANTED, "SliceThickness": "2.5", "StudyInstanceUID": "1.2.1",
    "SeriesInstanceUID": "1.2.1.1", "InstanceNumber": "1", "ImagePositionPatient": "0\\0\\4",
    "ImageOrientationPatient": "1\\0\\0\\0\\1\\0", "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2", "Rows": 8, "Columns": 10,
    "PixelSpacing": "0.5\\0.25", "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15,
    "PixelRepresentation": 0, "WindowCenter": "40", "WindowWidth": "400",
    "RescaleIntercept": "-1024", "RescaleSlope": "2",
}  # fmt: skip
EIGHT = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
PIXELS = np.random.default_rng(0).integers(0, 4000, (8, 10)).astype("<u2").tobytes()
COLOUR = np.random.default_rng(1).integers(0, 256, (2, 8, 10, 3), dtype=np.uint8)


class As(NamedTuple):
    """A value in another value representation than its attribute has."""

    vr: str
    value: object


def element(keyword, value):
    """Encode an attribute: a number as 16 bits, text and bytes as they are."""
    tag = int(keyword, 16) if keyword.startswith("0x") else tag_for_keyword(keyword)
    vr, value = value if isinstance(value, As) else (dictionary_VR(tag)[:2], value)
    data = value.encode() if isinstance(value, str) else value
    data = struct.pack("<H", data % 65536) if isinstance(data, int) else data
    data += (b"\0" if vr in ("UI", "OB") else b" ") * (len(data) % 2)
    size = struct.pack("<HI", 0, len(data)) if vr in LONG else struct.pack("<H", len(data) % 65536)
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode() + size + data


def write(header=None, pixels=PIXELS, syntax=EXPLICIT):
    """Encode a file by hand: pydicom refuses to write most of what files of hospitals hold."""
    held = {k: v for k, v in {**HEADER, **(header or {})}.items() if v is not None}
    body = b"".join(element(key, held[key]) for key in sorted(held, key=tag_for_keyword))
    if pixels is not None and syntax in (JPEG, RLE):  # encapsulated pixels have no length
        body += struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + pixels
        body += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    elif pixels is not None:
        body += element("PixelData", As("OW", pixels))
    if syntax == DEFLATED:
        packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
    meta = element("TransferSyntaxUID", syntax)
    length = element("FileMetaInformationGroupLength", struct.pack("<I", len(meta)))
    return bytes(128) + b"DICM" + length + meta + body


def palette():
    table = np.arange(256, dtype="<u2")[::-1].tobytes()
    held = {"PhotometricInterpretation": "PALETTE COLOR", **EIGHT}
    for name in ("Red", "Green", "Blue"):
        held[f"{name}PaletteColorLookupTableDescriptor"] = struct.pack("<3H", 256, 0, 16)
        held[f"{name}PaletteColorLookupTableData"] = table
    return write(held, bytes(range(80)))


def item(*elements):
    data = b"".join(elements)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data


def enhanced():
    places = [element("ImagePositionPatient", f"0\\0\\{mm}") for mm in (0, 5)]
    units = item(element("RescaleIntercept", "-1000"), element("RescaleSlope", "1"))
    own = b"".join(item(element("PlanePositionSequence", item(place))) for place in places)
    groups = {
        "NumberOfFrames": "2", "PerFrameFunctionalGroupsSequence": own,
        "SharedFunctionalGroupsSequence": item(element("PixelValueTransformationSequence", units)),
    }  # fmt: skip
    return write(groups, PIXELS * 2)


def colour():
    planes = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    return write({"NumberOfFrames": "2", **planes, **EIGHT}, COLOUR.tobytes())


def bundled(name):
    return next(Path(DATA_ROOT).rglob(name)).read_bytes()


def jpeg():
    return write(EIGHT, encapsulate([cv2.imencode(".jpg", COLOUR[0, ..., 0])[1].tobytes()]), JPEG)


FORMS = {
    "ct": write(), "deflated": write(syntax=DEFLATED), "colour": colour(), "palette": palette(),
    "enhanced": enhanced(), "jpeg": jpeg(),
    **{name: bundled(f"{name}.dcm") for name in (
        "SC_rgb_rle_16bit", "rtdose_rle_1frame", "SC_rgb_small_odd_big_endian", "JPEG2000",
        "chrH31",
    )},
}  # fmt: skip


def facts_of(path, content):
    """The facts of a header, none of which may name anyone."""
    try:
        header = DicomFile(path, content).header
    except MedvisionError:
        return {}
    facts = read_header_facts(header)
    assert not any(part in text for part in PLANTED.split("^") for text in facts.values())
    return facts


QUICK_OR_FULL = pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.slow)])


@QUICK_OR_FULL
@pytest.mark.parametrize("form", FORMS)
def test_damaged_bytes(tmp_path, tally, look, damage, form, full, capfd):
    path = tmp_path / "IM1"
    path.write_bytes(FORMS[form])
    (whole,) = look(path)
    assert isinstance(whole, np.ndarray)
    for told, content in damage(FORMS[form], form, full):
        path.write_bytes(content)
        with tally.one("DICOM, bytes", (form, told), whole) as seen:
            (seen.found,) = look(path)
            facts_of(path, content)
            assert not (told.startswith("cut") and seen.is_other())
    assert not any(part in str(capfd.readouterr()) for part in PLANTED.split("^"))


NUMBERS = st.sampled_from(
    ["", "0", "-1", "1", "2", "nan", "inf", "1e400", "1e-320", "99999999", "4294967296",
     "abc", "1,5", "1\\2", "0\\0\\0", "1\\0\\0\\1\\0\\0", "0.5\\nan", "0\\0", "-5\\5\\abc", "\\",
     " 3 ", PLANTED]
)  # fmt: skip
SHORTS = st.sampled_from([0, 1, 2, 3, 8, 12, 16, 17, 32, 64, 255, 40000, 65535])
TEXTS = st.sampled_from(
    ["", "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "ARGB",
     "YBR_ICT", "XYB", "LINEAR", "LINEAR_EXACT", "SIGMOID", "INVERSE", "LOCALIZER", "YES", PLANTED,
     "1.2.840.10008.1.2", "00000000", "20201341", "é\\b", "x" * 200]
)  # fmt: skip
ODD_BYTES = st.sampled_from([b"", b"\0", b"\xff" * 4, bytes(6), b"\xfe\xff\x00\xe0" * 3])
ATTRIBUTES = (
    (NUMBERS, "SliceThickness FrameTime ImagerPixelSpacing ImagePositionPatient PixelSpacing "
     "ImageOrientationPatient WindowCenter WindowWidth RescaleIntercept RescaleSlope "
     "InstanceNumber NumberOfFrames"),
    (SHORTS, "SamplesPerPixel PlanarConfiguration Rows Columns BitsAllocated BitsStored HighBit "
     "PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit"),
    (TEXTS, "SpecificCharacterSet ImageType Modality ViewPosition PhotometricInterpretation "
     "BurnedInAnnotation VOILUTFunction PresentationLUTShape PatientID StudyDate Manufacturer "
     "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID"),
    (ODD_BYTES, "ModalityLUTSequence VOILUTSequence SharedFunctionalGroupsSequence "
     "PerFrameFunctionalGroupsSequence SequenceOfUltrasoundRegions "
     "RedPaletteColorLookupTableDescriptor RedPaletteColorLookupTableData"),
)  # fmt: skip
FOREIGN = st.sampled_from([None, As("UN", PLANTED), As("LO", PLANTED), As("US", 7)])
attributes = st.one_of(*(
    st.tuples(st.sampled_from(names.split()), st.one_of(*[values] * 5, FOREIGN))
    for values, names in ATTRIBUTES
))  # fmt: skip
headers = st.lists(attributes, min_size=1, max_size=4).map(dict)
stored = st.sampled_from([PIXELS] * 6 + [b"", bytes(3), PIXELS * 3, None])
syntaxes = st.sampled_from([EXPLICIT] * 8 + [DEFLATED, RLE, JPEG, "1.2", PLANTED, ""])


def by_pydicom(path):
    """The pixels of the first frame in modality units by pydicom alone; None where it cannot."""
    try:
        header = dcmread(path)
        if header.SamplesPerPixel != 1 or "PixelPaddingValue" in header:
            return None
        if header.HighBit != header.BitsStored - 1:  # retired; pydicom does not look
            return None
        if ("RescaleSlope" in header) != ("RescaleIntercept" in header):
            return None  # pydicom wants both; one alone counts here
        if "PALETTE" in header.PhotometricInterpretation or "ModalityLUTSequence" in header:
            return None
        frames = apply_modality_lut(header.pixel_array, header)
    except Exception:
        return None
    return frames if frames.ndim == 2 else frames[0]


@QUICK_OR_FULL
def test_headers_that_say_anything(tmp_path, tally, look, full, capfd):
    path = tmp_path / "IM1"

    @settings(max_examples=2000 if full else 150, derandomize=True, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(headers, stored, syntaxes)
    def holds(header, pixels, syntax):
        content = write(header, pixels, syntax)
        path.write_bytes(content)
        with tally.one("DICOM, headers", (header, syntax)) as seen:
            found = look(path, (0, 1))
            facts_of(path, content)
            seen.found = found[0]
            expected = by_pydicom(path)
            if isinstance(found[0], np.ndarray) and expected is not None:
                near = np.allclose(found[0][..., 0], expected, rtol=1e-6, equal_nan=True)
                assert near, (found[0].ravel()[:5], expected.ravel()[:5])

    holds()
    assert not any(part in str(capfd.readouterr()) for part in PLANTED.split("^"))


@QUICK_OR_FULL
def test_trees_with_headers_that_say_anything(tmp_path, tally, look, full, capfd):
    """A study of three good slices, and one more that is anything."""
    for number in range(3):
        good = write({"ImagePositionPatient": f"0\\0\\{number}", "InstanceNumber": f"{number}"})
        (tmp_path / f"IM{number}").write_bytes(good)

    @settings(max_examples=800 if full else 60, derandomize=True, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(headers, stored, st.sampled_from(["stop", "exclude"]), st.sampled_from(["IM", "x.dcm"]))
    @example({"NumberOfFrames": "-1"}, PIXELS, "exclude", "IM")
    @example({"NumberOfFrames": "99999999"}, PIXELS, "exclude", "IM")
    def holds(header, pixels, on_odd, name):
        header = {"ImagePositionPatient": "0\\0\\3", **header}
        (tmp_path / name).write_bytes(write(header, pixels))
        with tally.one("DICOM, trees", (header, on_odd)):
            tree = read_tree(tmp_path)
            held = len({each.name for each in tree.slices})
            assert held + sum(tree.others.values()) + len(tree.broken) == 4
            found = find_dicom(tmp_path, on_odd=on_odd, columns={"patient": "path"})
            used = set(found.table["path"])
            dropped = 4 - len(used)
            # No slice is left out without a word.
            told = len(found.facts["excluded"]) + sum(found.facts["not taken"].values())
            assert (dropped > 0) == (told > 0), found.facts
            kept = found.table.drop(columns=["path", "patient", "study", "series", "site"])
            assert not any(part in kept.to_csv() for part in PLANTED.split("^"))
            assert not any(part in str(found.facts) for part in PLANTED.split("^"))
        (tmp_path / name).unlink()

    holds()
    assert not any(part in str(capfd.readouterr()) for part in PLANTED.split("^"))


@QUICK_OR_FULL
def test_a_prepared_tree_is_whole_and_names_nobody(tmp_path, tally, damage, full, capfd):
    """Bytes are changed at random in one of three slices: a manifest, or a sentence and nothing."""
    tree, output = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    damaged = list(damage(FORMS["ct"], "prepared", full))[:: 3 if full else 4]
    for told, content in damaged:
        for number in range(3):
            place = {"ImagePositionPatient": f"0\\0\\{number}"}
            (tree / f"IM{number}").write_bytes(write(place))
        (tree / "IM3").write_bytes(content)  # lies at 4 mm, so steps are uneven unless it is lost
        shutil.rmtree(output, ignore_errors=True)
        with tally.one("DICOM, prepared", told) as seen:
            try:
                prepare("dicom", output, input=tree, on_odd="exclude", on_unreadable="exclude",
                        on_gap="keep")  # fmt: skip
            except MedvisionError as error:
                seen.found = str(error)
            there = sorted(path.name for path in output.iterdir()) if output.exists() else []
            held = [name for name in there if name != ".images.npz"]
            assert held == ([] if seen.found else ["card.json", "manifest.csv"])
            written = [seen.found or "", *((output / name).read_text() for name in held)]
            assert not any(part in text for part in PLANTED.split("^") for text in written)
    assert not any(part in str(capfd.readouterr()) for part in PLANTED.split("^"))


def test_a_deflated_bomb_is_refused_before_it_goes_off(tmp_path, tally, look, monkeypatch):
    monkeypatch.setenv("MEDVISION_FILE_GB", str(2**18 / 2**30))
    (tmp_path / "bomb.dcm").write_bytes(write(pixels=bytes(2**25), syntax=DEFLATED))
    for kind in ("DICOM, bytes", "DICOM, trees"):
        with tally.one(kind, "bomb") as seen:
            if kind == "DICOM, trees":
                assert read_tree(tmp_path).broken == ["bomb.dcm"]
            (seen.found,) = look(tmp_path / "bomb.dcm")
            assert "is not a readable DICOM file" in seen.found
