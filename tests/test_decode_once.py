"""An image is decoded once, however many of the steps of a training want to know of it."""

import os

import nibabel
import numpy as np
import pytest
from PIL import Image

from medvision.data.batches.read import decode_rows
from medvision.data.formats.decode import decode, pixel_digest
from medvision.data.manifest.manifest import read_manifest
from medvision.data.sources.prepare import prepare, prepare_once
from medvision.data.store import facts
from medvision.data.store.reader import Reader
from medvision.data.store.store import open_store
from medvision.errors import MedvisionError

pytestmark = pytest.mark.usefixtures("dots")

READER = Reader(size=12)
TINY = (
    "data.reader.size=[32,32]", "data.reader.channels=1", "data.batch_size=16", "data.workers=2",
    "model.net.widths=[8,16]", "trainer.max_epochs=1", "threads=1",
)  # fmt: skip


def draw(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Class folders of 40 PNG, and an npz of five frames in each of them."""
    for number in range(40):
        place = tmp_path / "in" / ("ill" if number % 2 else "well")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(20, 30, seed=number)).save(place / f"p{number}.png")
    for name in ("ill", "well"):
        np.savez(tmp_path / "in" / name / f"many_{name}.npz", draw(5, 20, 30, seed=len(name)))
    return tmp_path / "in"


EACH = {f"p{n}.png": 1 for n in range(40)} | {"many_ill.npz": 5, "many_well.npz": 5}


def test_a_fresh_training_on_a_phantom_and_the_next_one(apart, medvision, decoded):
    source = [f"data.source.{word}" for word in ("patients=40", "slices=3", "size=32")]
    words = ("train", "data=phantom", *source, *TINY, "data.reader.window=[-100,200]")
    first = medvision(*words, "seed=1")
    assert first.status == 0, first.err
    assert set(decoded.values()) == {3}
    assert decoded.total() == 120
    decoded.clear()
    second = medvision(*words, "seed=2")
    assert second.status == 0, second.err
    assert decoded.total() == 0
    assert len(list(apart.glob("*/*/report.html"))) == 2


@pytest.mark.parametrize("size", ["[32,32]", "null"])
def test_a_fresh_training_on_files_and_arrays_and_the_next_one(
    folder, apart, medvision, decoded, size
):
    words = (
        "train", "data=folder", f"data.source.input={folder}", "data.source.columns.patient=path",
        *TINY, f"data.reader.size={size}",
    )  # fmt: skip
    first = medvision(*words, "seed=1")
    assert first.status == 0, first.err
    assert decoded == EACH
    decoded.clear()
    assert medvision(*words, "seed=2").status == 0
    assert decoded.total() == 0


def test_a_prepared_manifest_is_decoded_once_more_and_described_no_more(
    folder, tmp_path, apart, decoded, monkeypatch
):
    manifest = prepare("folder", tmp_path / "out", input=folder, columns={"patient": "path"})
    decoded.clear()
    described = []
    monkeypatch.setattr(facts, "pixel_digest", lambda pixels: described.append(pixels) or "")
    store = decode_rows(read_manifest(manifest.manifest), READER, "stop").store
    assert decoded == EACH
    assert not described
    monkeypatch.undo()
    files = read_manifest(manifest.manifest).files()
    fresh = open_store(files, manifest.table["frame"].tolist(), READER, cache=tmp_path / "fresh")
    assert (fresh.digests, fresh.natives) == (store.digests, store.natives)


def test_what_was_prepared_is_prepared_again_without_decoding(folder, tmp_path, decoded):
    def again():
        return prepare("folder", tmp_path / "out", input=folder, columns={"patient": "path"})

    first, written = again(), (tmp_path / "out" / "manifest.csv").read_bytes()
    decoded.clear()
    second = again()
    assert decoded.total() == 0
    assert (tmp_path / "out" / "manifest.csv").read_bytes() == written
    assert second.card == first.card
    Image.fromarray(draw(20, 30, seed=99)).save(folder / "ill" / "p1.png")
    (tmp_path / "out" / ".images.npz").touch()
    again()
    assert decoded == {"p1.png": 1}


def test_what_was_seen_moves_with_manifest_and_images(folder, tmp_path, apart, monkeypatch):
    prepare("folder", folder / "out", input=folder, columns={"patient": "path"})
    folder.rename(tmp_path / "elsewhere")
    described = []
    monkeypatch.setattr(facts, "pixel_digest", lambda pixels: described.append(pixels) or "")
    decode_rows(read_manifest(tmp_path / "elsewhere" / "out"), READER, "stop")
    assert not described


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 none", b"text"])
def test_a_damaged_memory_is_none(folder, tmp_path, decoded, content):
    for _ in range(2):
        prepare("folder", tmp_path / "out", input=folder, columns={"patient": "path"})
        (tmp_path / "out" / ".images.npz").write_bytes(content)
    assert decoded.total() == 2 * sum(EACH.values())


@pytest.mark.parametrize("reader", [None, READER])
def test_a_file_that_changed_after_it_was_prepared_is_decoded_anew(folder, apart, decoded, reader):
    source = {"name": "folder", "input": str(folder), "columns": {"patient": "path"}}
    manifest = read_manifest(prepare_once(source, reader))
    row = [path.name for path in manifest.files()].index("p7.png")
    place = folder / "ill" / "p7.png"
    before = place.stat()
    Image.fromarray(draw(22, 30, seed=99)).save(place)
    os.utime(place, ns=(1, before.st_mtime_ns + 1))
    decoded.clear()
    store = decode_rows(manifest, READER, "stop").store
    assert decoded["p7.png"] == 1
    assert store.digests[row] == pixel_digest(decode(place))
    assert (store.natives[row].height, store.natives[row].width) == (22, 30)
    assert np.array_equal(store.array[row], READER.read(place))


def leave_out(folder):
    """Make two files unreadable."""
    (folder / "ill" / "p1.png").write_text("text")
    (folder / "well" / "p8.png").write_bytes(b"")


def test_of_files_that_cannot_be_used_the_others_are_decoded_once(folder, apart, tmp_path, decoded):
    leave_out(folder)
    source = {"name": "folder", "input": str(folder), "columns": {"patient": "path"}}
    with pytest.raises(MedvisionError, match=r"2 of 50 images cannot be used: .*p1\.png.*p8\.png"):
        prepare_once(source, READER)
    assert not list(tmp_path.rglob("pixels.npy"))
    decoded.clear()
    manifest = read_manifest(prepare_once(source | {"on_unreadable": "exclude"}, READER))
    store = decode_rows(manifest, READER, "stop").store
    assert decoded == {name: n for name, n in EACH.items() if name not in ("p1.png", "p8.png")}
    assert len(list((tmp_path / "cache").rglob("pixels.npy"))) == 1
    files, frames = manifest.files(), manifest.table["frame"].tolist()
    fresh = open_store(files, frames, READER, cache=tmp_path / "fresh")
    for name in ("pixels.npy", "index.json"):
        assert (fresh.folder / name).read_bytes() == (store.folder / name).read_bytes()


def test_what_only_the_reader_cannot_use_is_told_by_the_store(tmp_path, apart, decoded):
    (tmp_path / "in").mkdir()
    for number in range(4):
        kind = np.uint8 if number == 2 else np.int16  # of Hounsfield units only the latter can be
        np.save(tmp_path / "in" / f"{number}.npy", draw(8, 8, seed=number).astype(kind))
    source = {"name": "folder", "input": str(tmp_path / "in"), "columns": {"patient": "path"}}
    reader = Reader(size=8, window="lung")
    manifest = read_manifest(prepare_once(source, reader))
    assert len(manifest.table) == 4
    with pytest.raises(MedvisionError, match=r"cannot read 1 of 4 images: .*2\.npy holds unsigned"):
        decode_rows(manifest, reader, "stop")
    assert list(decode_rows(manifest, reader, "exclude").store.unreadable) == [2]
    assert set(decoded.values()) == {1}


def test_images_of_several_sizes_are_prepared_and_refused_by_the_store(folder, apart):
    Image.fromarray(draw(9, 9)).save(folder / "well" / "p4.png")
    source = {"name": "folder", "input": str(folder), "columns": {"patient": "path"}}
    manifest = read_manifest(prepare_once(source, Reader(size=None)))
    assert manifest.card.facts["sizes"] == {"20x30": 49, "9x9": 1}
    told = r"p4\.png is 9 x 9 pixels and the first image 20 x 30; give all one size"
    with pytest.raises(MedvisionError, match=told):
        decode_rows(manifest, Reader(size=None), "stop")


def test_slices_of_a_volume_are_decoded_once_and_know_their_spacing(tmp_path, apart, decoded):
    (tmp_path / "in").mkdir()
    for number in range(3):
        voxels = draw(6, 7, 4, seed=number).astype(np.int16)
        volume = nibabel.Nifti1Image(voxels, np.diag([0.5, 0.75, 3, 1]))
        nibabel.save(volume, tmp_path / "in" / f"v{number}.nii.gz")
    source = {"name": "nifti", "input": str(tmp_path / "in"), "columns": {"patient": "path"},
              "labels": "none"}  # fmt: skip
    store = decode_rows(read_manifest(prepare_once(source, READER)), READER, "stop").store
    assert decoded == {f"v{n}.nii.gz": 4 for n in range(3)}
    assert {one.spacing_mm for one in store.natives} == {(0.75, 0.5)}
