"""Paths of images may hold names: what a run writes has them hashed, and a map of yours tells them.

The map lies beside the user's key and never travels: whoever gets a run folder gets no file name.
"""

import errno
import hmac
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from medvision.errors import MedvisionError
from medvision.files import explain_refusal
from medvision.trust.user_key import key_file, user_key

SIGN = "hashed-"
SECONDS = 60.0  # that another process may be writing
MANY = 500  # asked for at once; SQLite takes some thousands
HIDDEN = "…"
_ROOT = re.compile(r"(?<![\w.…])(?:[A-Za-z]:)?[/\\~](?=[^\s/])")
_END = re.compile(r"(?=[\s:;,)'\"])|$")
_GONE = re.compile(r"[^\n:;,'\"()]*?\.\w{1,6}(?=[\s:;,)'\"]|$)|\S+(?<![:;,)])")
_QUOTED = re.compile(r"(?<!\w)(?:'[^'\n]*'|\"[^\"\n]*\"|“[^”\n]*”)(?!\w)")


def map_file() -> Path:
    """Where the map lies: beside the key."""
    key = key_file()
    return key.with_name(f"{key.name}.paths.sqlite")


def is_masked(path: str) -> bool:
    """Tell a stand-in from a path."""
    return path.startswith(SIGN)


def mask_paths(paths: Sequence[str]) -> list[str]:
    """Replace absolute paths by stand-ins and remember which is which; "" stays.

    Equal for the same path under the same key, so rows of two runs can be matched.

    Raises:
        MedvisionError: the map cannot be written.
    """
    key = user_key()
    known = {path: _hide(path, key) if path else "" for path in dict.fromkeys(paths)}
    rows = [(hidden, path) for path, hidden in known.items() if path]
    with _opened("write") as table:
        table.execute("create table if not exists paths (hidden text primary key, path text)")
        table.executemany("insert or ignore into paths values (?, ?)", rows)
    return [known[path] for path in paths]


def _hide(path: str, key: bytes) -> str:
    return SIGN + hmac.new(key, b"path:" + path.encode(), "sha256").hexdigest()[:16]


def reveal_paths(hidden: Sequence[str]) -> list[str]:
    """Return the paths behind stand-ins; what is none stays as it is.

    Raises:
        MedvisionError: the map is not here, or does not know some of them.
    """
    wanted = sorted({path for path in hidden if is_masked(path)})
    known = dict(_look_up(wanted)) if wanted and map_file().exists() else {}
    if missing := len(wanted) - len(known):
        raise MedvisionError(
            f"{missing} of {len(wanted)} paths are hashed and {map_file()} does not tell them; "
            "work where the run was trained, with its MEDVISION_KEY, or name images of your own"
        )
    return [known.get(path, path) for path in hidden]


def without_names(text: str) -> str:
    """Return an error's sentence as it may be written into a run: no path, nothing that is quoted.

    What is quoted are names of files and cells of tables. The terminal tells the sentence whole.
    """
    kept, rest = "", text
    while found := _ROOT.search(rest):
        kept += rest[: found.start()] + HIDDEN
        rest = rest[found.start() + _measure_path(rest[found.start() :]) :]
    return _QUOTED.sub(lambda quoted: f"{quoted[0][0]}{HIDDEN}{quoted[0][-1]}", kept + rest)


def _measure_path(text: str) -> int:
    """Return how long the path is that a text begins with, which may hold spaces.

    The longest beginning that is there counts, and of what is gone all up to a likely end.
    """
    ends = (end.start() for end in _END.finditer(text))
    there = max((end for end in ends if os.path.lexists(text[:end])), default=0)
    if os.path.isfile(text[:there]):  # noqa: PTH113
        return there
    gone = _GONE.match(text, there)
    return gone.end() if gone else max(there, 1)


def _look_up(wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    with _opened("read") as table:
        for start in range(0, len(wanted), MANY):
            some = wanted[start : start + MANY]
            marks = ",".join("?" * len(some))
            yield from table.execute(f"select * from paths where hidden in ({marks})", some)


@contextmanager
def _opened(what: str) -> Iterator[sqlite3.Connection]:
    place = map_file()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(place, timeout=SECONDS)) as table, table:
            place.chmod(0o600)
            yield table
    except (sqlite3.Error, OSError) as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise explain_refusal(OSError(errno.ENOSPC, str(error)), place) from error
        raise MedvisionError(
            f"cannot {what} {place}, which tells hashed paths ({error}); mend that, or set "
            "MEDVISION_KEY to a file in a writable folder"
        ) from error
