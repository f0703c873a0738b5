"""Names planted wherever data may hold some: no artefact of any command tells one of them."""

import base64
import re
import sqlite3
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

from medvision.data.manifest.path_map import map_file
from medvision.data.store.reader import Reader
from medvision.seen import Seen

NAME = re.compile(rb"quennell-[a-z_]+")
PLACES_OF_FILES = {b"quennell-file", b"quennell-folder"}
SMALL = (
    "data.reader.size=[32,32]", "data.batch_size=8", "data.workers=1", "model.net.widths=[8,16]",
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
        frames = draw(number, 3)
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
    files = sorted(path for path in images.rglob("*") if path.suffix in (".png", ".jpg"))
    number = [int(path.parent.name[-2:]) for path in files]
    table = pd.DataFrame({
        "path": [path.relative_to(images.parent).as_posix() for path in files],
        "patient": [name("patient", n) for n in number],
        "label": [path.parent.parent.name for path in files],
        "site": [f"site {n // 2 % 3}" for n in number],
        "x_age": [40.25 + n for n in number],
        "x_sex": ["fm"[n // 2 % 2] for n in number],
        f"reader_{name('reader')}": [path.parent.parent.name for path in files],
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


@pytest.fixture(scope="module")
def artefacts(top, prepared, run, generator):
    """Folders and files that every command but `prepare` has written, tables of `predict` apart."""
    manifests = {source: prepared / source / "manifest.csv" for source in SOURCES}
    images = (*SMALL, "augment=none", "data=manifest")
    table = f"data.manifest={manifests['table']}"
    run("train", *images, table, "data.carry=[]", "name=table")
    run("train", *images, table, "name=seeds", "seed=0,1", "-m")
    run("train", *SMALL, "augment=none", "data=table", f"data.source.input={top}/in/table.csv",
        "name=source")  # fmt: skip
    series = ("data=manifest", f"data.manifest={manifests['nifti']}", "data.unit=series")
    run("train", *SMALL[:3], *SMALL[4:], "model=mean_pool", "model.net.encoder.widths=[8,16]",
        *series, "augment=none", "name=series")  # fmt: skip
    run("evaluate", "run=table", f"data.manifest={manifests['folder']}", "allow_overlap=true",
        "different_patients=true")  # fmt: skip
    run("evaluate", "run=table", "split=val")
    run("evaluate", "runs=[seeds]")
    run("compare", "runs=[table,source]", "split=val")
    run("report", "run=table")
    run("report", "run=seeds")
    run("verify", "run=table")
    run("predict", "run=table", f"input={top}/in/images", f"output={top}/out/images.csv")
    run("predict", "run=series", f"input={top}/in/nifti", f"output={top}/out/volumes.csv")
    broken = place_of(top / "in" / "images", 7, "png", 9)
    broken.write_bytes(b"no picture")
    run("predict", "run=table", f"input={top}/in/images", f"output={top}/out/broken.csv",
        "on_unreadable=exclude")  # fmt: skip
    broken.unlink()
    seen = Seen()
    contract = Reader(size=(32, 32)).contract()
    gan = generator(top / "runs" / "gan" / "good", seen, contract, classes=("well", "ill"))
    run("generate", f"run={gan}", "per_class=2", f"output={top}/generated")
    return top


def test_runs_tell_no_name(artefacts):
    assert find_names(artefacts / "runs") == {}


def test_the_cache_tells_files_alone_where_it_prepared_them(artefacts):
    found = find_names(artefacts / "cache")
    assert {Path(file).name for file in found} == {"manifest.csv", ".images.npz"}
    assert {Path(file).parts[0] for file in found} == {"prepared"}
    assert set.union(*found.values()) <= PLACES_OF_FILES


def test_generated_images_and_traces_tell_no_name(artefacts):
    assert find_names(artefacts / "generated") == {}
    tables = find_names(artefacts / "out")
    assert not [file for file in tables if not file.endswith(".csv")], tables
    assert set.union(*tables.values()) <= PLACES_OF_FILES  # the rows that were asked for


def test_only_the_map_beside_the_key_tells_files(artefacts):
    own = find_names(artefacts / "own")
    assert set(own) == {map_file().name}
    with sqlite3.connect(artefacts / "own" / map_file().name) as table:
        assert table.execute("select count(*) from paths").fetchone()[0] >= 2 * PATIENTS
