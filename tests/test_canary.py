"""Names planted wherever data may hold some: no artefact of any command tells one of them."""

import base64
import re
import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

import medvision.files as files
from medvision.data.manifest.path_map import map_file
from medvision.data.store.reader import Reader
from medvision.seen import Seen

NAME = re.compile(rb"quennell-[a-z_]+")
PLACES_OF_FILES = {b"quennell-file", b"quennell-folder"}
SMALL = (
    "data.reader.size=[32,32]", "data.batch_size=8", "data.workers=1", "augment=none",
    "trainer.max_epochs=1", "threads=1", "callbacks.early_stopping=null",
)  # fmt: skip
PATIENTS = 24
HEADERS = (
    "PatientName", "PatientAddress", "OtherPatientIDs", "InstitutionName", "StationName",
    "Manufacturer", "ManufacturerModelName", "OperatorsName", "ReferringPhysicianName",
    "StudyDescription", "SeriesDescription", "ImageComments", "AccessionNumber", "StudyID",
    "ProtocolName", "DeviceSerialNumber", "PatientComments", "RequestedProcedureDescription",
)  # fmt: skip


def name(place: str, number: int = 0) -> str:
    return f"Quennell-{place}-{number:02}"


def draw(number: int, count: int = 1) -> np.ndarray:
    """Noise, brighter in patients of odd number."""
    noise = np.random.default_rng(number).integers(0, 90, (count, 32, 32))
    return (noise + 120 * (number % 2)).astype(np.uint8)


def place_of(top: Path, number: int, ending: str, copy: int = 0) -> Path:
    """A file of a patient, in a folder of its own below that of its class."""
    folder = top / ("ill" if number % 2 else "well") / name("folder", number)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name('file', number)}_{copy}.{ending}"


def plant_image(path: Path, number: int) -> Path:
    """Write a PNG with a name in its text, or a JPEG with one in its EXIF."""
    picture = Image.fromarray(draw(number)[0])
    if path.suffix == ".png":
        text = PngInfo()
        text.add_text("Description", name("png", number))
        text.add_itxt("Comment", name("itxt", number), zip=True)
        picture.save(path, pnginfo=text)
    else:
        exif = Image.Exif()
        exif[0x010E], exif[0x013B] = name("exif", number), name("artist", number)
        picture.save(path, exif=exif, comment=name("jpeg", number).encode(), quality=95)
    return path


def plant_images(top: Path) -> Path:
    for number in range(PATIENTS):
        plant_image(place_of(top, number, "png"), number)
        plant_image(place_of(top, number, "jpg", 1), number + 1000 * 2)
    return top


def plant_dicom(top: Path) -> Path:
    for number in range(PATIENTS):
        for copy in range(2):
            write_dicom(place_of(top, number, "dcm", copy), number, copy)
    labels = {"patient": [name("patient", n) for n in range(PATIENTS)],
              "label": ["ill" if n % 2 else "well" for n in range(PATIENTS)],
              "remark": [name("remark", n) for n in range(PATIENTS)]}  # fmt: skip
    pd.DataFrame(labels).to_csv(top.with_suffix(".csv"), index=False)
    return top


def write_dicom(path: Path, number: int, copy: int) -> None:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}.{copy}"
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID = file.SeriesInstanceUID = f"1.2.{number}"
    for keyword in HEADERS:
        setattr(file, keyword, name("header", number))
    file.PatientID, file.PatientBirthDate = name("patient", number), "19770605"
    file.private_block(0x0099, name("private"), create=True).add_new(1, "LO", name("private"))
    file.Modality, file.ImageType, file.StudyDate = "CT", [name("type").upper()], "20200103"
    file.BodyPartExamined = file.ViewPosition = name("code").upper()
    file.Rows = file.Columns = 32
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.PixelRepresentation, file.BitsAllocated, file.BitsStored, file.HighBit = 0, 8, 8, 7
    file.ImagePositionPatient = [0, 0, 5 * copy]
    file.ImageOrientationPatient, file.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
    file.PixelData = draw(number + 100 * copy)[0].tobytes()
    file.save_as(path)


