import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, SecondaryCaptureImageStorage

from medvision.data.readers import Reader, decode
from medvision.errors import MedvisionError


def write_dicom(path, stored, photometric="MONOCHROME2", **tags):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    colour = stored.shape[-1] == 3
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
    file.PixelData = stored.tobytes()
    for tag, value in tags.items():
        setattr(file, tag, value)
    file.save_as(path)
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


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        ("LINEAR_EXACT", lambda x: np.clip((x - 500) / 400 + 0.5, 0, 1)),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 500) / 400))),
    ],
)
def test_other_voi_functions(tmp_path, function, shown):
    path = write_dicom(
        tmp_path / "a.dcm", STORED, WindowCenter=500, WindowWidth=400, VOILUTFunction=function
    )
    found = Reader(size=None, window="dicom", depth=16).read(path)
    assert np.abs(found[..., 0] - shown(STORED.astype(float)) * 65535).max() <= 0.51


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
    assert f"{path} asks for a window that cannot be applied (" in str(caught.value)
    assert "choose a window=[low, high] yourself" in str(caught.value)


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
    from pydicom import dcmread

    file = dcmread(path)
    del file.PixelData
    file.save_as(path)
    assert refusal(path) == "is a DICOM file without pixels, remove it from the manifest"


def test_a_missing_decoder_names_the_extra(tmp_path, monkeypatch):
    from medvision.data import dicom

    def no_decoder(*_, **__):
        raise RuntimeError("no plugin")

    path = write_dicom(tmp_path / "a.dcm", STORED)
    monkeypatch.setattr(dicom, "pixel_array", no_decoder)
    assert refusal(path) == (
        "cannot be decoded (Explicit VR Little Endian: no plugin), "
        "install the decoders with `pip install medvision[dicom]`"
    )
    assert JPEG2000Lossless.name  # the name of a compressed syntax is what a user would read
