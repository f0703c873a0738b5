import shutil
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from pydicom.data import get_testdata_file

from medvision.data.inputs.files import find_images
from medvision.errors import MedvisionError


def bundled(name):
    return Path(get_testdata_file(name, download=False))


@pytest.fixture
def export(tmp_path):
    """What a hospital sends: volumes, a clip, pictures, DICOM without endings, a directory."""
    top = tmp_path / "export"
    (top / "DIR001").mkdir(parents=True)
    shutil.copy(bundled("MR_small.dcm"), top / "DIR001" / "IM000001")
    shutil.copy(bundled("examples_ybr_color.dcm"), top / "DIR001" / "1.2.840.7")
    shutil.copy(bundled("reportsi.dcm"), top / "DIR001" / "SR000001")
    shutil.copy(bundled("DICOMDIR"), top / "DICOMDIR")
    nibabel.save(nibabel.Nifti1Image(np.ones((8, 9, 3), np.int16), np.diag([1, 1, 4, 1])),
                 top / "scan.nii.gz")  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)
    cv2.imwrite(str(top / "a.png"), pixels)
    (top / "half.hdr").write_bytes(b"\0" * 400)
    (top / "notes").write_text("read me")
    (top / ".IM000002").write_bytes((top / "DIR001" / "IM000001").read_bytes())
    return top


def test_a_folder_of_everything_is_found(export):
    found = find_images(export, {})
    assert found.table.groupby("path").size().to_dict() == {
        "DIR001/1.2.840.7": 30, "DIR001/IM000001": 1, "a.png": 1, "half.hdr": 1, "scan.nii.gz": 3
    }  # fmt: skip
    assert found.others == 4  # the report, the directory, the text and the hidden file


def test_a_file_without_an_ending_gives_its_frames(export):
    assert len(find_images(export / "DIR001" / "1.2.840.7", {}).table) == 30


def test_nothing_to_predict_is_a_sentence(tmp_path):
    (tmp_path / "notes").write_text("read me")
    with pytest.raises(MedvisionError, match=r"no image was found .*\.nii.* DICOM of any name"):
        find_images(tmp_path, {})
