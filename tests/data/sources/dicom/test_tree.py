import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    MediaStorageDirectoryStorage,
    RawDataStorage,
    SegmentationStorage,
)

from medvision.data.formats.dicom.facts import read_header_facts
from medvision.data.sources.dicom.tree import read_tree


def test_images_are_known_by_content_and_everything_else_is_counted(tmp_path, dicom_image):
    for name in ("a/IM001", "a/b.dcm", "c/d.IMA"):
        dicom_image(tmp_path / name, 1)
    dicom_image(tmp_path / "._e.dcm", 1)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").write_bytes(b"")
    dicom_image(tmp_path / "DICOMDIR", SOPClassUID=MediaStorageDirectoryStorage)
    dicom_image(tmp_path / "sr", SOPClassUID=BasicTextSRStorage)
    dicom_image(tmp_path / "seg", SOPClassUID=SegmentationStorage)
    dicom_image(tmp_path / "raw", SOPClassUID="1.3.12.2.1107.5.9.1", Rows=None)
    tree = read_tree(tmp_path)
    assert [each.name for each in tree.slices] == ["a/IM001", "a/b.dcm", "c/d.IMA"]
    assert tree.others == {
        "not DICOM": 3, "DICOMDIR": 1, "Basic Text SR Storage": 1, "Segmentation Storage": 1,
        "private object": 1,
    }  # fmt: skip
    assert tree.broken == []


def test_what_should_be_an_image_and_is_not_is_named(tmp_path, dicom_image):
    (tmp_path / "text.dcm").write_text("x")
    dicom_image(tmp_path / "unsized", 1, Rows=None)
    whole = dicom_image(tmp_path / "whole", 1).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: whole.index(b"P1")])
    dicom_image(tmp_path / "wild", 1).write_bytes(whole.replace(b"\\1.0", b"\\x.0"))
    tree = read_tree(tmp_path)
    assert tree.broken == ["cut", "text.dcm", "unsized", "wild"]
    assert [each.name for each in tree.slices] == ["whole"]


def test_other_objects_hold_raw_data_but_no_image(tmp_path, dicom_image):
    dicom_image(tmp_path / "raw", SOPClassUID=RawDataStorage)
    assert read_tree(tmp_path).others == {"Raw Data Storage": 1}


def test_frames_of_an_enhanced_file_have_places_of_their_own(tmp_path, dicom_enhanced):
    dicom_enhanced(tmp_path / "e", [3, 1, 2])
    slices = read_tree(tmp_path).slices
    assert [each.frame for each in slices] == [0, 1, 2]
    assert [each.plane.position[2] for each in slices] == [3, 1, 2]
    assert {each.spacing_mm for each in slices} == {(2.0, 3.0)}


def test_frames_without_their_descriptions_are_not_guessed(tmp_path, dicom_enhanced):
    dicom_enhanced(tmp_path / "e.dcm", [3, 1, 2], PerFrameFunctionalGroupsSequence=[Dataset()] * 2)
    assert read_tree(tmp_path).broken == ["e.dcm"]


def test_a_clip_has_times_and_no_places(tmp_path, dicom_image):
    dicom_image(tmp_path / "clip", 5, frames=3, FrameTime=40)
    slices = read_tree(tmp_path).slices
    assert [each.time_s for each in slices] == [0, 0.04, 0.08]
    assert [each.plane for each in slices] == [None] * 3


def test_reading_says_nothing_of_what_stands_in_a_header(tmp_path, dicom_image, capfd, recwarn):
    path = dicom_image(tmp_path / "a.dcm", 1, InstanceNumber=17)
    path.write_bytes(path.read_bytes().replace(b"IS\x02\x0017", b"IS\x02\x00QX"))
    read_tree(tmp_path)
    assert "QX" not in "".join(capfd.readouterr())
    assert not [w for w in recwarn if "QX" in str(w.message)]


@pytest.mark.parametrize("tag", ["PixelSpacing", "StudyDate", "Modality", "InstanceNumber"])
def test_empty_values_are_missing_ones(tmp_path, dicom_image, tag):
    dicom_image(tmp_path / "a", 1, **{tag: ""})
    (found,) = read_tree(tmp_path).slices
    assert found.spacing_mm == (None if tag == "PixelSpacing" else (0.5, 0.25))


def test_facts_are_those_of_the_whole_header(tmp_path, dicom_image):
    told = {
        "Modality": "MG", "ViewPosition": "CC", "ImageLaterality": "L", "Manufacturer": "SIEMENS",
        "BodyPartExamined": "BREAST", "SliceThickness": 2, "BurnedInAnnotation": "YES",
    }  # fmt: skip
    path = dicom_image(tmp_path / "a", 1, **told)
    whole = read_header_facts(dcmread(path))
    (found,) = read_tree(tmp_path).slices
    assert all(whole.values())
    assert found.facts.items() <= whole.items()
    assert set(whole) - set(found.facts) == {"spacing_y_mm", "spacing_x_mm"}
