"""Where files go and how they are written: aside, synced, renamed; never half."""

import errno
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from medvision.errors import MedvisionError

REFUSALS = {
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "your disk quota is used up",
    errno.EEXIST: "a file stands where a folder should be",
    errno.ENOTDIR: "a file stands where a folder should be",
    errno.EISDIR: "a folder stands where the file should be",
}
_WAYS_OUT = {
    errno.ENOSPC: "free some space and run the same command again; nothing done so far is lost",
    errno.EDQUOT: "free some space and run the same command again; nothing done so far is lost",
}
_ASIDE = re.compile(r"\..*\.aside\d+(\.\w+)?")
Stamp = tuple[int, int]
_MOVE_ELSEWHERE = "choose a writable place (MEDVISION_RUNS, MEDVISION_CACHE or output=)"


def explain_refusal(error: OSError, path: str | os.PathLike[str] | None = None) -> MedvisionError:
    """Turn an operating system's refusal to write into a sentence with the way out."""
    number = error.errno or 0
    reason = REFUSALS.get(number, error.strerror or str(error))
    place = path or error.filename or "a file"
    return MedvisionError(
        f"cannot write {place}: {reason}; {_WAYS_OUT.get(number, _MOVE_ELSEWHERE)}"
    )


def find_refusal(error: BaseException) -> OSError | None:
    """Find what the system refused behind an error: torch tells a full disk as a broken archive.

    Of what an error merely came upon, only a full disk is sure to be its reason.
    """
    link: BaseException | None = error
    numbers: Container[int | None] = REFUSALS
    while link is not None:
        if isinstance(link, OSError) and link.errno in numbers:
            return link
        numbers = numbers if link.__cause__ else _WAYS_OUT
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return None


@contextmanager
def written_aside(path: str | os.PathLike[str], mode: int = 0o666) -> Iterator[Path]:
    """Yield a temporary path beside `path`; sync and rename it on success, remove it on failure.

    Every file medvision writes goes through here, so a reader never meets half a file.

    Args:
        path: to be written or replaced.
        mode: of a new file, before the umask.

    Raises:
        MedvisionError: the system refused (permission, read-only, disk full).
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _hold_aside(path, mode) as aside:
            yield aside
            with aside.open("rb") as stream:
                os.fsync(stream.fileno())
            aside.replace(path)
    except MedvisionError:
        raise
    except Exception as error:
        refusal = find_refusal(error)
        if refusal is None:
            raise
        raise explain_refusal(refusal, path) from error


@contextmanager
def _hold_aside(path: Path, mode: int) -> Iterator[Path]:
    """Yield the first free temporary name beside `path`, locked until it is left.

    What a killed process left is free, and the next to write the same file takes it over; what a
    live one is writing is not.
    """
    names = (path.with_name(f".{path.name[:80]}.aside{n}{path.suffix}") for n in count())
    taken = ((name, _take_aside(name, mode)) for name in names)
    aside, held = next((name, held) for name, held in taken if held is not None)
    try:
        yield aside
    finally:
        with suppress(OSError):  # what refused to write refuses this too; the first word counts
            aside.unlink(missing_ok=True)
        fcntl.flock(held, fcntl.LOCK_UN)  # a forked child has inherited it
        os.close(held)


def _take_aside(aside: Path, mode: int = 0o666) -> int | None:
    """Open, lock and empty a temporary file; None where it is another's."""
    try:
        held = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, mode)
    except OSError:
        if os.path.lexists(aside):  # of another user, or a link
            return None
        raise
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(held), aside.stat()):  # its holder may just have renamed it
            os.ftruncate(held, 0)
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(held)
    return None


def remove_asides(folder: Path) -> None:
    """Remove what killed processes were writing below a folder; what live ones write stays."""
    for aside in folder.rglob(".*.aside*"):
        if not _ASIDE.fullmatch(aside.name) or (held := _take_aside(aside)) is None:
            continue
        aside.unlink(missing_ok=True)
        os.close(held)


def list_visible(folder: Path, pattern: str) -> list[Path]:
    """List what matches below a folder, sorted, but for what is hidden: it may be half written."""
    found = ((path.relative_to(folder), path) for path in folder.glob(pattern))
    return sorted(path for name, path in found if not any(map(_is_hidden, name.parts)))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") and name != ".."


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write `content` to `path` at once or not at all."""
    with written_aside(path) as aside:
        aside.write_bytes(content)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text with Unix line ends to `path` at once or not at all."""
    return write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], content: Any) -> Path:
    """Write strict JSON (no NaN), indented for people, keys in the order given."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON, naming the file when it is missing or broken."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MedvisionError(f"{path} does not exist; check the path") from None
    except (ValueError, RecursionError) as error:  # also what is nested or numbered beyond reason
        raise MedvisionError(f"{path} is not valid JSON ({error}); restore or remove it") from error


@contextmanager
def locked(
    path: str | os.PathLike[str], on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; a second process waits until it is free.

    Args:
        path: the lock file; it stays behind, empty.
        on_wait: called once before waiting. It may raise to refuse instead of waiting.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait()
            lock.acquire()
    except OSError as error:
        raise explain_refusal(error, path) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Tell whether a process holds the lock on the file `path` now."""
    from filelock import FileLock, Timeout

    if not Path(path).exists():
        return False
    lock = FileLock(path)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that may not be written to: nobody works in it
        return False


def stamp(path: Path) -> Stamp:
    """Return size and time of change of a file, -1 where there is none."""
    try:
        found = path.stat()
    except OSError:
        return (-1, -1)
    return (found.st_size, found.st_mtime_ns)


def digest(*parts: str | bytes) -> str:
    """Return the SHA-256 of the parts in hexadecimal; parts are kept apart by their lengths."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()


def digest_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_safe(text: str, limit: int = 80) -> str:
    """Keep letters, digits and `._=,+-` of any script; everything else becomes `_`."""
    return re.sub(r"[^\w.=,+-]+", "_", text).strip("_.")[:limit]


def conf_folder() -> Path:
    """Where the configuration lies: inside an installed package, or beside `src` in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def cache_folder() -> Path:
    """Where prepared manifests and stores go: `MEDVISION_CACHE`, else `.medvision` here."""
    return Path(os.environ.get("MEDVISION_CACHE") or ".medvision").resolve()


def runs_folder() -> Path:
    """Where run folders go: `MEDVISION_RUNS`, else `runs` here."""
    return Path(os.environ.get("MEDVISION_RUNS") or "runs").resolve()


def data_folder() -> Path | None:
    """Where inputs lie and nothing is ever written: `MEDVISION_DATA`, or None."""
    place = os.environ.get("MEDVISION_DATA")
    return Path(place).resolve() if place else None


def find_input(path: str | os.PathLike[str]) -> Path:
    """Find a user's file or folder: as typed, else under `MEDVISION_DATA`.

    Raises:
        MedvisionError: neither place has it.
    """
    typed = Path(path).expanduser()
    if os.path.exists(typed):  # noqa: PTH110 -- Path.exists raises on an overlong name
        return typed.resolve()
    folder = data_folder()
    if folder is not None and os.path.exists(folder / typed):  # noqa: PTH110
        return folder / typed
    looked = f"{typed.absolute()}" + (f" and {folder / typed}" if folder else "")
    hint = "" if folder else "; inputs are also looked for under MEDVISION_DATA, which is not set"
    raise MedvisionError(f"{path} does not exist (looked at {looked}); check the path{hint}")


def today() -> str:
    """Return the date and time in UTC to the second, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
