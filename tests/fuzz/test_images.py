"""Image and array files with damaged bytes, under wrong names, and huge ones in small files."""

import json
import os
import subprocess
import sys
import zipfile
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from medvision.data.formats.decode import load_frames
from medvision.data.sources.prepare import prepare
from medvision.data.store.reader import Reader
from medvision.data.store.store import open_store
from medvision.errors import MedvisionError

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, which the program silences
QUICK_OR_FULL = pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.slow)])
# Their sums cover every pixel, so other pixels than those of the whole file are never read.
SUMMED = (".png", ".npz")
MEBIBYTES = 1024

DRAW = np.random.default_rng(0)
GREY = DRAW.integers(0, 256, (16, 20), dtype=np.uint8)
DEEP = DRAW.integers(0, 65536, (16, 20), dtype=np.uint16)
COLOUR = DRAW.integers(0, 256, (16, 20, 3), dtype=np.uint8)
ALPHA = DRAW.integers(0, 256, (16, 20, 4), dtype=np.uint8)
STACK = DRAW.integers(0, 99, (3, 8, 9)).astype(np.int16)


def by_opencv(ending, pixels):
    return cv2.imencode(ending, pixels)[1].tobytes()


def by_pillow(kind, pixels, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_numpy(save, *arrays, **named):
    stream = BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()


PALETTE = Image.fromarray(COLOUR).quantize(16)
FORMS = {
    "grey.png": by_opencv(".png", GREY), "deep.png": by_opencv(".png", DEEP),
    "colour.png": by_opencv(".png", COLOUR), "alpha.png": by_opencv(".png", ALPHA),
    "palette.png": by_pillow("PNG", PALETTE), "bits.png": by_pillow("PNG", GREY > 128),
    "grey.jpg": by_opencv(".jpg", GREY), "colour.jpg": by_opencv(".jpg", COLOUR),
    "progressive.jpg": by_pillow("JPEG", GREY, progressive=True),
    "lzw.tif": by_opencv(".tif", GREY), "deep.tif": by_opencv(".tif", DEEP),
    "plain.tif": by_pillow("TIFF", DEEP), "float.tif": by_opencv(".tif", DEEP / np.float32(3)),
    "deflate.tif": by_pillow("TIFF", COLOUR, compression="tiff_adobe_deflate"),
    "grey.bmp": by_opencv(".bmp", GREY), "palette.bmp": by_pillow("BMP", PALETTE),
    "deep.npy": by_numpy(np.save, DEEP), "stack.npy": by_numpy(np.save, STACK),
    "plain.npz": by_numpy(np.savez, images=STACK, labels=np.arange(3)),
    "packed.npz": by_numpy(np.savez_compressed, images=STACK),
}  # fmt: skip


@QUICK_OR_FULL
@pytest.mark.parametrize("name", FORMS)
def test_damaged_bytes(tmp_path, tally, look, damage, name, full):
    path = tmp_path / name
    path.write_bytes(FORMS[name])
    (whole,) = look(path)
    assert isinstance(whole, np.ndarray)
    for told, content in damage(FORMS[name], name, full):
        path.write_bytes(content)
        with tally.one(path.suffix[1:], (name, told), whole) as seen:
            (seen.found,) = look(path)
            strict = path.suffix in SUMMED or told.startswith(("cut", "junk"))
            assert not (strict and seen.is_other()), "other pixels"


ENDINGS = [".png", ".jpg", ".tif", ".bmp", ".npy", ".npz", ".dcm", ".nii", ".nii.gz", ".gif",
           ".avi", ".mp4", ".hdr", ".csv", ""]  # fmt: skip


@QUICK_OR_FULL
def test_files_under_wrong_endings(tmp_path, tally, look, full):
    """An image may be called what it likes among images; it is never taken for another."""
    for name in FORMS if full else ("grey.png", "colour.jpg", "deep.npy", "plain.npz"):
        (tmp_path / name).write_bytes(FORMS[name])
        (whole,) = look(tmp_path / name)
        for ending in ENDINGS:
            path = tmp_path / f"swapped{ending}"
            path.write_bytes(FORMS[name])
            with tally.one("wrong endings", (name, ending), whole) as seen:
                (seen.found,) = look(path)
                assert not seen.is_other()


def hostile(folder):
    """Small files that tell of huge arrays, by name."""
    header = BytesIO()
    kind = {"descr": "<f8", "fortran_order": False, "shape": (10**5, 10**5)}
    np.lib.format.write_array_header_1_0(header, kind)
    (folder / "told.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile(folder / "told.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
    png = bytearray(FORMS["grey.png"])
    png[33:37] = b"\xff\xff\xff\xf0"  # the length of a chunk
    (folder / "chunk.png").write_bytes(png)
    for name, place in (("grey.bmp", 18), ("palette.bmp", 18), ("plain.tif", 30)):
        content = bytearray(FORMS[name])
        content[place : place + 2] = b"\xff\x7f"
        (folder / f"wide-{name}").write_bytes(content)
    return sorted(folder.iterdir())


CHILD = """
import json, resource, sys
from pathlib import Path
from medvision.data.formats.decode import load_frames
from medvision.data.store.reader import Reader

def tell(path):
    (image,) = load_frames(path, [0])
    if isinstance(image, Exception):
        return str(image)
    try:
        return [*image.pixels.shape, *Reader(size=8).render(image).shape]
    except Exception as error:
        return str(error)

names = json.load(sys.stdin)
tell(Path(names[0]))
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 2**30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = [tell(Path(name)) for name in names]
print(json.dumps([told, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


@QUICK_OR_FULL
@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_no_input_takes_a_gibibyte(tmp_path, tally, damage, full):
    """In a process that may take no more, files are read or refused as they are without a limit."""
    paths = hostile(tmp_path)
    for name in FORMS if full else ("grey.png", "lzw.tif", "plain.tif", "grey.bmp", "plain.npz"):
        for number, (_, content) in enumerate(damage(FORMS[name], f"limit {name}", False)):
            paths.append(tmp_path / f"{number}-{name}")
            paths[-1].write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps([str(path) for path in paths]),
        capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    told, grown = json.loads(done.stdout)
    assert grown < 300 * MEBIBYTES
    for path, limited in zip(paths, told, strict=True):
        with tally.one("under a memory limit", path.name) as seen:
            (image,) = load_frames(path, [0])
            seen.found = str(image) if isinstance(image, MedvisionError) else image.pixels
            if isinstance(seen.found, str):
                assert limited == seen.found
            else:
                assert limited[:3] == list(seen.found.shape)


@QUICK_OR_FULL
def test_nothing_is_left_half_written(tmp_path, tally, damage, full, monkeypatch):
    """A store or a manifest of damaged files is whole, or it is not there."""
    monkeypatch.setenv("MEDVISION_CACHE", str(tmp_path / "cache"))
    reader = Reader(size=(8, 8))
    for name in FORMS if full else ("grey.png", "packed.npz", "deflate.tif", "plain.tif"):
        for number, (told, content) in enumerate(damage(FORMS[name], f"store {name}", False)):
            if number % 8:
                continue
            folder = tmp_path / f"{number}-{name}"
            folder.mkdir()
            (folder / f"good-{name}").write_bytes(FORMS[name])
            (folder / name).write_bytes(content)
            with tally.one("half-written", (name, told)) as seen:
                outcomes = [
                    store(folder, reader, "stop"), store(folder, reader, "exclude"),
                    manifest(folder, "stop"), manifest(folder, "exclude"),
                ]  # fmt: skip
                assert outcomes[0] == outcomes[2]
                assert outcomes[1]
                assert outcomes[3]
                seen.found = None if outcomes[0] else "refused"


def store(folder, reader, on_unreadable):
    """Build a store; tell whether there is one, and see that nothing else is."""
    paths, place = sorted(folder.iterdir()), folder / "cache"
    try:
        made = open_store(paths, [0] * len(paths), reader, on_unreadable=on_unreadable,
                          cache=place, progress=False)  # fmt: skip
        whole = {made.folder.name, "index.json", "pixels.npy"}
        assert len(np.load(made.folder / "pixels.npy")) == len(paths)
    except MedvisionError:
        whole = set()
    left = {p.name for p in (place / "stores").rglob("*") if not p.name.endswith(".lock")}
    assert left == whole
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    place.rmdir()
    return bool(whole)


def manifest(folder, on_unreadable):
    """Prepare a folder; tell whether there is a manifest, and see that nothing else is."""
    output = folder.with_name(f"{folder.name}-{on_unreadable}")
    try:
        prepare("folder", output, input=folder, columns={"patient": "path"},
                on_unreadable=on_unreadable)  # fmt: skip
        whole = {"manifest.csv", "card.json", ".images.npz"}
    except MedvisionError:
        whole = set()
    assert {p.name for p in (output.iterdir() if output.exists() else ())} == whole
    return bool(whole)
