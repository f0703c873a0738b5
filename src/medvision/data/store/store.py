"""The store: every image of a manifest decoded once into one memory map."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medvision.data.store.facts import FileFacts, describe_image, pack, unpack
from medvision.data.store.fill import Describe, Filled, FillRequest, Images, Shape, copy_rows, fill
from medvision.data.store.label_reader import LabelReader
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError, collect
from medvision.files import cache_folder, digest, locked, read_json, write_json, written_aside

FORMAT = 2  # part of every key: raise it when the same settings would store something else
_FILE = "{file}"  # stands for the path in a reason: what is kept here names no file
log = logging.getLogger(__name__)
WAY_OUT = "Mend or remove these files, or leave them out with data.on_unreadable=exclude"


def _describe_all(_: Images) -> Describe:
    """Take down the facts of every image."""
    return lambda _, image: describe_image(image)


@dataclass
class Store:
    """Decoded images, row by row as the manifest names them.

    Attributes:
        array: read-only memory map, uint8 or uint16 `[N,H,W,C]`.
        digests: pixel digest a row, "" where unreadable.
        folder: where it lies.
        unreadable: reason by row, for images left out by choice; their pixels are 0.
        natives: what each image was in its file; None where unreadable.
    """

    array: np.ndarray
    digests: list[str]
    folder: Path
    unreadable: dict[int, str]
    natives: list[FileFacts | None] = field(default_factory=list)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Return a copy of some rows, `[B,H,W,C]`."""
        return np.asarray(np.take(self.array, rows, axis=0))


def open_store(
    files: Sequence[Path],
    frames: Sequence[int],
    reader: Reader | LabelReader,
    *,
    on_unreadable: str = "stop",
    workers: int | None = None,
    cache: Path | None = None,
    progress: bool = True,
    describe: Callable[[Images], Describe] = _describe_all,
) -> Store:
    """Open the store of these images, and build it first where there is none.

    Args:
        files: a path a row; a file may serve many rows.
        frames: 0-based image inside the file, a row.
        reader: how images are made alike.
        on_unreadable: "stop" names all unreadable images in one error, "exclude" leaves them out.
        workers: decoding threads; None takes one a processor.
        cache: folder that holds `stores/`; None takes `cache_folder()`.
        progress: show a bar on a terminal, one line elsewhere.
        describe: called only to build; returns what takes down the facts of a row's image.

    Raises:
        MedvisionError: unreadable images, sizes that differ, or no room or right to write.
    """
    if on_unreadable not in ("stop", "exclude"):
        raise MedvisionError(f"on_unreadable={on_unreadable!r} cannot be; choose stop or exclude")
    if not files:
        raise MedvisionError("there is no image to store; the manifest has no rows")
    filling = FillRequest(Images.find(files, frames), reader, progress)
    key = _key(filling)
    folder = (cache or cache_folder()) / "stores" / key
    store = _open(folder)
    if store is None:
        waiting = f"waiting for another process that builds {folder}"
        with locked(folder.with_name(f".{key}.lock"), on_wait=lambda: filling.say(waiting)):
            # Whoever held the lock may just have built it.
            store = _open(folder) or _build(
                folder, filling, describe(filling.images), on_unreadable, workers
            )
    store.unreadable = {
        row: reason.replace(_FILE, str(filling.images.files[row]))
        for row, reason in store.unreadable.items()
    }
    if store.unreadable and on_unreadable == "stop":  # it was built for a caller who excludes
        raise _unreadable(store.unreadable, len(store.digests))
    return store


def keep_rows(store: Store, rows: Sequence[int], images: Images, reader: Reader) -> None:
    """Keep some rows of a store as the store of these images, whose pixels they are."""
    filling = FillRequest(images.take(rows), reader, progress=False)
    folder = store.folder.with_name(_key(filling))
    with locked(folder.with_name(f".{folder.name}.lock")):
        if _open(folder) is None:
            with written_aside(folder / "pixels.npy") as aside:
                copy_rows(aside, store.array, rows)
            filled = [Filled(store.digests[row], store.unreadable.get(row, ""), store.natives[row])
                      for row in rows]  # fmt: skip
            _write_index(folder, filling, filled, (len(rows), *store.array.shape[1:]))


def _unreadable(reasons: dict[int, str], total: int) -> MedvisionError:
    what = f"cannot read {len(reasons)} of {total} images"
    return collect(what, [reasons[row] for row in sorted(reasons)], WAY_OUT)


def _key(filling: FillRequest) -> str:
    """Digest what the pixels depend on: the ordered images, the settings and the format."""
    images = filling.images
    places = zip(images.files, images.frames, strict=True)
    rows = [[str(file), frame, *images.stamps[file]] for file, frame in places]
    return digest(f"{FORMAT}", filling.reader.digest(), json.dumps(rows))[:16]


def _open(folder: Path) -> Store | None:
    """Open a finished store; None where there is none, or only a broken one."""
    try:
        index = read_json(folder / "index.json")
        array = np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
        whole = len(index["digests"]) == len(array) and index["shape"] == [*array.shape]
        reasons = {int(row): reason for row, reason in index["unreadable"].items()}
        natives = unpack(index["natives"])
        return Store(array, index["digests"], folder, reasons, natives) if whole else None
    except (MedvisionError, OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):
        return None


def _build(
    folder: Path, filling: FillRequest, describe: Describe, on_unreadable: str, workers: int | None
) -> Store:
    """Fill a new store; `index.json` is written last, and without it there is no store."""
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)  # what a killed build or a bad disk left
    try:
        with written_aside(folder / "pixels.npy") as aside:
            filled, shape = fill(aside, filling, describe, workers)
        reasons = {number: row.reason for number, row in enumerate(filled) if row.reason}
        if reasons and (on_unreadable == "stop" or len(reasons) == len(filled)):
            raise _unreadable(reasons, len(filled))
        _write_index(folder, filling, filled, shape)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    log.info("decoded %d images into %s", len(filled), folder)
    left_out = f", {len(reasons)} unreadable ones left out" if reasons else ""
    seconds = time.monotonic() - started
    filling.say(f"decoded {len(filled)} images in {seconds:.1f} s{left_out}: {folder}")
    store = _open(folder)
    if store is None:
        raise MedvisionError(f"{folder} is broken right after it was written; check the disk")
    return store


def _write_index(
    folder: Path, filling: FillRequest, filled: Sequence[Filled], shape: Shape
) -> None:
    index = {"format": FORMAT, "reader": filling.reader.contract(), "shape": [*shape]}
    index["digests"] = [row.digest for row in filled]
    index["unreadable"] = {
        number: row.reason.replace(str(file), _FILE)
        for number, (row, file) in enumerate(zip(filled, filling.images.files, strict=True))
        if row.reason
    }
    natives = pack([row.native for row in filled])
    write_json(folder / "index.json", index | {"natives": natives})
