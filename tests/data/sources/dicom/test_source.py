import json
import random

import numpy as np
import pandas as pd
import pytest
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UltrasoundMultiFrameImageStorage

from medvision.data.manifest.manifest import read_manifest
from medvision.data.sources.dicom.source import find as find_dicom
from medvision.errors import MedvisionError

NAME = "Planted^Quennell"


def write_series(make, folder, places, **tags):
    """A file a place, in a shuffled order of names."""
    names = random.Random(0).sample(range(100), len(places))
    numbered = enumerate(zip(names, places, strict=True))
    return [make(folder / f"IM{name:03}", mm, InstanceNumber=n, **tags)
            for n, (name, mm) in numbered]  # fmt: skip


def refusal(top, **options):
    with pytest.raises(MedvisionError) as caught:
        find_dicom(top, **options)
    told = str(caught.value)
    assert "1.2.1" not in told
    assert "P1" not in told
    return told


def test_shuffled_names_come_out_in_order(tmp_path, dicom_image):
    write_series(dicom_image, tmp_path / "a", [20, -10, 0, 10])
    found = find_dicom(tmp_path)
    assert found.table["position"].tolist() == [0, 1, 2, 3]
    assert found.table["position_mm"].tolist() == [-10, 0, 10, 20]
    true = [dcmread(path).ImagePositionPatient[2] for path in found.table["path"]]
    assert true == [-10, 0, 10, 20]
    columns = found.table[["spacing_y_mm", "spacing_x_mm", "modality", "day"]]
    assert columns.to_numpy().tolist() == [[0.5, 0.25, "CT", 0]] * 4
    assert found.facts["ordered by"] == {"normal": 1}


def test_oblique_slices_are_ordered_along_their_normal_not_by_number(tmp_path, dicom_image):
    tilt = np.cos(0.5), np.sin(0.5)
    cosines = [1, 0, 0, 0, tilt[0], tilt[1]]
    for number, step in enumerate([2, 0, 3, 1]):
        place = [5, -tilt[1] * 4 * step, tilt[0] * 4 * step]
        dicom_image(tmp_path / f"{number}", 0, cosines, InstanceNumber=number)
        dicom_image(tmp_path / f"{number}", 0, cosines, ImagePositionPatient=place,
                    InstanceNumber=number)  # fmt: skip
    table = find_dicom(tmp_path).table
    assert [path[-1] for path in table["path"]] == ["1", "3", "0", "2"]
    assert table["position_mm"].tolist() == pytest.approx([0, 4, 8, 12], abs=1e-3)


def test_a_reversed_row_counts_from_the_other_end(tmp_path, dicom_image):
    for mm in (0, 10, 20):
        dicom_image(tmp_path / f"{mm}", mm, [-1, 0, 0, 0, 1, 0])
    table = find_dicom(tmp_path).table
    assert [path.rpartition("/")[2] for path in table["path"]] == ["20", "10", "0"]


