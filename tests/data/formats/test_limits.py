"""Files that unpack to more than the memory are refused before any of it is taken."""

import gzip
import resource
import zipfile

import nibabel as nib
import numpy as np
import pytest

import medvision.__main__ as program
from medvision.data.formats.arrays import ArrayFile
from medvision.data.formats.limits import most_bytes
from medvision.data.formats.nifti import VolumeFile
from medvision.errors import MedvisionError

HUGE = 2**28  # bytes, of zeros: more than the limit of these tests


@pytest.fixture(autouse=True)
def limit(monkeypatch):
    """A tenth of a gigabyte; by default it is two."""
    monkeypatch.delenv("MEDVISION_FILE_GB", raising=False)
    assert most_bytes() == 2 * 2**30
    monkeypatch.setenv("MEDVISION_FILE_GB", "0.1")


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_packed_volume_of_gigabytes(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((2048, 2048, HUGE // 2**22))
    header["magic"], header["vox_offset"] = b"n+1", 352
    path, before = tmp_path / "bomb.nii.gz", peak()
    with gzip.open(path, "wb", 9) as stream:
        stream.write(header.binaryblock + bytes(4))
        for _ in range(HUGE // 2**24):
            stream.write(bytes(2**24))
    with pytest.raises(
        MedvisionError, match=r"would take 0\.[23] GB of memory .*MEDVISION_FILE_GB"
    ):
        VolumeFile(path)
    assert peak() - before < 100_000  # kilobytes


def test_an_array_of_gigabytes(tmp_path):
    path, before = tmp_path / "bomb.npz", peak()
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as stream,
    ):
        shape = (HUGE // 2**20, 1024, 1024)
        facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, facts)
        for _ in range(HUGE // 2**24):
            stream.write(bytes(2**24))
    with pytest.raises(MedvisionError, match=r"would take 0\.[23] GB of memory"):
        ArrayFile(path)
    assert peak() - before < 100_000


def test_the_limit_is_the_users(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, a=np.zeros((4, 64, 64), np.uint8))
    monkeypatch.setenv("MEDVISION_FILE_GB", "0.00001")
    with pytest.raises(MedvisionError, match="MEDVISION_FILE_GB"):
        ArrayFile(path)
    monkeypatch.setenv("MEDVISION_FILE_GB", "0.0001")
    assert len(ArrayFile(path)) == 4
    for text in ("nan", "-1", "lots"):
        monkeypatch.setenv("MEDVISION_FILE_GB", text)
        with pytest.raises(MedvisionError, match="no number of gigabytes"):
            most_bytes()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_is_used_up_is_one_sentence(error, monkeypatch, capsys):
    def fail(words):
        raise error

    monkeypatch.setattr(program, "_run", fail)
    with pytest.raises(SystemExit) as end:
        program.main(["predict"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("medvision: the memory is used up; take smaller")