def plant_nifti(top: Path) -> Path:
    for number in range(PATIENTS):
        volume = nibabel.Nifti1Image(draw(number, 3).transpose(2, 1, 0), np.diag([1, 1, 5, 1]))
        for field in ("descrip", "intent_name", "aux_file", "db_name"):
            volume.header[field] = f"{name('head', number)}"[:15].encode()
        told = nibabel.nifti1.Nifti1Extension("comment", name("extension", number).encode())
        volume.header.extensions.append(told)
        nibabel.save(volume, place_of(top, number, "nii.gz"))
    return top


def plant_video(top: Path) -> Path:
    """A GIF or an AVI a patient, each with a tag."""
    for number in range(PATIENTS):
        frames = draw(number, 12)
        if number % 4 < 2:
            first, *rest = (Image.fromarray(frame) for frame in frames)
            first.save(place_of(top, number, "gif"), save_all=True, append_images=rest,
                       comment=name("tag", number).encode(), duration=100)  # fmt: skip
            continue
        path = place_of(top, number, "avi")
        code = cv2.VideoWriter_fourcc(*"FFV1")
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, code, 10.0, (32, 32))
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
        writer.release()
        tag = name("tag", number).encode() + b"\0"
        told = b"INFOINAM" + struct.pack("<I", len(tag)) + tag
        path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", len(told)) + told)
    return top