ODD = {
    "gap": ([0, 5, 10, 20], {}, "have a gap of 10 mm after slice 2 where steps are 5 mm "
            "(find the missing files, or say on_gap=keep)"),
    "repeat": ([0, 5, 5, 10], {}, "hold 1 in the place of another one "
               "(nothing in their headers tells them apart: remove all but one of a place)"),
    "orientation": ([0, 5, 10], {"ImageOrientationPatient": [1, 0, 0, 0, 0, 1]},
                    "have 2 orientations (say series_by=orientation)"),
    "size": ([0, 5, 10], {"Rows": 4, "Columns": 20},
             "have 2 sizes, 4x20 and 8x10 (say series_by=size)"),
    "spacing": ([0, 5, 10], {"PixelSpacing": [0.5, 0.26]},
                "have pixels of several spacings (say series_by=spacing)"),
    "patients": ([0, 5, 10], {"PatientID": "P2"},
                 "name 2 patients (mend the headers, or give a rule with columns.patient)"),
    "nowhere": ([0, 5, 10], {"ImagePositionPatient": None},
                "hold 1 without a position or an orientation"),
    "skewed": ([0], {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
               "have directions that are not at right angles"),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_series_is_refused_by_its_sentence(tmp_path, dicom_image, odd):
    places, last, sentence = ODD[odd]
    for number, mm in enumerate(places):
        last_one = number == len(places) - 1
        dicom_image(tmp_path / "bad" / f"{number}", mm, **(last if last_one else {}))
    write_series(dicom_image, tmp_path / "good", [1, 2], SeriesInstanceUID="1.2.1.9")
    told = refusal(tmp_path)
    assert told.startswith("1 of 2 series cannot be used: ")
    assert f"{len(places)} slices in 'bad' (first file '0') {sentence}" in told
    assert told.endswith("Mend them, or leave them out, counted, with on_odd=exclude")
    kept = find_dicom(tmp_path, on_odd="exclude")
    assert len(kept.table) == 2
    assert sentence in kept.facts["excluded"][0]
    assert kept.facts["set aside"] == {"series that cannot be used": 1}


def test_gaps_are_kept_by_choice(tmp_path, dicom_image):
    write_series(dicom_image, tmp_path, [0, 5, 15])
    found = find_dicom(tmp_path, on_gap="keep")
    assert found.table["position_mm"].tolist() == [0, 5, 15]
    assert found.facts["series with gaps"] == 1


def test_echoes_of_one_place_are_told_apart(tmp_path, dicom_image):
    for echo in (10, 9):
        write_series(dicom_image, tmp_path / f"{echo}", [0, 5], EchoTime=echo)
    assert "hold 2 in the place of another one (they differ in echo: say series_by=echo)" in (
        refusal(tmp_path)
    )
    table = find_dicom(tmp_path, series_by="echo").table
    assert table.groupby("series")["position"].apply(list).tolist() == [[0, 1], [0, 1]]
    assert table["echo"].tolist() == [1, 1, 0, 0]  # by value, not by text


def test_two_indices_and_copies_are_told(tmp_path, dicom_image):
    for echo, phase in [(1, 1), (1, 2), (2, 1), (2, 2)]:
        dicom_image(
            tmp_path / f"{echo}{phase}", 0, EchoNumbers=echo, TemporalPositionIdentifier=phase
        )
    assert "say series_by=[echo,phase]" in refusal(tmp_path)
    assert find_dicom(tmp_path, series_by=["echo", "phase"]).table["series"].nunique() == 4
    copy = tmp_path / "copy" / "a"
    copy.parent.mkdir()
    copy.write_bytes((tmp_path / "11").read_bytes())
    assert "copies of one file: remove all but one" in (
        refusal(tmp_path, series_by=["echo", "phase"])
    )


def test_localisers_are_left_out_counted_or_kept(tmp_path, dicom_image):
    kind = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SeriesInstanceUID": "1.2.1.7"}
    dicom_image(tmp_path / "scout", 0, **kind)
    told = refusal(tmp_path)
    assert told.endswith("(1 localiser); keep localisers with localisers=keep")
    dicom_image(tmp_path / "b", 0)
    found = find_dicom(tmp_path)
    assert len(found.table) == 1
    assert found.facts["not taken"] == {"localiser": 1}
    assert len(find_dicom(tmp_path, localisers="keep").table) == 2


def test_frames_of_an_enhanced_file_are_rows_in_order(tmp_path, dicom_enhanced):
    dicom_enhanced(tmp_path / "e", [10, 0, 5])
    table = find_dicom(tmp_path).table
    assert table["frame"].tolist() == [1, 2, 0]
    assert table["position_mm"].tolist() == [0, 5, 10]
    assert table[["spacing_y_mm", "spacing_x_mm"]].to_numpy().tolist() == [[2.0, 3.0]] * 3


def test_without_positions_images_are_alone_clips_follow_frames(tmp_path, dicom_image):
    for number in (2, 1):
        dicom_image(tmp_path / f"x{number}", InstanceNumber=3 - number)
    clip = {"SOPClassUID": UltrasoundMultiFrameImageStorage, "SeriesInstanceUID": "1.2.1.8"}
    dicom_image(tmp_path / "clip", frames=2, FrameTime=50, **clip)
    found = find_dicom(tmp_path)
    assert found.table["series"].nunique() == 3
    assert found.table["time_s"].dropna().tolist() == [0, 0.05]
    assert found.facts["ordered by"] == {"frame": 1, "alone": 2}
    counted = find_dicom(tmp_path, order="instance").table
    assert counted["path"].str[-2:].tolist() == ["ip", "ip", "x2", "x1"]
    dicom_image(tmp_path / "x3", InstanceNumber=2)
    assert "lack an InstanceNumber or have one twice (say order=alone)" in (
        refusal(tmp_path, order="instance")
    )


def test_series_of_one_place_become_channels(tmp_path, dicom_image):
    for name, number in (("T1post", 1), ("flair_reg", 2), ("other", 3)):
        places = [0.001 * number, 5, 10]
        write_series(
            dicom_image, tmp_path / name, places, SeriesInstanceUID=f"1.2.1.{number}",
            SeriesDescription="FLAIR" if number == 2 else "",
        )  # fmt: skip
    found = find_dicom(tmp_path, channels={"t1": "t1*", "flair": "FLAIR"})
    table = found.table
    assert table["series"].nunique() == 1
    assert table["channel"].tolist() == ["t1"] * 3 + ["flair"] * 3
    assert table["position"].tolist() == [0, 1, 2] * 2
    assert (table.groupby("position")["position_mm"].nunique() == 1).all()
    assert found.facts["not taken"] == {"series without a channel": 1}


MISFITS = {
    "place": ([0, 5, 10.02], {}, "cannot join channels.a and channels.b: "
              "voxels lie up to 0.02 mm apart (register one to the other first)"),
    "spacing": ([0, 5, 10], {"PixelSpacing": [0.5, 0.3]}, "mm apart"),
    "count": ([0, 5], {}, "3 and 2 slices (resample one to the other first)"),
    "size": ([0, 5, 10], {"Rows": 4, "Columns": 20}, "pixels 8x10 and 4x20"),
    "patient": ([0, 5, 10], {"PatientID": "P2"}, "they are of two patients"),
    "study": ([0, 5, 10], {"StudyInstanceUID": "1.3"}, "has 0 series for channels.b (widen its"),
}  # fmt: skip


@pytest.mark.parametrize("misfit", MISFITS)
def test_series_that_do_not_meet_are_no_channels(tmp_path, dicom_image, misfit):
    places, tags, sentence = MISFITS[misfit]
    write_series(dicom_image, tmp_path / "p" / "a", [0, 5, 10])
    write_series(dicom_image, tmp_path / "p" / "b", places, SeriesInstanceUID="1.2.1.2", **tags)
    told = refusal(tmp_path, channels={"a": "a", "b": "b"})
    assert "studies cannot be joined into channels: the study in 'p" in told
    assert sentence in told
    assert "no usable series is left" in (
        refusal(tmp_path, channels={"a": "a", "b": "b"}, on_odd="exclude")
    )


def test_channels_are_one_series_each(tmp_path, dicom_image):
    write_series(dicom_image, tmp_path / "a1", [0])
    write_series(dicom_image, tmp_path / "a2", [0], SeriesInstanceUID="1.2.1.2")
    told = refusal(tmp_path, channels={"t1": "a*", "t2": "a2"})
    assert "has 2 series for channels.t1 (narrow its glob)" in told
    told = refusal(tmp_path, channels={"t1": "a2", "t2": "*2"})
    assert "has one series for channels.t1 and channels.t2" in told
    assert "say channels.NAME=GLOB" in refusal(tmp_path, channels="*T1*")


def test_nameless_patients_need_a_rule(tmp_path, dicom_image):
    for name in ("p1_a", "p2_a"):
        write_series(
            dicom_image, tmp_path / name, [0, 5], PatientID="", SeriesInstanceUID=f"1.{name[1]}",
            StudyInstanceUID=f"1.2.{name[1]}",
        )  # fmt: skip
    told = refusal(tmp_path)
    assert told.startswith("4 files have no PatientID: 'p1_a/IM049'; ")
    assert "columns.patient='(pattern)'" in told
    found = find_dicom(tmp_path, columns={"patient": "(p[0-9])_"})
    assert found.table["patient"].tolist() == ["p1", "p1", "p2", "p2"]
    found = find_dicom(tmp_path, columns={"patient": "path"})
    assert found.table["patient"].nunique() == 2
    assert found.patient_rule == "each study is its own patient (columns.patient=path)"
    assert "columns.patient=PID is no rule" in refusal(tmp_path, columns={"patient": "PID"})


def test_days_count_from_the_first_study_of_a_patient(tmp_path, dicom_image):
    for number, (patient, date) in enumerate(
        [("P1", "20200103"), ("P1", "20191231"), ("P2", "2021.06.01"), ("P2", ""), ("P3", "x")]
    ):
        uids = {"StudyInstanceUID": f"1.{number}", "SeriesInstanceUID": f"1.{number}.1"}
        dicom_image(tmp_path / f"{number}", 0, PatientID=patient, StudyDate=date, **uids)
    days = find_dicom(tmp_path).table["day"]
    assert [None if day is pd.NA else int(day) for day in days] == [3, 0, 0, None, None]


@pytest.mark.parametrize("key", ["patient", "study", "series"])
def test_labels_come_from_a_sidecar(tmp_path, dicom_image, key):
    for number in (1, 2):
        ids = {"PatientID": f"Q{number}", "StudyInstanceUID": f"1.{number}",
               "SeriesInstanceUID": f"1.{number}.1"}  # fmt: skip
        write_series(dicom_image, tmp_path / "in" / f"{number}", [0, 5], **ids)
    raw = {"patient": "Q2", "study": "1.2", "series": "1.2.1"}[key]
    (tmp_path / "labels.csv").write_text(f"{key},dx\n{raw},sick\nother,well\n")
    found = find_dicom(tmp_path / "in", labels=tmp_path / "labels.csv", columns={"label": "dx"})
    assert found.table["label"].tolist() == ["", "", "sick", "sick"]
    assert found.facts["labels"]["such_lines"] == [3]
    assert found.facts["labels"]["such_images"] == [1, 2]


def test_settings_that_cannot_be_are_refused(tmp_path, dicom_image):
    dicom_image(tmp_path / "a", 0)
    assert "order=instanse cannot be (did you mean 'instance'?)" in (
        refusal(tmp_path, order="instanse")
    )
    assert "series_by=echoes cannot be (did you mean 'echo'?)" in (
        refusal(tmp_path, series_by="echoes")
    )
    assert "columns.label means nothing" in refusal(tmp_path, columns={"label": "x"})
    assert "is no folder; source=dicom needs input=DIR" in refusal(tmp_path / "none")


def test_broken_files_and_nothing_to_read_are_said(tmp_path, dicom_image):
    (tmp_path / "notes.txt").write_text("x")
    assert refusal(tmp_path).endswith("(1 not DICOM); check input=")
    dicom_image(tmp_path / "a", 0)
    (tmp_path / "b.dcm").write_text("x")
    assert "1 files should be DICOM images and are not: 'b.dcm' is damaged" in refusal(tmp_path)
    found = find_dicom(tmp_path, on_odd="exclude")
    assert found.facts["excluded"] == ["'b.dcm' is damaged or has no pixels"]
    assert found.facts["set aside"] == {"broken files": 1}
    assert found.facts["not taken"] == {"not DICOM": 1}


def plant(path):
    """Write a name into every text a header can hold, but what the image needs to be read."""
    header = dcmread(path)
    needed = {"PhotometricInterpretation", "SOPClassUID", "SOPInstanceUID", "ImageType"}
    texts = {
        "AccessionNumber", "InstitutionName", "InstitutionAddress", "ReferringPhysicianName",
        "StudyDescription", "SeriesDescription", "ProtocolName", "OperatorsName", "StationName",
        "PatientName", "PatientID", "OtherPatientIDs", "PatientAddress", "PatientComments",
        "ImageComments", "Manufacturer", "ManufacturerModelName", "BodyPartExamined",
        "ViewPosition", "Laterality", "ImageLaterality", "Modality", "BurnedInAnnotation",
        "DeviceSerialNumber", "SoftwareVersions", "StudyID", "SequenceName", "PatientBirthName",
        "ContrastBolusAgent", "RequestedProcedureDescription", "PerformedStationName",
    }  # fmt: skip
    texts |= {each.keyword for each in header if each.VR in ("LO", "SH", "CS", "PN", "ST", "LT")}
    for keyword in sorted(texts - needed):
        setattr(header, keyword, NAME if dictionary_VR(keyword) != "CS" else NAME.upper()[:16])
    header.ImageType = ["ORIGINAL", NAME.upper()]
    header.StudyInstanceUID, header.SeriesInstanceUID = "1.9.8877665", "1.9.8877665.1"
    header.StudyDate = header.SeriesDate = "19770605"
    block = header.private_block(0x0013, NAME, create=True)
    block.add_new(0x10, "LO", NAME)
    nested = Dataset()
    nested.CodeMeaning = NAME
    header.ProcedureCodeSequence = [nested]
    header.save_as(path)


@pytest.mark.parametrize("odd", [False, True])
def test_a_planted_name_is_found_nowhere(tmp_path, dicom_image, medvision, odd):
    for path in write_series(dicom_image, tmp_path / "in", [0, 5, 10, 25 if odd else 15]):
        plant(path)
    (tmp_path / "in" / "scribble.txt").write_text(NAME)
    done = medvision(
        "prepare", "source=dicom", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"
    )
    assert done.status == (2 if odd else 0)
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert bool(written) is not odd
    said = done.out + done.err + "".join(path.read_text(errors="replace") for path in written)
    for secret in ("planted", "quennell", "8877665", "1977", "0605"):
        assert secret not in said.lower().replace(str(tmp_path).lower(), "")


def test_what_is_prepared_is_a_manifest_with_hashed_ids(tmp_path, dicom_image, medvision):
    write_series(dicom_image, tmp_path / "in", [0, 5], InstitutionName="St. Elsewhere")
    words = ("prepare", "source=dicom", f"input={tmp_path / 'in'}")
    assert medvision(*words, f"output={tmp_path / 'out'}").status == 0
    manifest = read_manifest(tmp_path / "out")
    table = manifest.table
    for column in ("patient", "study", "series", "site"):
        assert table[column].str.fullmatch("p[0-9a-f]{12}").all()
    assert table["position"].tolist() == [0, 1]
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["patient_rule"] == "PatientID of the headers"
    done = medvision(*words, f"output={tmp_path / 'out'}", "on_gaps=keep")
    assert "no option 'on_gaps' (did you mean 'on_gap'?)" in done.err
