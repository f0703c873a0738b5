import pytest
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.datadict import DicomDictionary
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import SecondaryCaptureImageStorage

from medvision.data.formats.dicom.facts import read_header_facts

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")


def header_with(**tags):
    header = Dataset()
    for tag, value in tags.items():
        setattr(header, tag, value)
    return header


def test_facts_of_a_chest_film():
    found = read_header_facts(
        header_with(
            Modality="DX",
            ViewPosition="PA",
            Laterality="L",
            ImageLaterality="R",
            Manufacturer="FUJI PHOTO FILM Co., Ltd.",
            BodyPartExamined="CHEST",
            PhotometricInterpretation="MONOCHROME1",
            ImagerPixelSpacing=[0.14, 0.15],
            SliceThickness="2.50",
            PatientName="Doe^Jane",
        )
    )
    assert found == {
        "modality": "DX",
        "view": "PA",
        "laterality": "R",
        "manufacturer": "FUJI PHOTO FILM Co. Ltd.",
        "body_part": "CHEST",
        "photometric": "MONOCHROME1",
        "spacing_y_mm": "0.14",
        "spacing_x_mm": "0.15",
        "spacing_from": "ImagerPixelSpacing",
        "slice_thickness_mm": "2.5",
        "burned_in": "",
    }


def test_an_empty_header_has_no_facts():
    assert set(read_header_facts(Dataset()).values()) == {""}


def test_facts_of_a_file():
    path = get_testdata_file("CT_small.dcm", download=False)
    found = read_header_facts(dcmread(path, stop_before_pixels=True))
    assert (found["modality"], found["manufacturer"]) == ("CT", "GE MEDICAL SYSTEMS")
    assert (found["spacing_y_mm"], found["spacing_from"]) == ("0.661468", "PixelSpacing")
    assert found["slice_thickness_mm"] == "5.0"


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"BurnedInAnnotation": "YES"}, "annotation"),
        ({"BurnedInAnnotation": "NO"}, ""),
        ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary capture"),
        ({"SOPClassUID": f"{SecondaryCaptureImageStorage}.4"}, "secondary capture"),
        ({"SOPClassUID": f"{SecondaryCaptureImageStorage}7"}, ""),
        ({"SequenceOfUltrasoundRegions": Sequence([Dataset()])}, "ultrasound"),
    ],
)
def test_pixels_that_may_show_text_are_flagged(tags, why):
    assert read_header_facts(header_with(**tags))["burned_in"] == why


def test_the_meta_header_may_name_the_class():
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    assert read_header_facts(header)["burned_in"] == "secondary capture"


@pytest.mark.parametrize(
    "name", ["DOE^JANE", "Jane Doe", "DOE", "1234567", "日本", "=1+1", "a\nb", "/ _"]
)
def test_a_name_planted_in_every_text_is_not_told(name):
    header = Dataset()
    texts = ("PN", "LO", "SH", "CS", "LT", "ST", "UT", "AE", "UI", "UC")
    for _, (vr, _, _, _, keyword) in DicomDictionary.items():
        if vr in texts and keyword:
            setattr(header, keyword, name)
    assert set(read_header_facts(header).values()) == {""}


@pytest.mark.parametrize("length", [0, -1, "nan", "inf", ""])
def test_lengths_that_cannot_be_are_not_told(length):
    header = header_with(PixelSpacing=[length, 1], SliceThickness=length)
    assert set(read_header_facts(header).values()) == {""}
    header.ImagerPixelSpacing = [0.5, 1]
    assert read_header_facts(header)["spacing_from"] == "ImagerPixelSpacing"


def test_damaged_values_say_nothing():
    path = get_testdata_file("CT_small.dcm", download=False)
    header = dcmread(path)
    for keyword in ("SliceThickness", "PixelSpacing"):
        raw = header.get_item(keyword)
        header[raw.tag] = raw._replace(value=b"Doe^Jane") if hasattr(raw, "_replace") else raw
    found = read_header_facts(header)
    assert (found["slice_thickness_mm"], found["spacing_y_mm"], found["modality"]) == ("", "", "CT")