def tabulate(images: Path) -> pd.DataFrame:
    """A table of the images, with names in all columns that may hold any."""
    found = sorted(path for path in images.rglob("*") if path.suffix in (".png", ".jpg"))
    number = [int(path.parent.name[-2:]) for path in found]
    table = pd.DataFrame({
        "path": [path.relative_to(images.parent).as_posix() for path in found],
        "patient": [name("patient", n) for n in number],
        "label": [path.parent.parent.name for path in found],
        "site": [f"site {n // 2 % 3}" for n in number],
        "x_age": [40.25 + n for n in number],
        "x_sex": ["fm"[n // 2 % 2] for n in number],
        "series": [name("series", n) for n in number],
        f"reader_{name('reader')}": [path.parent.parent.name for path in found],
    })  # fmt: skip
    for place in ("remark", "study", "day", "person_key", "group", "axis", "hidden"):
        table[place] = [name(place, n) for n in number]
    return table.assign(**{name("head"): "1"})


def find_names(place: Path) -> dict[str, set[bytes]]:
    """File → the names it tells, by its content however packed, or by its own name."""
    found = {}
    for path in sorted(place.rglob("*")):
        held = NAME.findall(str(path.relative_to(place)).lower().encode())
        if path.is_file():
            held += [one for part in unpack(path.read_bytes()) for one in NAME.findall(part)]
        if held:
            found[str(path.relative_to(place))] = set(held)
    return found


def unpack(content: bytes) -> Iterator[bytes]:
    """Yield the content of a file in lower case, and what is packed in it."""
    yield content.lower()
    yield content.replace(b"\0", b"").lower()  # UTF-16
    if zipfile.is_zipfile(BytesIO(content)):
        with zipfile.ZipFile(BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from unpack(archive.read(member))
    if content.startswith(b"\x89PNG"):
        with Image.open(BytesIO(content)) as picture:
            yield repr(picture.info).lower().encode()
    for packed in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content):
        yield from unpack(base64.b64decode(packed))


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with planted inputs, and all places in it."""
    folder = tmp_path_factory.mktemp("canary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVISION_KEY", str(folder / "own" / "key"))
        patch.setenv("MEDVISION_CACHE", str(folder / "cache"))
        patch.setenv("MEDVISION_RUNS", str(folder / "runs"))
        images = plant_images(folder / "in" / "images")
        plant_dicom(folder / "in" / "dicom")
        plant_nifti(folder / "in" / "nifti")
        plant_video(folder / "in" / "video")
        tabulate(images).to_csv(folder / "in" / "table.csv", index=False)
        yield folder


@pytest.fixture(scope="module")
def run(top, medvision):
    """Run a command that succeeds unless it is said to be refused."""

    def call(*words, status=0):
        done = medvision(*words)
        assert done.status == status, done.err + done.out
        return done

    return call


RULE = r"columns.patient=(file-\d+)"
SOURCES = {
    "table": ("input=in/table.csv", "carry=[hidden]"),
    "folder": ("input=in/images", RULE),
    "dicom": ("input=in/dicom", "labels=in/dicom.csv"),
    "nifti": ("input=in/nifti", RULE),
    "video": ("input=in/video", RULE),
}


@pytest.fixture(scope="module")
def prepared(top, run):
    """Source → its prepared folder."""
    for source, words in SOURCES.items():
        told = [word.replace("=in/", f"={top}/in/") for word in words]
        run("prepare", f"source={source}", f"output={top}/prepared/{source}", *told)
    return top / "prepared"


def test_what_is_planted_can_be_found(top):
    found = {one for names in find_names(top / "in").values() for one in names}
    places = ("file", "folder", "png", "exif", "artist", "jpeg", "header", "private", "patient",
              "tag", "remark", "reader")  # fmt: skip
    assert {f"quennell-{place}".encode() for place in places} <= found


def test_a_prepared_folder_names_files_alone_where_it_finds_them(prepared):
    for source in SOURCES:
        folder = prepared / source
        found = find_names(folder)
        assert set(found) <= {"manifest.csv", ".images.npz"}, (source, found)
        assert found[".images.npz"] <= PLACES_OF_FILES
        table = pd.read_csv(folder / "manifest.csv", dtype=str)
        assert len(table) >= PATIENTS
        rest = table.drop(columns="path").to_csv()
        allowed = {"quennell-hidden"} if source == "table" else set()
        assert set(re.findall("quennell-[a-z_]+", rest.lower())) == allowed, source


def test_columns_that_would_name_patients_are_refused_together(top, run):
    table = tabulate(top / "in" / "images").drop(columns=["site", "label"])
    number = table["patient"].str[-2:]
    named = ("label", "site", "dataset", "channel", "series_label", "x_what", "y_what", "view")
    for place in named:
        table[place] = "Quennell-" + place + "-" + number
    table["x_record"] = "1987" + number
    table.to_csv(top / "in" / "named.csv", index=False)
    done = run("prepare", "source=table", f"input={top}/in/named.csv", f"output={top}/no", status=2)
    for place in (*named, "x_record"):
        assert f"{place!r} has {PATIENTS} different values for {PATIENTS} patients" in done.err
    assert "quennell" not in done.err.lower()
    assert not (top / "no").exists()


@pytest.fixture(scope="module")
def broken(top, prepared):
    """A file that was spoilt after all had been prepared."""
    path = place_of(top / "in" / "images", 5, "jpg", 1)
    path.write_bytes(b"no picture")
    return path


@pytest.fixture(scope="module")
def swept(prepared, broken, run):
    """A sweep whose first job leaves the file out, and whose second is refused for it."""
    table = f"data.manifest={prepared}/table/manifest.csv"
    words = ("train", *SMALL, "data=manifest", table, "name=table")
    return run(*words, "-m", "data.on_unreadable=exclude,stop", "test=true", status=2)


def test_a_refused_job_of_a_sweep_names_files_on_the_terminal_alone(top, swept, broken):
    assert str(broken) in swept.err
    records = [files.read_json(path) for path in (top / "runs" / "table").glob("*/record.json")]
    (refused,) = (record for record in records if record["status"] == "failed")
    assert "cannot read 1 of 48 images: …" in refused["reason"]
    assert find_names(top / "cache" / "hydra") == {}
    assert find_names(top / "runs") == {}


@pytest.fixture(scope="module")
def artefacts(top, prepared, swept, run, generator):
    """The place where every command but `tune` has written."""
    (table,) = (path.parent for path in (top / "runs" / "table").glob("*/model.pt"))
    words = ("train", *SMALL, "data.on_unreadable=exclude")
    run(*words, "data=manifest", f"data.manifest={prepared}/table/manifest.csv", "name=rate",
        "model.optimizer.lr=0.01")  # fmt: skip
    run(*words, "data=dicom", f"data.source.input={top}/in/dicom", "model=mean_pool",
        "model.net.encoder.widths=[8,16]", f"data.source.labels={top}/in/dicom.csv",
        "data.unit=series", "name=series")  # fmt: skip
    other = f"data.manifest={prepared}/folder/manifest.csv"
    run("evaluate", f"run={table}", other, "allow_overlap=true", "different_patients=true",
        "on_unreadable=exclude")  # fmt: skip
    run("evaluate", f"run={table}", f"data.manifest={top}/in/table.csv", "allow_overlap=true",
        "on_unreadable=exclude")  # fmt: skip
    run("evaluate", f"run={table}", "split=val")
    run("evaluate", f'runs=["{table}",rate]')
    run("compare", f'runs=["{table}",rate]', "split=val")
    run("report", f"run={table}")
    run("report", "run=table")
    run("verify", f"run={table}")
    run("predict", f"run={table}", f"input={top}/in/images", f"output={top}/out/images.csv",
        "on_unreadable=exclude")  # fmt: skip
    run("predict", "run=series", f"input={top}/in/dicom", f"output={top}/out/series.csv")
    contract = Reader(size=(32, 32)).contract()
    gan = generator(top / "runs" / "gan" / "good", Seen(), contract, classes=("well", "ill"))
    run("generate", f"run={gan}", "per_class=2", f"output={top}/generated")
    return top


def test_runs_tell_no_name(artefacts):
    assert len([*(artefacts / "runs").glob("*/*/report.html")]) == 4
    assert find_names(artefacts / "runs") == {}


def test_a_file_that_was_left_out_is_told_without_its_name(artefacts):
    for path in (artefacts / "runs" / "rate").glob("*/audit.json"):
        notes = files.read_json(path)["notes"]
        assert any("1 unreadable images were left out by choice: …" in note for note in notes)
        assert any(note.startswith("5 columns that no run reads left out") for note in notes)


def test_the_cache_tells_files_alone_where_it_prepared_them(artefacts):
    found = find_names(artefacts / "cache")
    assert {Path(file).name for file in found} == {"manifest.csv", ".images.npz"}
    assert {Path(file).parts[0] for file in found} == {"prepared"}
    assert set.union(*found.values()) <= PLACES_OF_FILES


def test_what_is_generated_and_predicted_tells_no_name_but_those_of_the_rows_asked_for(artefacts):
    assert find_names(artefacts / "generated") == {}
    found = find_names(artefacts / "out")
    assert {*found} <= {"images.csv", "series.csv", "series_slices.csv"}
    assert found["images.csv"] == PLACES_OF_FILES
    assert set.union(*found.values()) == PLACES_OF_FILES


def test_only_the_map_beside_the_key_tells_files(artefacts):
    own = find_names(artefacts / "own")
    assert set(own) == {map_file().name}
    assert own[map_file().name] == PLACES_OF_FILES


@pytest.mark.slow
def test_a_search_and_a_generator_tell_no_name(artefacts, prepared, run):
    place = artefacts / "more"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDVISION_RUNS", str(place))
        table = ("data=manifest", f"data.manifest={prepared}/table/manifest.csv")
        run("tune", *SMALL, *table, "data.on_unreadable=exclude", "name=search", "trials=2",
            "model.optimizer.lr=interval(0.001,0.01)")  # fmt: skip
        clips = ("data=manifest", f"data.manifest={prepared}/video/manifest.csv")
        run("train", "experiment=dcgan_phantom", *clips, "trainer=debug", "threads=1", "name=gan")
        run("generate", "run=gan", "per_class=2", f"output={place}/made", "allow_ungated=true")
        run("train", *SMALL, *clips, "name=clips")
        run("train", *SMALL, "data=manifest", f"data.manifest={prepared}/nifti/manifest.csv",
            "name=slices")  # fmt: skip
    assert len([*place.glob("*/*/record.json")]) == 5
    assert find_names(place) == {}
