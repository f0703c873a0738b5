import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvision.data.formats.decode import decode, pixel_digest
from medvision.data.store import fill
from medvision.data.store import store as stores
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError

READER = Reader(size=12)


@pytest.fixture
def images(tmp_path):
    draw = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    paths = [tmp_path / "images" / f"{number}.png" for number in range(40)]
    for path in paths:
        Image.fromarray(draw.integers(0, 255, (15, 20), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def builds(caplog):
    caplog.set_level(logging.INFO, "medvision.data.store.store")
    return lambda: len([r for r in caplog.records if r.message.startswith("decoded")])


def open_store(files, cache, reader=READER, **options):
    frames = options.pop("frames", [0] * len(files))
    return stores.open_store(files, frames, reader, cache=cache, progress=False, **options)


def leftovers(cache):
    """Everything under the cache that is not a lock."""
    return [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_rows_are_what_the_reader_reads(images, cache):
    store = open_store(images, cache)
    assert store.array.shape == (40, 12, 12, 1)
    assert store.array.dtype == np.uint8
    for row, path in enumerate(images):
        assert np.array_equal(store.array[row], READER.read(path))
        assert store.digests[row] == pixel_digest(decode(path))
    assert store.unreadable == {}


def test_the_map_is_read_only_and_gather_is_a_copy(images, cache):
    store = open_store(images, cache)
    assert isinstance(store.array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.array[0] = 0
    batch = store.gather(np.array([3, 3, 1]))
    batch[0] = 0
    assert np.array_equal(batch[1], READER.read(images[3]))
    assert np.array_equal(batch[2], READER.read(images[1]))


def test_one_byte_a_pixel_on_disk(images, cache):
    store = open_store(images, cache)
    assert (store.folder / "pixels.npy").stat().st_size == 40 * 12 * 12 + 128
    deep = open_store(images, cache, Reader(size=12, channels=3, depth=16))
    assert (deep.folder / "pixels.npy").stat().st_size == 40 * 12 * 12 * 3 * 2 + 128


def test_built_once_and_found_again(images, cache, builds):
    first = open_store(images, cache)
    again = open_store(images, cache)
    assert builds() == 1
    assert again.folder == first.folder
    assert again.digests == first.digests
    index = json.loads((first.folder / "index.json").read_text())
    assert Reader.from_contract(index["reader"]) == READER


def test_key_follows_order_settings_size_and_mtime(images, cache, builds):
    folder = open_store(images, cache).folder
    seen = {folder, open_store(images[::-1], cache).folder}
    seen.add(open_store(images, cache, Reader(size=12, fit="crop")).folder)
    stat = images[0].stat()
    os.utime(images[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    seen.add(open_store(images, cache).folder)
    assert len(seen) == 4
    assert builds() == 4


def test_rows_of_one_archive_in_any_order_open_it_once(tmp_path, cache, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 50, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", train=pixels[0], test=pixels[1])
    frames = np.random.default_rng(1).permutation(100)
    opened = []
    monkeypatch.setattr(np, "load", lambda *a, load=np.load, **k: opened.append(a) or load(*a, **k))
    store = open_store([tmp_path / "a.npz"] * 100, cache, Reader(size=8), frames=frames)
    archives = [place for (place, *_) in opened if str(place).endswith(".npz")]
    assert len(archives) == 1 + 2  # the headers once, each array once
    assert np.array_equal(store.array[..., 0], pixels.reshape(100, 8, 8)[frames])


def test_all_unreadable_files_are_named_and_nothing_stays(images, cache):
    images[3].unlink()
    images[7].write_bytes(b"")
    images[20].write_text("hello")
    with pytest.raises(MedvisionError) as caught:
        open_store(images, cache)
    assert str(caught.value) == (
        f"cannot read 3 of 40 images: {images[3]} does not exist, check the path; "
        f"{images[7]} is empty (0 bytes), copy it again from its source; "
        f"{images[20]} is not an image, give PNG, JPEG, TIFF, BMP, npy, npz or DICOM files. "
        "Mend or remove these files, or leave them out with data.on_unreadable=exclude"
    )
    assert leftovers(cache) == []


def test_excluded_images_are_counted_and_black(images, cache, capfd):
    images[3].unlink()
    images[7].write_bytes(b"")
    store = stores.open_store(images, [0] * 40, READER, on_unreadable="exclude", cache=cache)
    assert "2 unreadable ones left out" in capfd.readouterr().err
    assert store.unreadable == {
        3: f"{images[3]} does not exist, check the path",
        7: f"{images[7]} is empty (0 bytes), copy it again from its source",
    }
    assert (store.array[[3, 7]] == 0).all()
    assert (store.digests[3], store.digests[7]) == ("", "")
    assert np.array_equal(store.array[39], READER.read(images[39]))
    assert open_store(images, cache, on_unreadable="exclude").unreadable == store.unreadable
    index = (store.folder / "index.json").read_text()
    assert not [file for file in images if str(file) in index]
    with pytest.raises(MedvisionError, match="cannot read 2 of 40 images"):
        open_store(images, cache)


def test_nothing_readable_is_an_error_even_when_excluding(images, cache):
    for path in images[:2]:
        path.write_bytes(b"")
    for size in (12, None):
        with pytest.raises(MedvisionError, match="cannot read 2 of 2 images"):
            open_store(images[:2], cache, Reader(size=size), on_unreadable="exclude")
    assert leftovers(cache) == []


def test_images_of_other_sizes_need_a_size(images, cache):
    assert open_store(images, cache, Reader(size=None)).array.shape == (40, 15, 20, 1)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(images[5])
    for choice in ("stop", "exclude"):
        with pytest.raises(MedvisionError) as caught:
            open_store(images, cache, Reader(size=None), on_unreadable=choice)
        assert str(caught.value) == (
            f"{images[5]} is 9 x 9 pixels and the first image 15 x 20; "
            "give all one size with data.reader.size=[H,W]"
        )


def test_no_rows_and_odd_choices(images, cache):
    with pytest.raises(MedvisionError, match="the manifest has no rows"):
        open_store([], cache)
    with pytest.raises(MedvisionError, match="'skip' cannot be; choose stop or exclude"):
        open_store(images, cache, on_unreadable="skip")


@pytest.mark.parametrize("damage", ["no index", "cut pixels", "cut index", "no pixels"])
def test_a_broken_store_is_built_again(images, cache, builds, damage):
    folder = open_store(images, cache).folder
    pixels, index = folder / "pixels.npy", folder / "index.json"
    if damage == "no index":
        index.unlink()
    elif damage == "cut index":
        index.write_text(index.read_text()[:100])
    elif damage == "no pixels":
        pixels.unlink()
    else:
        pixels.write_bytes(pixels.read_bytes()[:-500])
    store = open_store(images, cache)
    assert builds() == 2
    assert np.array_equal(store.array[39], READER.read(images[39]))


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run the same command again"),
        (errno.EDQUOT, "your disk quota is used up; free some space"),
        (errno.EACCES, "permission is denied; choose a writable place"),
        (errno.EROFS, "the file system is read-only; choose a writable place"),
    ],
)
def test_a_refused_write_is_a_sentence_and_nothing_stays(
    images, cache, monkeypatch, number, reason
):
    written = []

    def refuse_later(writer, row, levels, write=fill._Writer.write):
        written.append(row)
        if len(written) > 10:
            raise OSError(number, os.strerror(number))
        return write(writer, row, levels)

    monkeypatch.setattr(fill._Writer, "write", refuse_later)
    with pytest.raises(MedvisionError) as caught:
        open_store(images, cache)
    assert "pixels.npy: " in str(caught.value)
    assert reason in str(caught.value)
    assert leftovers(cache) == []
    monkeypatch.undo()
    assert len(open_store(images, cache).digests) == 40


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device_is_an_error_not_a_crash(images):
    levels = Reader(size=200).read(images[0])
    with Path("/dev/full").open("wb") as stream:
        stream.truncate = lambda size: size
        writer = fill._Writer(stream, 40)
        with pytest.raises(OSError, match="No space left"):
            writer.write(0, levels)
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # so that it can be closed


def test_an_interrupted_build_leaves_nothing(images, cache, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fill._Writer, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_store(images, cache)
    assert leftovers(cache) == []


def test_two_threads_decode_once(images, cache, builds):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(open_store(images, cache))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds() == 1
    assert len({store.folder for store in found}) == 1
    assert all(np.array_equal(store.array, found[0].array) for store in found)


SCRIPT = """
import logging, sys, time
from pathlib import Path
from medvision.data.store import fill
from medvision.data.store.reader import Reader
from medvision.data.store.store import open_store

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
write = fill._Writer.write

def slow(writer, row, levels):
    time.sleep(float(sys.argv[3]))
    return write(writer, row, levels)

fill._Writer.write = slow
files = sorted(Path(sys.argv[1]).glob("*.png"))
print("begun", flush=True)
open_store(files, [0] * len(files), Reader(size=12), cache=Path(sys.argv[2]), workers=2)
"""


def start(images, cache, pause):
    command = [sys.executable, "-c", SCRIPT, str(images[0].parent), str(cache), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_decode_once(images, cache):
    processes = [start(images, cache, 0.02) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(out.count("decoded 40 images") for out, _ in outputs) == 1


def test_a_killed_build_leaves_no_store_and_the_next_one_builds(images, cache, builds):
    process = start(images, cache, 0.2)
    limit = time.monotonic() + 30
    while not list(cache.rglob("*.npy")) and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert list(cache.rglob("*.npy"))
    assert not list(cache.rglob("index.json"))
    store = open_store(sorted(images), cache)
    assert builds() == 1
    assert sorted(path.name for path in leftovers(cache)) == ["index.json", "pixels.npy"]
    assert np.array_equal(store.array[39], READER.read(sorted(images)[39]))


def test_workers_do_not_change_the_result(images, cache, tmp_path):
    one = open_store(images, cache, workers=1)
    many = open_store(images, tmp_path / "other", workers=7)
    assert np.array_equal(one.array, many.array)
    assert one.digests == many.digests
