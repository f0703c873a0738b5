"""What was seen of images, kept beside their manifest: nobody decodes them for it again."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from medvision.data.audit.descriptor import Descriptor
from medvision.data.audit.scan import ImageFacts, Seen
from medvision.data.store.facts import Facts, describe_image, pack, unpack
from medvision.data.store.fill import Describe, Images
from medvision.files import Stamp, written_aside

NAME = ".images.npz"  # hidden: a folder of arrays that is searched for images may hold it
FORMAT = 2  # raise it when an image would be decoded or described otherwise

T = TypeVar("T")
_Arrays = Mapping[str, np.ndarray]


def write_seen(folder: Path, images: Images, seen: Mapping[int, Seen]) -> None:
    """Write what was seen of rows, and the state of their files, named as in the manifest.

    Raises:
        MedvisionError: the system refused to write.
    """
    numbers = {file: number for number, file in enumerate(images.stamps)}
    top = folder.resolve()
    facts = {
        "format": FORMAT,
        "files": [[os.path.relpath(file, top), *state] for file, state in images.stamps.items()],
        "rows": [[numbers[images.files[row]], images.frames[row]] for row in seen],
        "digests": [one.facts.digest for one in seen.values()],
        "natives": pack([one.facts.native for one in seen.values()]),
    }
    looks = [one.look for one in seen.values()]
    described = [look.descriptor for look in looks if look.descriptor is not None]
    with written_aside(folder / NAME) as aside:
        np.savez(
            aside,
            facts=_as_bytes(facts),
            looks=_as_bytes([[look.kind, look.white, look.ends, look.border] for look in looks]),
            described=np.array([look.descriptor is not None for look in looks]),
            thumbnails=np.array([one.thumbnail for one in described], dtype=np.float16),
            textures=np.array([one.texture for one in described], dtype=np.int8),
        )


def _as_bytes(content: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)


def recall_seen(folder: Path, images: Images) -> dict[int, Seen]:
    """Return what was seen of rows whose files are as they were; of a damaged file nothing is."""
    return _recall(folder, images, _read_seen)


def recall_facts(folder: Path, images: Images) -> Describe:
    """Return what takes down facts of images, anew only where they are not known."""
    known = _recall(folder, images, _read_facts)
    return lambda row, image: known.get(row) or describe_image(image)


def find_changed(folder: Path, images: Images, digests: Sequence[str]) -> list[int]:
    """Return the rows whose pixels were others when their manifest was written.

    Args:
        folder: of the manifest; rows that were not seen then are taken for unchanged.
        images: the rows.
        digests: of their pixels today; "" = not read.
    """
    known = _read(folder, lambda _, held: held["digests"])
    before = {(file, frame): digest for (file, _, frame), digest in known.items()}
    rows = enumerate(zip(images.files, images.frames, digests, strict=True))
    return [
        row for row, (file, frame, digest) in rows
        if digest and before.get((file, frame), digest) != digest
    ]  # fmt: skip


def _recall(
    folder: Path, images: Images, read: Callable[[_Arrays, dict[str, Any]], Sequence[T]]
) -> dict[int, T]:
    known = _read(folder, read)
    asked = enumerate(zip(images.files, images.frames, strict=True))
    places = {row: (file, images.stamps[file], frame) for row, (file, frame) in asked}
    return {row: known[place] for row, place in places.items() if place in known}


def _read(
    folder: Path, read: Callable[[_Arrays, dict[str, Any]], Sequence[T]]
) -> dict[tuple[Path, Stamp, int], T]:
    """Return what was seen of each (file, its state, frame); {} where nothing usable is held."""
    try:
        with np.load(folder / NAME, allow_pickle=False) as arrays:
            held = json.loads(arrays["facts"].tobytes())
            if held["format"] != FORMAT:
                return {}
            files = [(Path(os.path.abspath(folder / name)), (size, time))  # noqa: PTH100
                     for name, size, time in held["files"]]  # fmt: skip
            rows = zip(held["rows"], read(arrays, held), strict=True)
            return {(*files[number], frame): value for (number, frame), value in rows}
    except (OSError, ValueError, EOFError, KeyError, TypeError, IndexError, BadZipFile):
        return {}


def _read_facts(_: _Arrays, held: dict[str, Any]) -> list[Facts]:
    pairs = zip(held["digests"], unpack(held["natives"]), strict=True)
    return [Facts(digest, native) for digest, native in pairs if native is not None]


def _read_seen(arrays: _Arrays, facts: dict[str, Any]) -> list[Seen]:
    described = map(Descriptor, arrays["thumbnails"], arrays["textures"])
    descriptors = [next(described) if is_one else None for is_one in arrays["described"]]
    looks = json.loads(arrays["looks"].tobytes())
    rows = zip(_read_facts(arrays, facts), looks, descriptors, strict=True)
    return [
        Seen(facts, ImageFacts.of(facts, kind, white, ends, border, one))
        for facts, (kind, white, ends, border), one in rows
    ]
