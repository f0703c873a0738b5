import cv2
import nibabel
import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medvision.data.sources.defaults import choose_augment, choose_form
from medvision.training.config import settle_augment


def write(place, size, *, colour=False, layers=3):
    place.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    grey = random.integers(0, 200, (*size, 1), dtype=np.uint8).repeat(layers, axis=-1)
    if colour:
        grey[..., 0] //= 3
    cv2.imwrite(str(place), grey)
    return place


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(300, 400)] * 3, [128, 128]),
        ([(28, 28)] * 3, [32, 32]),
        ([(64, 90)] * 3, [64, 96]),
        ([(40, 40), (64, 64), (999, 999)], [64, 64]),
    ],
)
def test_the_median_file_says_the_size_up_to_a_bound(tmp_path, sizes, chosen):
    for number, size in enumerate(sizes):
        write(tmp_path / "a" / f"p{number}.png", size)
    assert choose_form(None, {"name": "folder", "input": str(tmp_path)}, None)[0] == chosen


def test_colour_is_kept_where_files_show_it_and_not_where_they_have_three_equal_channels(tmp_path):
    write(tmp_path / "colour" / "a" / "p.png", (40, 40), colour=True)
    write(tmp_path / "grey" / "a" / "p.png", (40, 40))
    forms = {name: choose_form(None, {"name": "folder", "input": str(tmp_path / name)}, None)
             for name in ("colour", "grey")}  # fmt: skip
    assert {name: channels for name, (_, channels) in forms.items()} == {"colour": 3, "grey": 1}


def test_tables_are_looked_at_and_what_cannot_be_is_as_before(tmp_path):
    write(tmp_path / "a.png", (64, 64), colour=True)
    pd.DataFrame({"file": ["a.png"]}).to_csv(tmp_path / "t.csv", index=False)
    table = str(tmp_path / "t.csv")
    assert choose_form(table, None, {"path": "file"}) == ([64, 64], 3)
    source = {"name": "table", "input": table, "columns": {"path": "file"}}
    assert choose_form(None, source, None) == ([64, 64], 3)
    for other in ({"name": "phantom"}, {"name": "folder", "input": "nowhere"}, {"name": "dicom",
                  "input": "nowhere"}, None):  # fmt: skip
        assert choose_form(None, other, None) == ([128, 128], 1)
    assert choose_form(str(tmp_path / "none.csv"), None, None) == ([128, 128], 1)


def test_volumes_clips_and_dicom_tell_their_size_too(tmp_path):
    volume = nibabel.Nifti1Image(np.zeros((70, 50, 9), np.int16), np.diag([1, 1, 5, 1]))
    (tmp_path / "n").mkdir()
    nibabel.save(volume, tmp_path / "n" / "a.nii.gz")
    film = cv2.VideoWriter(
        str(write(tmp_path / "v" / "a.png", (8, 8)).with_suffix(".avi")),
        cv2.VideoWriter_fourcc(*"MJPG"), 5, (96, 40),
    )  # fmt: skip
    for _ in range(3):
        film.write(np.dstack([np.full((40, 96), grey, np.uint8) for grey in (20, 90, 200)]))
    film.release()
    write_dicom(tmp_path / "d", "US", np.zeros((60, 20), np.uint8))
    forms = {name: choose_form(None, {"name": name, "input": str(tmp_path / name[0])}, None)
             for name in ("nifti", "video", "dicom")}  # fmt: skip
    assert sorted(forms["nifti"][0]) == [64, 96]
    assert forms["nifti"][1] == 1
    assert forms["video"] == ([64, 96], 3)
    assert forms["dicom"] == ([64, 32], 1)


def write_dicom(place, modality, pixels=None):
    dataset = Dataset()
    dataset.Modality, dataset.SOPInstanceUID = modality, generate_uid()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if pixels is not None:
        dataset.set_pixel_data(pixels, "MONOCHROME2", 8)
    place.mkdir(parents=True, exist_ok=True)
    dataset.save_as(place / "IM0", enforce_file_format=True)


@pytest.mark.parametrize(
    ("modality", "preset"),
    [("MR", "mr"), ("DX", "xray"), ("US", "ultrasound"), ("CT", "ct"), ("OT", "ct")],
)
def test_augmentation_goes_by_the_modality_where_it_is_known(tmp_path, modality, preset):
    write_dicom(tmp_path / "in", modality)
    source = {"name": "dicom", "input": str(tmp_path / "in")}
    pd.DataFrame({"path": ["a"], "kind": [modality]}).to_csv(tmp_path / "t.csv", index=False)
    table = str(tmp_path / "t.csv")
    assert choose_augment(None, source, None) == preset
    assert choose_augment(table, None, {"modality": "kind"}) == preset
    assert choose_augment(None, {"name": "table", "input": table}, None) == "ct"  # no such column
    config = OmegaConf.create({"augment": {"gamma": 7}, "data": {"source": source}})
    said = config.copy()
    settle_augment(config, ["seed=1"])
    settle_augment(said, ["augment=none"])
    assert said.augment.gamma == 7
    assert config.augment.gamma == {"ct": 7, "mr": 0.3, "xray": 0.4, "ultrasound": 0.3}[preset]


def test_what_tells_no_modality_is_augmented_least(tmp_path):
    assert choose_augment(None, {"name": "folder", "input": str(tmp_path)}, None) == "ct"
    assert choose_augment(None, {"name": "dicom", "input": "nowhere"}, None) == "ct"
