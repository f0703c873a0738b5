"""The user's key: 32 secret bytes behind all pseudonyms, keyed digests and signatures."""

import hmac
import os
import secrets
from pathlib import Path

import medvision.files as files
from medvision.errors import MedvisionError

_KEY_BYTES = 32


def key_file() -> Path:
    """Where the user's key lies: `MEDVISION_KEY`, else in the home folder."""
    place = os.environ.get("MEDVISION_KEY")
    return Path(place or "~/.config/medvision/key").expanduser()


def user_key() -> bytes:
    """Return the user's 32 secret bytes; they are drawn and written (mode 0600) at first use.

    Raises:
        MedvisionError: the file is unreadable, is no key, or cannot be written.
    """
    path = key_file()
    if not path.exists():
        _make_key(path)
    try:
        key = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise MedvisionError(
            f"cannot read your key {path}: {reason}; mend that or set MEDVISION_KEY=FILE"
        ) from error
    if len(key) != _KEY_BYTES:
        raise MedvisionError(
            f"{path} is no key of medvision ({len(key)} bytes, not {_KEY_BYTES}); restore it from "
            "a copy, or move it away for a new one (earlier patients can then not be compared)"
        )
    return key


def _make_key(path: Path) -> None:
    # The lock keeps two first uses from hashing with different keys.
    try:
        with files.locked(path.with_name(path.name + ".lock")):
            if path.exists():
                return
            with files.written_aside(path, mode=0o600) as aside:
                aside.write_bytes(secrets.token_bytes(_KEY_BYTES))
    except MedvisionError as error:
        raise MedvisionError(f"{error}; for your key that is MEDVISION_KEY=FILE") from error


def find_key() -> bytes | None:
    """Return the user's key; None where none was drawn yet.

    Raises:
        MedvisionError: as `user_key`.
    """
    return user_key() if key_file().exists() else None


def fingerprint(key: bytes) -> str:
    """Name a key without giving it away: 8 hexadecimal digits."""
    return hmac.new(key, b"fingerprint", "sha256").hexdigest()[:8]


def mac(key: bytes, purpose: str, *parts: str | bytes) -> str:
    """Return HMAC-SHA256 in hexadecimal of parts, kept apart by their lengths.

    What is made for one purpose says nothing of another.
    """
    whole = hmac.new(key, digestmod="sha256")
    for part in (purpose, *parts):
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "little"))
        whole.update(data)
    return whole.hexdigest()
