"""`medvision prepare`: the data card tells what was left out, and what the audit found."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from pydicom.data import get_testdata_file

from medvision.commands import prepare as command


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    top = tmp_path / "in"
    top.mkdir()
    for n in range(3):
        voxels = np.random.default_rng(n).integers(1, 99, (8, 9, 4)).astype(np.int16)
        voxels[..., 0] = 0
        spacing = np.diag([0.5 + n / 10, 0.5, 4, 1])
        nibabel.save(nibabel.Nifti1Image(voxels, spacing), top / f"s{n}.nii")
    (top / "notes.txt").write_text("text")
    rows = {"series": ["s0", "s1", "s9"], "label": ["ill", "well", "ill"]}
    pd.DataFrame(rows).to_csv(top / "labels.csv", index=False)
    return top


def test_the_card_tells_what_was_found_and_left_out(volumes, tmp_path, medvision):
    done = medvision(
        "prepare", "source=nifti", f"input={volumes}", f"output={tmp_path / 'out'}",
        "columns.patient=path", f"labels={volumes / 'labels.csv'}",
    )  # fmt: skip
    assert done.status == 0, done.err
    told = " ".join(done.out.split())
    for words in (
        "data.unit=series model=rnn",
        "spacing 0.5 to 0.7 mm",
        "skipped 2 other files",
        "3 lines; 1 of them fit nothing that was found, 1 of what was found have no label",
        "copies 0 images repeat another one",
        "near copies 0 pairs",
        "3 images (such as line 2) of one grey value",
        "pixels of 0.5 to 0.7 mm",
    ):
        assert words in told


def test_the_card_of_a_tree_tells_what_was_not_taken(tmp_path, medvision):
    top = tmp_path / "in"
    top.mkdir()
    for name in ("MR_small.dcm", "reportsi.dcm"):
        shutil.copy(get_testdata_file(name, download=False), top / name)
    (top / "broken.dcm").write_bytes(b"text")
    done = medvision(
        "prepare", "source=dicom", f"input={top}", f"output={tmp_path / 'out'}", "on_odd=exclude"
    )
    assert done.status == 0, done.err
    assert "not taken    1 Basic Text SR Storage" in done.out
    assert "excluded     'broken.dcm' is damaged or has no pixels" in done.out


def test_images_that_are_in_no_series_are_not_offered_as_series(tmp_path, medvision):
    for n in range(3):
        np.save(tmp_path / f"{n}.npy", np.full((8, 8), n, np.uint8))
    rows = {"path": [f"{n}.npy" for n in range(3)], "patient": list("abc")}
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    done = medvision("prepare", "source=table", f"input={tmp_path / 'table.csv'}",
                     f"output={tmp_path / 'out'}")  # fmt: skip
    assert done.status == 0, done.err
    assert "data.manifest=" in done.out
    assert "data.unit=series" not in done.out


def test_all_sources_are_explained():
    from medvision.data.sources.prepare import list_sources

    names = list_sources()
    assert names == ["dicom", "folder", "medmnist", "nifti", "phantom", "table", "video"]
    assert all(f"  {name} " in (command.run.__doc__ or "") for name in names)
