"""A maker of small DICOM files, for all that reads trees of them."""

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

AXIAL = [1, 0, 0, 0, 1, 0]


def write_image(path: Path, mm=None, orientation=AXIAL, size=(8, 10), frames=None, **tags) -> Path:
    """Write one image of random pixels; `mm` sets the position along z, None leaves it out."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = tags.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{crc32(str(path).encode())}"
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID = meta.MediaStorageSOPClassUID
    file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    file.PatientID, file.StudyInstanceUID, file.SeriesInstanceUID = "P1", "1.2.1", "1.2.1.1"
    file.Modality, file.PixelSpacing, file.StudyDate = "CT", [0.5, 0.25], "20200103"
    file.Rows, file.Columns, file.SamplesPerPixel = *size, 1
    file.PhotometricInterpretation, file.PixelRepresentation = "MONOCHROME2", 0
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit = 15
    if mm is not None:
        file.ImagePositionPatient, file.ImageOrientationPatient = [0, 0, mm], orientation
    if frames is not None:
        file.NumberOfFrames = frames
    seed = crc32(str(path).encode())
    pixels = np.random.default_rng(seed).integers(0, 999, ((frames or 1), *size))
    file.PixelData = pixels.astype(np.uint16).tobytes()
    for tag, value in tags.items():
        if value is None:
            delattr(file, tag)
        else:
            setattr(file, tag, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(path)
    return path


def write_enhanced(path: Path, mm, **tags) -> Path:
    """Write one enhanced file with a frame at each of the places along z."""
    shared, frames = Dataset(), []
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing, plane.ImageOrientationPatient = [2.0, 3.0], AXIAL
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([plane])
    for place in mm:
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, place]
        group.PlanePositionSequence = Sequence([position])
        frames.append(group)
    groups = {
        "SharedFunctionalGroupsSequence": Sequence([shared]),
        "PerFrameFunctionalGroupsSequence": Sequence(frames),
    }
    return write_image(path, frames=len(frames), PixelSpacing=None, **groups | tags)


@pytest.fixture(scope="session")
def dicom_image():
    return write_image


@pytest.fixture(scope="session")
def dicom_enhanced():
    return write_enhanced
