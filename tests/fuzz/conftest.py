"""What fuzzing shares: ways to damage bytes, what must hold for any file, and the count."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from zlib import crc32

import numpy as np
import pytest

from medvision.data.formats.decode import Decoded, load_frames
from medvision.data.formats.images import MAX_PIXELS
from medvision.data.formats.listing import count_frames
from medvision.data.store.reader import Reader
from medvision.errors import MedvisionError

PLANTED = "Zebediah^Planted"
CARRIED = (np.uint8, np.uint16, np.int16, np.int32, np.float32)
SECONDS = 2.0  # of processor time an input may take
READERS = (
    Reader(size=(12, 12), window="full"),
    Reader(size=(12, 12), window="percentile"),
    Reader(size=(12, 12), window="dicom", channels=3),
)
OUTCOMES = ("read", "refused", "other", "wrong", "traceback")
TOTALS = pytest.StashKey[Counter]()
Damage = Callable[[bytes, str, bool], Iterator[tuple[str, bytes]]]


class Tally:
    """Counts inputs by kind and outcome.

    read: as it was meant, or whatever it says. refused: in one sentence. other: read, but not as
    it was before it was damaged, which is only for what a format has no means to notice. wrong: a
    promise was broken. traceback: anything raised but our own error.
    """

    def __init__(self, counts: Counter) -> None:
        self.counts = counts

    @contextmanager
    def one(self, kind: str, told: object = "", whole: np.ndarray | None = None) -> Iterator["One"]:
        """Count one input: it is read, or refused in one sentence, in time.

        Args:
            kind: the line of the table it is counted in.
            told: what was done to it, for the message.
            whole: the pixels it had before it was damaged.
        """
        started, seen = time.process_time(), One(whole)
        try:
            yield seen
        except MedvisionError as error:
            seen.found = str(error)
            check_sentence(str(error))
        except AssertionError as error:
            self.fail(kind, "wrong", told, error)
        except BaseException as error:
            self.fail(kind, "traceback", told, error)
        spent = time.process_time() - started
        if spent > SECONDS:
            self.fail(kind, "wrong", told, TimeoutError(f"{spent:.1f} s"))
        self.counts[f"{kind}\t{seen.outcome()}"] += 1

    def fail(self, kind: str, outcome: str, told: object, error: BaseException) -> NoReturn:
        self.counts[f"{kind}\t{outcome}"] += 1
        raise AssertionError(f"{kind}, {str(told)[:400]}: {error!r}") from error


class One:
    """What came of one input."""

    def __init__(self, whole: np.ndarray | None) -> None:
        self.whole = whole
        self.found: np.ndarray | str | None = None

    def is_other(self) -> bool:
        """Tell whether pixels were read that are not those of the whole file."""
        pair = self.found, self.whole
        if not all(isinstance(pixels, np.ndarray) for pixels in pair):
            return False
        same = [(pixels.shape, pixels.dtype, pixels.tobytes()) for pixels in pair]
        return same[0] != same[1]

    def outcome(self) -> str:
        if isinstance(self.found, str):
            return "refused"
        return "other" if self.is_other() else "read"


def check_sentence(text: str) -> None:
    """A refusal is one line of ours: nobody's name, no traceback, no object's address."""
    assert "\n" not in text
    assert text.strip()
    assert not any(part in text for part in (*PLANTED.split("^"), "Traceback", "object at 0x"))


def check_image(image: Decoded) -> None:
    pixels = image.pixels
    assert pixels.dtype in CARRIED
    assert pixels.ndim == 3
    assert pixels.shape[-1] in (1, 3)
    assert 4 <= pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS
    assert pixels.dtype.kind != "f" or np.isfinite(pixels).all()


def look(path: Path, frames: tuple[int, ...] = (0,)) -> list[np.ndarray | str]:
    """Decode and render frames; pixels of each, or the sentence that refuses it."""
    found: list[np.ndarray | str] = []
    assert count_frames(path) >= 1
    for image in load_frames(path, frames):
        if isinstance(image, MedvisionError):
            check_sentence(str(image))
            found.append(str(image))
            continue
        check_image(image)
        for reader in READERS:
            try:
                levels = reader.render(image)
            except MedvisionError as error:
                check_sentence(str(error))
                continue
            assert levels.dtype == np.uint8
            assert levels.shape == (12, 12, reader.channels)
        found.append(image.pixels.copy())  # an array file stays mapped
    return found


def damage(content: bytes, name: str, full: bool) -> Iterator[tuple[str, bytes]]:
    """Yield (what was done, damaged bytes): the same ones for the same name.

    Full is every one of the first 200 bytes changed and some of the rest, ends cut off, blocks of
    zeros and junk behind; otherwise a sample of each class.
    """
    draw, size = random.Random(crc32(name.encode())), len(content)
    start = range(min(200, size))
    offsets = list(start) if full else draw.sample(start, min(16, size))
    rest = range(min(200, size), size)
    offsets += draw.sample(rest, min(80 if full else 8, len(rest)))
    for offset in offsets:
        changed = bytearray(content)
        changed[offset] ^= draw.randrange(1, 256)
        yield f"byte {offset}", bytes(changed)
    cuts = [0, 1, size - 1, *draw.sample(range(2, size - 1), 36 if full else 4)]
    yield from ((f"cut at {cut}", content[:cut]) for cut in cuts)
    for _ in range(14 if full else 2):
        first, length = draw.randrange(size), draw.choice((2, 8, 64, 512))
        zeros = bytes(min(length, size - first))
        yield f"zeros {first}+{length}", content[:first] + zeros + content[first + length :]
    for length in (1, 100) if full else (7,):
        yield f"junk of {length}", content + draw.randbytes(length)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TOTALS] = Counter()


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return Tally(pytestconfig.stash.setdefault(TOTALS, Counter()))


@pytest.fixture(scope="session", name="look")
def look_at() -> Callable[..., list[np.ndarray | str]]:
    return look


@pytest.fixture(scope="session", name="damage")
def ways_to_damage() -> Damage:
    return damage


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker counted to the process that prints."""
    held = session.config.stash.get(TOTALS, Counter())
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["fuzz"] = json.dumps(held)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    held = json.loads(getattr(node, "workeroutput", {}).get("fuzz", "{}"))
    node.config.stash.setdefault(TOTALS, Counter()).update(held)


def pytest_terminal_summary(terminalreporter) -> None:
    counts = terminalreporter.config.stash.get(TOTALS, Counter())
    if not counts:
        return
    kinds = sorted({key.partition("\t")[0] for key in counts})
    terminalreporter.section("fuzzed inputs")
    terminalreporter.line(f"{'':20}" + "".join(f"{name:>10}" for name in OUTCOMES))
    for kind in (*kinds, "all"):
        held = kinds if kind == "all" else [kind]
        numbers = [sum(counts[f"{k}\t{name}"] for k in held) for name in OUTCOMES]
        terminalreporter.line(f"{kind:20}" + "".join(f"{n:10}" for n in numbers))
    told = "other: damage that the format has no means to notice"
    terminalreporter.line(f"{sum(counts.values())} inputs; {told}")
