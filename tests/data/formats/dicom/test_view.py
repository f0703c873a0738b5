import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from medvision.data.formats.decode import Decoded
from medvision.data.formats.dicom.view import displayed, is_inverted, stored_top
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError

HU = np.arange(-200, 200, 0.5, dtype=np.float32).reshape(40, 20, 1)


def header_with(photometric="MONOCHROME2", **tags):
    header = Dataset()
    header.PhotometricInterpretation = photometric
    for tag, value in tags.items():
        setattr(header, tag, value)
    return header


def table(first, entries, bits=8):
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.add_new("LUTData", "US", entries)
    return item


def linear(x, c, w):
    """PS3.3 C.11.2.1.2.1, its pseudo-code line by line."""
    inside = (x - (c - 0.5)) / max(w - 1, 1e-9) + 0.5
    low, high = x <= c - 0.5 - (w - 1) / 2, x > c - 0.5 + (w - 1) / 2
    return np.where(low, 0, np.where(high, 1, inside))


def linear_exact(x, c, w):
    inside = (x - c) / w + 0.5
    return np.where(x <= c - w / 2, 0, np.where(x > c + w / 2, 1, inside))


def sigmoid(x, c, w):
    return 1 / (1 + np.exp(np.minimum(-4 * (x - c) / w, 700)))


@pytest.mark.parametrize(("center", "width"), [(40, 80), (-0.5, 1), (0, 3.5), (10, 4096)])
@pytest.mark.parametrize(
    ("function", "formula"),
    [
        ("", linear),
        ("LINEAR", linear),
        ("LINEAR_EXACT", linear_exact),
        ("SIGMOID", sigmoid),
    ],
)
def test_functions_are_the_formulas_of_the_standard(function, formula, center, width):
    header = header_with(WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
    shown = displayed(HU, header)
    assert shown.dtype == np.float32
    assert np.abs(shown - formula(HU.astype(float), center, width)).max() < 1e-6
    assert 0 <= shown.min() <= shown.max() <= 1


def test_the_three_functions_differ():
    shown = [
        displayed(HU, header_with(WindowCenter=40, WindowWidth=80, VOILUTFunction=name))
        for name in ("LINEAR", "LINEAR_EXACT", "SIGMOID")
    ]
    assert np.abs(shown[0] - shown[1]).max() > 1e-3
    assert np.abs(shown[1] - shown[2]).max() > 1e-2


def test_views_are_tables_then_windows():
    tables = Sequence([table(-1, [0, 51, 255]), table(0, [0, 1023], 10)])
    header = header_with(
        VOILUTSequence=tables, WindowCenter=[1, 0, 9], WindowWidth=[2, 0, 4], PixelRepresentation=1
    )
    pixels = np.array([[-9, -1], [0, 1]], np.int16)
    assert np.allclose(displayed(pixels, header, 0), [[0, 0], [0.2, 1]])
    assert displayed(pixels, header, 1).tolist() == [[0, 0], [0, 1]]
    assert displayed(pixels, header, 2).tolist() == [[0, 0], [0, 1]]
    exact = linear(pixels.astype(float), 9, 4)  # the window of width 0 is not set
    assert np.allclose(displayed(pixels, header, 3), exact)
    assert displayed(pixels, header, 4) is None
    assert displayed(pixels, header_with()) is None


def test_a_table_whose_first_value_was_written_unsigned():
    header = header_with(VOILUTSequence=Sequence([table(65536 - 100, [0, 51, 255])]))
    header.RescaleIntercept = -1024
    pixels = np.array([[-100.2, -99], [-98, 50]], np.float32)
    assert np.allclose(displayed(pixels, header), [[0, 0.2], [1, 1]])


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 1, "WindowWidth": 5, "VOILUTFunction": "CUBIC"},
        {"WindowCenter": 1, "WindowWidth": -5},
        {"WindowCenter": 1, "WindowWidth": 0.5},
        {"WindowCenter": [1, 2], "WindowWidth": 5},
        {"WindowCenter": 1},
        {"VOILUTSequence": Sequence([table(0, [0, 1], 7)])},
    ],
)
def test_what_cannot_be_applied_is_refused(tmp_path, tags):
    image = Decoded(tmp_path / "a.dcm", HU, header_with(**tags))
    with pytest.raises(MedvisionError) as caught:
        Reader(size=None, window="dicom").render(image)
    fault = "asks for a window that cannot be applied, choose a window=[low, high] yourself"
    assert str(caught.value) == f"{tmp_path / 'a.dcm'} {fault}"


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME1", "", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "", False),
        ("RGB", "INVERSE", False),
    ],
)
def test_inversion(tmp_path, photometric, shape, inverted):
    header = header_with(photometric, PresentationLUTShape=shape)
    assert is_inverted(header) is inverted
    pixels = np.array([[0, 255]] * 2, np.uint8)[..., None]
    shown = Reader(size=None).render(Decoded(tmp_path / "a.dcm", pixels, header))
    assert shown[0, :, 0].tolist() == ([255, 0] if inverted else [0, 255])


def test_the_highest_stored_value():
    assert stored_top(header_with(BitsStored=12)) == 4095
    assert stored_top(header_with("PALETTE COLOR", BitsStored=8)) is None
    assert stored_top(header_with()) is None
    tables = Sequence([table(0, [0, 1, 2], 10)])
    assert stored_top(header_with(BitsStored=12, ModalityLUTSequence=tables)) == 1023


def test_three_windows_become_channels(tmp_path):
    header = header_with("MONOCHROME1", WindowCenter=[40, 80, 0], WindowWidth=[80, 20, 400])
    image = Decoded(tmp_path / "a.dcm", HU, header)
    reader = Reader(size=(8, 8), channels=3, window=["dicom", "lung", "dicom"], fit="stretch")
    found = reader.render(image)
    grey = Reader(size=(8, 8), window="dicom", fit="stretch")
    lung = Reader(size=(8, 8), window="lung", fit="stretch")
    second = header_with("MONOCHROME1", WindowCenter=80, WindowWidth=20)
    alone = (grey.render(image), lung.render(image), grey.render(Decoded(image.path, HU, second)))
    assert np.abs(found.astype(int) - np.concatenate(alone, axis=-1)).max() <= 1
    short = Decoded(tmp_path / "b.dcm", HU, header_with(WindowCenter=[1], WindowWidth=[2]))
    with pytest.raises(MedvisionError, match=r"b.dcm asks for no more than 1 windows, choose pre"):
        reader.render(short)
    colour = Decoded(tmp_path / "c.dcm", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(MedvisionError, match=r"c.dcm is a colour image, which has no windows"):
        reader.render(colour)
