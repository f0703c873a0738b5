import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.sequence import Sequence
from pydicom.uid import (
    HEVCMP51,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from medvision.data.formats.decode import decode
from medvision.data.formats.dicom.file import DicomFile
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError


def write_dicom(path, stored, photometric="MONOCHROME2", syntax=ExplicitVRLittleEndian, **tags):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    colour = stored.ndim > 2 and stored.shape[-1] == 3
    frames = stored.shape[:-1] if colour else stored.shape
    file.Rows, file.Columns = frames[-2:]
    if len(frames) == 3:
        file.NumberOfFrames = frames[0]
    file.SamplesPerPixel = 3 if colour else 1
    if colour:
        file.PlanarConfiguration = 0
    file.PhotometricInterpretation = photometric
    file.BitsAllocated = file.BitsStored = stored.dtype.itemsize * 8
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(stored.dtype.kind == "i")
    file.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    file["PixelData"].VR = "OW" if stored.dtype.itemsize > 1 else "OB"
    for tag, value in tags.items():
        setattr(file, tag, value)
    if syntax == RLELossless:
        file.compress(RLELossless)
    else:
        meta.TransferSyntaxUID = syntax
        file.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    file.save_as(path, enforce_file_format=True)
    return path


def refusal(path, frame=0):
    with pytest.raises(MedvisionError) as caught:
        decode(path, frame)
    return str(caught.value).removeprefix(f"{path} ")


CT = {"RescaleSlope": 2, "RescaleIntercept": -1024}
STORED = np.arange(0, 1500, 25, dtype=np.int16).reshape(6, 10)


def test_rescale_gives_hounsfield_units(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", STORED, **CT)
    found = decode(path)
    assert found.dtype == np.float32
    assert np.array_equal(found[..., 0], STORED * 2.0 - 1024)


def test_a_file_is_known_by_its_content_not_its_name(tmp_path):
    path = write_dicom(tmp_path / "IM0001", STORED)
    assert decode(path).dtype == np.int16
    assert np.array_equal(decode(path)[..., 0], STORED)


def test_preset_window_in_hounsfield_units(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", STORED, **CT)
    hu = STORED * 2.0 - 1024
    expected = np.clip((hu + 160) / 400 * 255, 0, 255)
    found = Reader(size=None, window="soft_tissue").read(path)
    assert np.abs(found[..., 0] - expected).max() <= 0.5 + 1e-3


def test_voi_window_is_the_formula_of_the_standard(tmp_path):
    path = write_dicom(
        tmp_path / "a.dcm", STORED, WindowCenter=[500, 40], WindowWidth=[401, 80], **CT
    )
    hu = STORED * 2.0 - 1024
    expected = np.clip(((hu - 499.5) / 400 + 0.5) * 255, 0, 255)
    found = Reader(size=None, window="dicom").read(path)
    assert np.abs(found[..., 0] - expected).max() <= 0.5 + 1e-3


def test_voi_table_after_rescale(tmp_path):
    stored = np.arange(16, dtype=np.uint8).reshape(4, 4)
    table = Dataset()
    table.LUTDescriptor = [16, 0, 8]
    table.LUTData = np.arange(255, 255 - 16, -1, dtype=np.uint16).tobytes()
    table["LUTData"].VR = "OW"
    path = write_dicom(
        tmp_path / "a.dcm",
        stored,
        VOILUTSequence=Sequence([table]),
        RescaleSlope=1,
        RescaleIntercept=0,
        WindowCenter=3,
        WindowWidth=2,
    )
    found = Reader(size=None, window="dicom").read(path)
    assert np.array_equal(found[..., 0], 255 - stored)


def test_a_broken_table_is_told(tmp_path):
    table = Dataset()
    table.LUTDescriptor = [16, 0, 8]
    table.LUTData = b"\0" * 4
    table["LUTData"].VR = "OW"
    path = write_dicom(tmp_path / "a.dcm", STORED, VOILUTSequence=Sequence([table]))
    with pytest.raises(MedvisionError) as caught:
        Reader(size=None, window="dicom").read(path)
    fault = "asks for a window that cannot be applied, choose a window=[low, high] yourself"
    assert str(caught.value) == f"{path} {fault}"


def test_without_a_window_the_image_spans_black_to_white(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", STORED, **CT)
    for window in ("dicom", "full"):
        found = Reader(size=None, window=window).read(path)
        assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("window", ["dicom", "full", "brain", (0.0, 100.0), "percentile"])
def test_monochrome1_is_inverted_last(tmp_path, window):
    tags = {"WindowCenter": 40, "WindowWidth": 80, **CT}
    plain = write_dicom(tmp_path / "a.dcm", STORED, "MONOCHROME2", **tags)
    turned = write_dicom(tmp_path / "b.dcm", STORED, "MONOCHROME1", **tags)
    reader = Reader(size=None, window=window)
    assert np.array_equal(reader.read(turned), 255 - reader.read(plain))
    assert np.array_equal(decode(turned), decode(plain))


def test_padding_stays_black_after_inversion(tmp_path):
    stored = np.full((8, 16), 255, np.uint8)
    path = write_dicom(tmp_path / "a.dcm", stored, "MONOCHROME1")
    assert (Reader(size=16, window="full").read(path) == 0).all()


def test_colour_and_frames(tmp_path):
    draw = np.random.default_rng(0)
    colour = draw.integers(0, 255, (6, 5, 3), dtype=np.uint8)
    path = write_dicom(tmp_path / "rgb.dcm", colour, "RGB")
    assert np.array_equal(decode(path), colour)
    assert np.array_equal(Reader(size=None, channels=3, window="dicom").read(path), colour)
    video = draw.integers(0, 255, (3, 6, 5), dtype=np.uint8)
    path = write_dicom(tmp_path / "video.dcm", video)
    assert np.array_equal(decode(path, 2)[..., 0], video[2])
    assert refusal(path, 3) == "has no frame 3, it holds 3 frames, counted from 0"


def test_broken_files(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", STORED)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert "is truncated or damaged" in refusal(path)
    path.write_bytes(whole[:200])
    assert "copy it again from its source" in refusal(path) or "without pixels" in refusal(path)
    path.write_text("patient,label")
    assert refusal(path) == "is not a readable DICOM file, copy it again from its source"
    path.touch()
    path.write_bytes(b"")
    assert refusal(path) == "is empty (0 bytes), copy it again from its source"


def test_report_without_pixels(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", STORED)
    file = dcmread(path)
    del file.PixelData
    file.save_as(path)
    assert refusal(path) == "is a DICOM file without pixels, remove it from the manifest"


def items(**values):
    """A sequence of one item."""
    item = Dataset()
    for key, value in values.items():
        setattr(item, key, value)
    return Sequence([item])


SIGNED = np.array([[-2000, -1024], [0, 100], [3071, -2000]], np.int16)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_padding_becomes_background(tmp_path, photometric):
    tags = {"RescaleSlope": 1, "RescaleIntercept": -24, "PixelPaddingValue": -2000}
    path = write_dicom(tmp_path / "a.dcm", SIGNED, photometric, **tags)
    background = -1048 if photometric == "MONOCHROME2" else 3047  # black in both
    expected = [[background, -1048], [-24, 76], [3047, background]]
    assert decode(path)[..., 0].tolist() == expected
    shown = Reader(size=None, window="full").read(path)[..., 0]
    assert (shown[0, 0], shown[2, 1]) == (0, 0)


def test_a_negative_slope_turns_what_is_lowest(tmp_path):
    tags = {"RescaleSlope": -1, "RescaleIntercept": 0, "PixelPaddingValue": -2000}
    path = write_dicom(tmp_path / "a.dcm", SIGNED, **tags)
    assert decode(path)[..., 0].tolist() == [[-3071, 1024], [0, -100], [-3071, -3071]]


def test_a_range_of_padding_and_padding_alone(tmp_path):
    tags = {"PixelPaddingValue": -1024, "PixelPaddingRangeLimit": -2000}
    path = write_dicom(tmp_path / "a.dcm", SIGNED, **tags)
    assert decode(path)[..., 0].tolist() == [[0, 0], [0, 100], [3071, 0]]
    path = write_dicom(tmp_path / "b.dcm", SIGNED, PixelPaddingValue=-1, PixelPaddingRangeLimit=0)
    assert decode(path)[1, 0] == -2000
    blank = np.full((4, 4), -2000, np.int16)
    path = write_dicom(tmp_path / "c.dcm", blank, PixelPaddingValue=-2000)
    assert np.array_equal(decode(path)[..., 0], blank)


def test_padding_outside_the_stored_bits_is_no_grey_value(tmp_path):
    words = np.array([[0xF830, 0x0830, 5], [7, 9, 4095]], np.uint16)  # 0x830 is a true grey
    tags = {"BitsStored": 12, "HighBit": 11, "PixelPaddingValue": 0xF830}
    path = write_dicom(tmp_path / "a.dcm", words, **tags)
    assert decode(path)[..., 0].tolist() == [[5, 0x830, 5], [7, 9, 4095]]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_junk_and_overlays_beside_the_stored_bits_do_not_show(tmp_path, syntax, kind):
    draw = np.random.default_rng(0)
    low, high = (-2048, 2048) if kind == np.int16 else (0, 4096)
    clean = draw.integers(low, high, (6, 8)).astype(kind)
    junk = draw.integers(0, 16, (6, 8)).astype(np.uint16) << 12
    words = (clean.view(np.uint16) & 0x0FFF | junk).view(kind)
    stored = words.astype(words.dtype.newbyteorder(">")) if syntax == ExplicitVRBigEndian else words
    tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(kind == np.int16)}
    path = write_dicom(tmp_path / "a.dcm", stored, syntax=syntax, **tags)
    assert np.array_equal(decode(path)[..., 0], clean)
    lifted = (clean.view(np.uint16) << 4 | junk >> 12).view(kind)
    path = write_dicom(tmp_path / "b.dcm", lifted, **tags | {"HighBit": 15})
    assert np.array_equal(decode(path)[..., 0], clean)


def test_twelve_bits_span_black_to_white_without_a_window(tmp_path):
    stored = np.array([[0, 4095], [2048, 1024]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, BitsStored=12, HighBit=11)
    for window in ("full", "dicom"):
        shown = Reader(size=None, window=window, depth=16).read(path)[..., 0]
        assert np.array_equal(shown, np.rint(stored / 4095 * 65535))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_modality_table(tmp_path, syntax, kind):
    stored = np.array([[0, 9, 10], [11, 12, 200]], np.uint8)
    entries = np.array([7, 30, 250], kind)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    table = items(LUTDescriptor=[3, 10, entries.itemsize * 8], ModalityLUTType="US")
    data = entries.astype(entries.dtype.newbyteorder(order)).tobytes()
    data += b"\0" * (len(data) % 2)
    if kind == np.uint8 and order == ">":  # bytes are packed into words
        data = np.frombuffer(data, "<u2").astype(">u2").tobytes()
    table[0].add_new("LUTData", "OW", data)
    path = write_dicom(
        tmp_path / "a.dcm", stored, syntax=syntax, ModalityLUTSequence=table, RescaleSlope=5
    )
    found = decode(path)[..., 0]
    assert found.dtype == kind
    assert found.tolist() == [[7, 7, 7], [30, 250, 250]]


def test_a_lone_intercept_is_applied_and_a_slope_of_zero_refused(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", SIGNED, RescaleIntercept=-1000)
    assert np.array_equal(decode(path)[..., 0], SIGNED - 1000)
    path = write_dicom(tmp_path / "b.dcm", SIGNED, RescaleSlope=0, RescaleIntercept=0)
    assert refusal(path) == "has a header that breaks the standard, mend it or remove the image"


def enhanced(path, syntax=ExplicitVRLittleEndian):
    stored = np.stack([SIGNED, SIGNED + 1])
    frames = Sequence()
    for slope, center in ((2, 50), (4, 80)):
        (group,) = items(
            PixelValueTransformationSequence=items(RescaleSlope=slope, RescaleIntercept=-10),
            FrameVOILUTSequence=items(WindowCenter=center, WindowWidth=101),
            PlanePositionSequence=items(ImagePositionPatient=[0, 0, center]),
        )
        frames.append(group)
    shared = items(
        PixelMeasuresSequence=items(PixelSpacing=[0.5, 0.25], SliceThickness=3),
        FrameVOILUTSequence=items(WindowCenter=1, WindowWidth=2, VOILUTFunction="SIGMOID"),
    )
    return write_dicom(
        path,
        stored,
        syntax=syntax,
        PerFrameFunctionalGroupsSequence=frames,
        SharedFunctionalGroupsSequence=shared,
        RescaleSlope=1000,
        PixelPaddingValue=-2000,
    )


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_each_frame_of_an_enhanced_file_has_its_own_rescale_and_window(tmp_path, syntax):
    path = enhanced(tmp_path / "a.dcm", syntax)
    expected = [[-2058, -2058], [-10, 190], [6132, -2058]]
    assert decode(path, 0)[..., 0].tolist() == expected
    second = SIGNED.astype(float) * 4 + 4 - 10
    assert np.array_equal(decode(path, 1)[..., 0], second)
    shown = Reader(size=None, window="dicom", depth=16).read(path, 1)[..., 0]
    exact = np.clip((second - 79.5) / 100 + 0.5, 0, 1) * 65535
    assert np.abs(shown - exact).max() <= 0.51


def test_the_header_of_a_frame_has_its_place_and_spacing(tmp_path):
    path = enhanced(tmp_path / "a.dcm")
    file = DicomFile(path, path.read_bytes())
    (_, first), (_, second) = (file.frame(number) for number in range(len(file)))
    assert (first.ImagePositionPatient[2], second.ImagePositionPatient[2]) == (50, 80)
    assert [*second.PixelSpacing, second.SliceThickness] == [0.5, 0.25, 3]
    assert "VOILUTFunction" not in second  # the frame's own group replaces the shared one
    assert file.header.RescaleSlope == 1000


COLOUR = np.random.default_rng(3).integers(0, 256, (4, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_rgb_by_pixel_and_by_plane(tmp_path, syntax):
    path = write_dicom(tmp_path / "a.dcm", COLOUR, "RGB", syntax)
    assert np.array_equal(decode(path), COLOUR)
    planes = COLOUR.transpose(2, 0, 1).tobytes()
    tags = {"PlanarConfiguration": 1, "PixelData": planes}
    path = write_dicom(tmp_path / "b.dcm", COLOUR, "RGB", **tags)
    assert np.array_equal(decode(path), COLOUR)


def rgb_of(ybr):
    """PS3.3 C.7.6.3.1.2 solved for RGB."""
    y, b, r = (ybr[..., channel].astype(float) for channel in range(3))
    b, r = b - 128, r - 128
    exact = (y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b)
    return np.clip(np.floor(np.stack(exact, axis=-1) + 0.5), 0, 255)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_ybr_full(tmp_path, syntax):
    path = write_dicom(tmp_path / "a.dcm", COLOUR, "YBR_FULL", syntax)
    assert np.abs(decode(path) - rgb_of(COLOUR)).max() <= 1
    assert (decode(path) == rgb_of(COLOUR)).mean() > 0.99


def test_ybr_full_422(tmp_path):
    halved = COLOUR.copy()
    halved[:, 1::2, 1:] = halved[:, ::2, 1:]
    pairs = np.stack(
        [halved[:, ::2, 0], halved[:, 1::2, 0], halved[:, ::2, 1], halved[:, ::2, 2]], -1
    )
    path = write_dicom(tmp_path / "a.dcm", COLOUR, "YBR_FULL_422", PixelData=pairs.tobytes())
    assert np.abs(decode(path) - rgb_of(halved)).max() <= 1


@pytest.mark.parametrize("photometric", ["YBR_RCT", "YBR_PARTIAL_420", "MONOCHROME2"])
def test_colours_that_are_not_read_are_refused(tmp_path, photometric):
    path = write_dicom(tmp_path / "a.dcm", COLOUR, photometric)
    fault = f"holds 3 samples a pixel as {photometric}, which is not read"
    assert refusal(path) == f"{fault}, convert it to RGB or MONOCHROME2"


def palette(tables, first=0, bits=16, prefix=""):
    tags = {}
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        count = 6 if prefix else len(table)
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [count, first, bits]
        data = np.asarray(table, np.uint8 if bits == 8 else np.uint16).tobytes()
        tags[f"{prefix}{colour}PaletteColorLookupTableData"] = data + b"\0" * (len(data) % 2)
    return tags


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(tmp_path, bits):
    tables = np.random.default_rng(0).integers(0, 2**bits, (3, 5))
    stored = np.array([[0, 3, 4], [5, 6, 7], [8, 9, 255]], np.uint8)
    path = write_dicom(tmp_path / "a.dcm", stored, "PALETTE COLOR", **palette(tables, 3, bits))
    found = decode(path)
    assert found.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert np.array_equal(found, tables.T[np.clip(stored.astype(int) - 3, 0, 4)])


def test_a_palette_of_8_bits_has_room_for_more_than_256_colours(tmp_path):
    tables = np.random.default_rng(0).integers(0, 256, (3, 300))
    stored = np.array([[0, 255], [256, 299]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", stored, "PALETTE COLOR", **palette(tables, 0, 8))
    assert np.array_equal(decode(path), tables.T[stored])


def test_segmented_palette(tmp_path):
    # two entries as they are, then four on a line from 10 to 50
    segments = [[0, 2, 0, 10, 1, 4, 50]] * 2 + [[0, 6, 1, 2, 3, 4, 5, 6]]
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    tags = palette(segments, prefix="Segmented")
    path = write_dicom(tmp_path / "a.dcm", stored, "PALETTE COLOR", **tags)
    expected = [[0, 0, 1], [10, 10, 2], [20, 20, 3], [30, 30, 4], [40, 40, 5], [50, 50, 6]]
    assert decode(path).reshape(6, 3).tolist() == expected


def test_a_mask_of_single_bits_is_black_and_white(tmp_path):
    mask = np.random.default_rng(0).integers(0, 2, (5, 8), dtype=np.uint8)
    packed = np.packbits(mask.ravel(), bitorder="little").tobytes() + b"\0"
    tags = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": packed}
    path = write_dicom(tmp_path / "a.dcm", mask, **tags)
    assert np.array_equal(decode(path)[..., 0], mask)
    assert np.array_equal(Reader(size=None).read(path)[..., 0], mask * 255)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_file_without_preamble_is_read(tmp_path, syntax):
    stored = STORED.astype(">i2") if syntax == ExplicitVRBigEndian else STORED
    path = write_dicom(tmp_path / "a.dcm", stored, syntax=syntax, ImageType=["ORIGINAL"], **CT)
    file = dcmread(path)
    file.preamble = None
    del file.file_meta
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    dcmwrite(path, file, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    assert path.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(decode(path)[..., 0], STORED * 2.0 - 1024)


def test_a_syntax_without_decoder_is_named_with_the_package(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", STORED)
    file = dcmread(path)
    file.PixelData = encapsulate([file.PixelData])
    file["PixelData"].VR = "OB"
    file.file_meta.TransferSyntaxUID = JPEGLSLossless
    file.save_as(path)
    monkeypatch.setattr(get_decoder(JPEGLSLossless), "_available", {})
    assert refusal(path) == (
        "is compressed as JPEG-LS Lossless Image Compression, which no installed package decodes, "
        "install the decoders with `pip install 'medvision[dicom]'`"
    )
    file.file_meta.TransferSyntaxUID = HEVCMP51
    file.save_as(path)
    assert refusal(path) == (
        f"is stored as {HEVCMP51.name}, which is not read, convert it to uncompressed DICOM"
    )
    file.file_meta.TransferSyntaxUID = "1.2.3.99"
    file.save_as(path)
    assert "is stored in an unknown transfer syntax" in refusal(path)
    assert "1.2.3.99" not in refusal(path)


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ({"Rows": 0}, "is only 0 x 10 pixels"),
        ({"Rows": 65535, "Columns": 65535}, "is 65535 x 65535 pixels, over the limit"),
        ({"Rows": 60}, "is truncated or damaged (120 of 1200 bytes of pixels)"),
        ({"NumberOfFrames": 7}, "is truncated or damaged (120 of 840 bytes of pixels)"),
        ({"NumberOfFrames": -7}, "has no frame 0"),
        ({"Rows": [6, 6]}, "has a header that breaks the standard"),
        ({"BitsAllocated": 13}, "is truncated or damaged"),
        ({"BitsStored": 99}, "is truncated or damaged"),
        ({"PixelRepresentation": 9}, "is truncated or damaged"),
        ({"SamplesPerPixel": 4}, "is truncated or damaged"),
        ({"PhotometricInterpretation": "NAME"}, "is truncated or damaged"),
        ({"PhotometricInterpretation": "RGB"}, "holds 1 samples a pixel as RGB"),
        ({"PixelData": b""}, "is truncated or damaged (0 of 120 bytes of pixels)"),
        ({"ModalityLUTSequence": items(LUTDescriptor=[1, 2])}, "breaks the standard"),
        ({"RescaleSlope": [1, 2]}, "breaks the standard"),
    ],
)
def test_headers_that_cannot_be(tmp_path, tags, fault):
    path = write_dicom(tmp_path / "a.dcm", STORED, **tags)
    assert fault in refusal(path)


def test_groups_for_fewer_frames_than_there_are(tmp_path):
    stored = np.stack([STORED, STORED])
    tags = {"PerFrameFunctionalGroupsSequence": items()}
    path = write_dicom(tmp_path / "a.dcm", stored, **tags)
    assert np.array_equal(decode(path, 0)[..., 0], STORED)
    assert "has a header that breaks the standard" in refusal(path, 1)


def test_a_small_file_that_inflates_without_end_is_refused(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", np.zeros((512, 512), np.uint8),
                       syntax=DeflatedExplicitVRLittleEndian)  # fmt: skip
    assert path.stat().st_size < 5000
    assert decode(path).shape == (512, 512, 1)
    monkeypatch.setenv("MEDVISION_FILE_GB", str(100_000 / 2**30))
    assert refusal(path) == "is not a readable DICOM file, copy it again from its source"
