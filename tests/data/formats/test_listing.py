from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames

from medvision.data.formats.decode import load_frames
from medvision.data.formats.listing import SUFFIXES, count_frames, is_dicom_image, list_images
from medvision.errors import MedvisionError


@pytest.fixture
def dose():
    """A file of 15 uncompressed frames."""
    return dcmread(get_testdata_file("rtdose.dcm", download=False))


def save(header, path):
    header.save_as(path)
    return path


@pytest.mark.parametrize("promised", [16, 10**9, 2**31 - 1])
def test_promised_frames_that_cannot_be_there_are_one_row_that_says_so(dose, tmp_path, promised):
    dose.NumberOfFrames = promised
    path = save(dose, tmp_path / "lie.dcm")
    assert count_frames(path) == 1
    (told,) = load_frames(path, [0])
    assert isinstance(told, MedvisionError)
    assert "lie.dcm is truncated or damaged" in str(told)


def test_fewer_frames_than_there_are_count_as_told(dose, tmp_path):
    dose.NumberOfFrames = 3
    assert count_frames(save(dose, tmp_path / "few.dcm")) == 3


def test_of_compressed_frames_one_more_is_counted_where_some_are_missing(tmp_path):
    header = dcmread(get_testdata_file("examples_ybr_color.dcm", download=False))
    frames = list(generate_frames(header.PixelData, number_of_frames=30))
    header.PixelData = encapsulate(frames[:4])
    path = save(header, tmp_path / "lie.dcm")
    assert count_frames(path) == 5
    assert isinstance(list(load_frames(path, range(5)))[4], MedvisionError)


def test_nothing_a_header_says_is_printed(dose, tmp_path, capfd):
    dose.PatientID = "QUENNELL" * 20
    dose.PatientName = "Quennell^Ada"
    dose.file_meta.MediaStorageSOPClassUID = "QUENNELL"
    path = save(dose, tmp_path / "named.dcm")
    count_frames(path)
    is_dicom_image(path)
    assert "quennell" not in "".join(capfd.readouterr()).lower()


def test_endings_choose_what_is_listed(tmp_path):
    for name in ("a.png", "b.nii.gz", "c.gz", ".d.png"):
        (tmp_path / name).write_bytes(b"x")
    assert list_images(tmp_path, SUFFIXES) == (["a.png"], 3)
    assert list_images(tmp_path, (".nii.gz",)) == (["b.nii.gz"], 3)


def test_what_cannot_be_read_is_no_dicom_image(tmp_path):
    assert not is_dicom_image(tmp_path / "none")
    np.save(tmp_path / "a.npy", np.zeros((9, 9)))
    assert not is_dicom_image(tmp_path / "a.npy")
    (tmp_path / "broken").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    assert is_dicom_image(Path(tmp_path / "broken"))  # its faults are told when it is read
