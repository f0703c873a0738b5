"""What a model was trained on, taken down from files, and what is foreign to it."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset

from medvision.data.formats.decode import Decoded
from medvision.data.inputs.profile import (
    find_mismatches,
    from_plain,
    join_mismatches,
    note_unchecked_facts,
    refuse_unlike_training,
    summarise_facts,
    to_plain,
)
from medvision.data.store.facts import BYTES, UNITS, WORDS, FileFacts, pack, read_facts, unpack
from medvision.data.store.pixels import quantise
from medvision.data.store.reader import Reader, find_windows
from medvision.data.store.store import open_store

CT = FileFacts(512, 512, UNITS, False, -1024, 3000, "CT", "MONOCHROME2", (0.7, 0.7))
XRAY = FileFacts(1000, 900, BYTES, False, 0, 255)
SKIN = FileFacts(400, 600, BYTES, True, 0, 255, "XC", "RGB", (0.1, 0.1))


def foreign(native, *trained, window="full"):
    return join_mismatches(find_mismatches(native, summarise_facts(trained), window))


@pytest.mark.parametrize("like", [CT, XRAY, SKIN])
def test_what_was_trained_on_is_not_foreign(like):
    assert foreign(like, like) == ""
    assert foreign(replace(like, modality="", photometric="", spacing_mm=None), like) == ""
    assert foreign(like, replace(like, modality="", photometric="", spacing_mm=None)) == ""


@pytest.mark.parametrize(
    ("trained", "change", "text"),
    [
        (CT, {"modality": "MR"}, "modality MR, not CT"),
        (CT, {"colour": True}, "colour, not grey"),
        (SKIN, {"colour": False}, "grey, not colour"),
        (SKIN, {"photometric": "PALETTE COLOR"}, "colours of a palette, not true colour"),
        (CT, {"photometric": "MONOCHROME1"}, ""),
        (CT, {"height": 127}, "127 x 512 pixels, not 512 x 512"),
        (CT, {"width": 2049}, "512 x 2049 pixels, not 512 x 512"),
        (CT, {"height": 128, "width": 2048}, ""),
        (CT, {"spacing_mm": (0.34, 0.7)}, "pixels of 0.34 x 0.7 mm, not 0.7 x 0.7"),
        (CT, {"spacing_mm": (1.4, 0.35)}, ""),
        (CT, {"low": 3001, "high": 4000}, "values of 3001 to 4000, not -1024 to 3000"),
        (CT, {"low": 3000, "high": 4000}, ""),
        (CT, {"stored": BYTES, "low": 0, "high": 255},
         "unsigned 8-bit values, not signed units such as -1024 to 3000"),
        (CT, {"stored": WORDS, "low": 0, "high": 4095},
         "unsigned 16-bit values, not signed units such as -1024 to 3000"),
        (XRAY, {"stored": UNITS, "low": -1000, "high": 900},
         "signed units such as -1000, not unsigned 8-bit values"),
        (XRAY, {"stored": UNITS, "low": -1, "high": 900}, ""),
        (XRAY, {"stored": WORDS, "high": 4095}, ""),
    ],
)  # fmt: skip
def test_each_way_to_be_foreign_and_where_it_begins(trained, change, text):
    assert foreign(replace(trained, **change), trained) == text


def test_all_ways_are_told_at_once():
    assert foreign(SKIN, CT) == (
        "modality XC, not CT; colour, not grey; pixels of 0.1 x 0.1 mm, not 0.7 x 0.7; "
        "unsigned 8-bit values, not signed units such as -1024 to 3000"
    )


def test_radiographs_are_one_modality_whatever_took_them():
    film = replace(XRAY, modality="CR")
    assert foreign(replace(XRAY, modality="DX"), film) == ""
    assert foreign(replace(XRAY, modality="MG"), film) == "modality MG, not CR"


def test_what_a_header_shows_is_not_judged_by_its_units():
    units = replace(XRAY, stored=UNITS, low=-1000, high=900)
    assert foreign(units, XRAY, window="dicom") == ""


def test_a_model_that_met_both_takes_both():
    both = [CT, replace(XRAY, modality="DX")]
    assert summarise_facts(both).height == [512, 1000]
    assert foreign(CT, *both) == foreign(XRAY, *both) == ""


def test_one_odd_training_image_does_not_widen_the_values():
    trained = summarise_facts([CT] * 3000 + [replace(CT, high=60000)])
    assert trained.values == [-1024, 3000]


@pytest.mark.parametrize("natives", [[], [CT, XRAY, SKIN] * 3])
def test_a_summary_is_plain_and_comes_back(natives):
    trained = summarise_facts(natives)
    assert from_plain(to_plain(trained)) == trained
    if trained:
        kinds = (int, bool, list)
        assert all(isinstance(value, kinds) for value in to_plain(trained).values())


def test_what_cannot_be_checked_is_said_once():
    assert "inputs not checked" in note_unchecked_facts(None, [CT])[0]
    assert note_unchecked_facts(summarise_facts([CT]), [CT]) == []
    assert note_unchecked_facts(summarise_facts([XRAY]), [CT, CT]) == [
        "modality and pixel spacing not checked: the model does not know them"
    ]
    half = replace(CT, spacing_mm=None)
    assert note_unchecked_facts(summarise_facts([CT]), [CT, half]) == [
        "pixel spacing not checked for 1 of 2 images: they do not say it"
    ]


def test_frames_of_a_file_are_one_problem():
    small = find_mismatches(replace(CT, height=9), summarise_facts([CT]))
    grey = find_mismatches(CT, summarise_facts([SKIN]))
    told = str(refuse_unlike_training({0: small, 2: small, 3: grey}, "aabc".__getitem__, 4))
    assert told.startswith("3 of 4 images are unlike those the model was trained on: a (9 x 512")
    assert "pixels, not 512 x 512); b (9 x 512" in told
    assert (
        str(refuse_unlike_training({0: small, 1: small}, "aa".__getitem__, 2)).count("; 2 frames)")
        == 1
    )


def test_natives_are_kept_by_the_store_and_nothing_is_read_twice(tmp_path, monkeypatch):
    Image.fromarray(np.full((20, 30, 3), (1, 2, 250), np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", np.linspace(-1000, 100, 600, dtype=np.float32).reshape(20, 30))
    (tmp_path / "c.png").write_text("none")
    volume = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.5, 0.75, 3, 1])), tmp_path / "d.nii.gz")
    files = [tmp_path / name for name in ("a.png", "b.npy", "c.png", "d.nii.gz", "d.nii.gz")]
    ask = {"on_unreadable": "exclude", "cache": tmp_path / "cache", "progress": False}
    store = open_store(files, [0, 0, 0, 2, 1_000_000], Reader(size=8), **ask)
    assert store.natives == [
        FileFacts(20, 30, BYTES, True, 1, 250),
        FileFacts(20, 30, UNITS, False, -1000, 100),
        None,
        FileFacts(5, 4, UNITS, False, 2, 59, "", "", (0.75, 0.5)),
        FileFacts(3, 5, UNITS, False, 0, 14, "", "", (3.0, 0.75)),
    ]
    monkeypatch.setattr("medvision.data.store.store.fill", None)
    again = open_store(files, [0, 0, 0, 2, 1_000_000], Reader(size=8), **ask)
    assert again.natives == store.natives
    assert unpack(pack(store.natives)) == store.natives


HU = np.linspace(-1000, 1500, 64, dtype=np.float32).reshape(8, 8, 1)


def header(**tags):
    made = Dataset()
    made.Modality, made.PhotometricInterpretation, made.PixelSpacing = "CT", "MONOCHROME2", [2, 3]
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def test_a_header_says_what_it_may_say(tmp_path):
    native = read_facts(Decoded(tmp_path / "a", HU, header(PatientName="Doe^Jane")))
    assert native == FileFacts(8, 8, UNITS, False, -1000, 1500, "CT", "MONOCHROME2", (2.0, 3.0))
    odd = header(Modality="DOE JANE", PixelSpacing=[0, 1])
    native = read_facts(Decoded(tmp_path / "a", HU, odd))
    assert (native.modality, native.spacing_mm) == ("", None)


@pytest.mark.parametrize("window", ["full", "percentile", "brain", (-100.0, 200.0)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32])
def test_the_window_told_is_the_one_looked_through(window, kind, tmp_path):
    pixels = np.clip(HU, 0, 255).astype(kind) if np.dtype(kind).kind == "u" else HU.astype(kind)
    reader = Reader(size=None, window=window)
    image = Decoded(tmp_path / "a.dcm", pixels, header(BitsStored=12))
    if window == "brain" and pixels.dtype.kind == "u":
        return  # the reader refuses it
    ((low, high),) = find_windows(reader, image)
    assert np.array_equal(quantise(pixels, low, high, 8), reader.render(image))


def test_windows_of_channels_and_of_headers_are_told(tmp_path):
    seen = header(WindowCenter=[40, 300], WindowWidth=[400, 1500])
    image = Decoded(Path("a.dcm"), HU, seen)
    reader = Reader(size=None, channels=3, window=("lung", "dicom", "dicom"))
    assert find_windows(reader, image) == [
        [-1350.0, 150.0], "center 40, width 400", "center 300, width 1500",
    ]  # fmt: skip
    assert find_windows(Reader(size=None, window="dicom"), Decoded(Path("a"), HU)) == [
        [-1000.0, 1500.0]
    ]
