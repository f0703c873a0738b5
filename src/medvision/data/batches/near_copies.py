"""Near copies among rows that are trained on or scored, told by their stored pixels.

What they are recognised by is kept in this user's cache, so that a model can be asked later: never
in a run, where it would tell a stranger who was trained on.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

import medvision.files as files
from medvision.data.audit.descriptor import SMALLEST, Descriptor, describe_look
from medvision.data.audit.near_duplicates import find_near_duplicates
from medvision.data.store.reader import Reader
from medvision.data.store.store import Store

_FORMAT = 1  # raise it when an image would be described otherwise


class Described(NamedTuple):
    """Images by the digests of their pixels; None is like nothing."""

    digests: Sequence[str]
    descriptors: Sequence[Descriptor | None]

    def take(self, rows: Sequence[int]) -> "Described":
        return Described(
            [self.digests[row] for row in rows], [self.descriptors[row] for row in rows]
        )


def describe_store(store: Store, manifest: str, reader: Reader) -> Described:
    """Describe the images of a manifest, given by its digest, as a reader leaves them."""
    if min(store.array.shape[1:3]) < SMALLEST:
        return Described(store.digests, [None] * len(store.digests))
    place = _place(manifest, reader)
    known = _load(place)
    if known is not None and list(known.digests) == store.digests:
        return known
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(describe_look, store.array))
    described = Described(store.digests, found)
    _save(place, described)
    return described


def recall_trained(
    manifests: Sequence[str], reader: Reader, knows: Callable[[Sequence[str]], Sequence[bool]]
) -> Described:
    """Return the images that a model knows, of manifests described on this machine.

    Args:
        manifests: digests of those that were trained on.
        reader: the model's.
        knows: tells of digests whether the model has seen them.
    """
    held: dict[str, Descriptor | None] = {}
    for manifest in manifests:
        if described := _load(_place(manifest, reader)):
            held |= zip(described.digests, described.descriptors, strict=True)
    mine = [one for one, known in zip(held, knows([*held]), strict=True) if known]
    return Described(mine, [held[one] for one in mine])


def find_between(one: Described, other: Described) -> list[int]:
    """Return the rows of `one` that are near copies of some of `other`, ascending."""
    first = len(one.digests)
    digests = [*one.digests, *other.digests]
    pairs = find_near_duplicates(
        [*one.descriptors, *other.descriptors], [str(row) for row in range(len(digests))], digests,
        sides=[int(row >= first) for row in range(len(digests))],
    )  # fmt: skip
    return sorted({int(row) for row in pairs[:, 0]})


def _place(manifest: str, reader: Reader) -> Path:
    name = files.digest(str(_FORMAT), manifest, reader.digest())[:16]
    return files.cache_folder() / "descriptors" / f"{name}.npz"


def _save(place: Path, described: Described) -> None:
    held = [one for one in described.descriptors if one is not None]
    with files.written_aside(place, mode=0o600) as aside:
        np.savez(
            aside,
            digests=np.array(described.digests, dtype=np.str_),
            described=np.array([one is not None for one in described.descriptors]),
            thumbnails=np.array([one.thumbnail for one in held], dtype=np.float16),
            textures=np.array([one.texture for one in held], dtype=np.int8),
        )


def _load(place: Path) -> Described | None:
    """Read what was described; None where there is nothing, or it is damaged."""
    try:
        with np.load(place, allow_pickle=False) as arrays:
            held = map(Descriptor, arrays["thumbnails"], arrays["textures"])
            descriptors = [next(held) if one else None for one in arrays["described"]]
            return Described(arrays["digests"].tolist(), descriptors)
    except (OSError, ValueError, EOFError, KeyError, StopIteration, BadZipFile):
        return None
