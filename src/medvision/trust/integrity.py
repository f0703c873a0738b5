"""Files of a run are what they were: their digests in `record.json`, and a MAC of the record.

The digests notice a file that changed; the MAC, under the user's own key, tells a record that this
user made from one that came along with a folder. Neither says who made a foreign one.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import medvision.files as files
from medvision.errors import MedvisionError
from medvision.trust.user_key import find_key, mac, user_key

RECORD, MODEL = "record.json", "model.pt"
_EVIDENCE = (
    "manifest.csv", "card.json", "audit.json", "config.yaml", "history.csv", "metrics.json",
    "predictions/*.csv",
)  # fmt: skip
REWRITTEN = ("metrics.json", "predictions/")
"""Beginnings of the names of what an evaluation writes anew."""
Signature = Literal["own", "elsewhere", "undigested", "unfinished"]
STAMPS: dict[Signature, str] = {
    "elsewhere": "made elsewhere, not verified",
    "undigested": "no digests: nothing tells whether its files are what they were",
}
"""What every table of a run says that is not this user's own."""


def list_evidence(folder: Path) -> list[str]:
    """Return the files that tables and reports are read from, but for the model, in the folder."""
    found = (path for pattern in _EVIDENCE for path in files.list_visible(folder, pattern))
    return [str(path.relative_to(folder)) for path in found]


def digest_files(folder: Path, *, model: bool = True) -> dict[str, str]:
    """Return the SHA-256 of each file of evidence, and of the model, that is there."""
    names = list_evidence(folder) + ([MODEL] if model and (folder / MODEL).exists() else [])
    return {name: files.digest_file(folder / name) for name in names}


def without_scores(digests: Mapping[str, str], parts: Iterable[str]) -> dict[str, str]:
    """Return the digests without those of what an evaluation of some parts writes anew."""
    gone = ("metrics.json", *(f"predictions/{part}" for part in parts))
    return {name: sha for name, sha in digests.items() if not name.startswith(gone)}


def sign(record: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its MAC; one that was not this user's before does not become it.

    Args:
        record: as it will be written.
        before: as it stands; empty where there is none yet.
    """
    if before and not _is_own(before):
        return dict(record)
    plain = {name: value for name, value in record.items() if name != "mac"}
    return plain | {"mac": mac(user_key(), "record", _canonical(plain))}


def find_signature(record: Mapping[str, Any]) -> Signature:
    """Tell whose a record is, and whether it says what its files were."""
    if _is_own(record):
        return "own"
    if record.get("status") != "done":
        return "unfinished"
    return "elsewhere" if "digests" in record else "undigested"


def _is_own(record: Mapping[str, Any]) -> bool:
    key = find_key()
    if key is None or "mac" not in record:
        return False
    plain = {name: value for name, value in record.items() if name != "mac"}
    return bool(record["mac"] == mac(key, "record", _canonical(plain)))


def _canonical(record: Mapping[str, Any]) -> str:
    """Write a record as it reads back: lists for tuples, text for keys."""
    return json.dumps(json.loads(json.dumps(record)), sort_keys=True)


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of `record.json`, empty where there is none."""
    path = folder / RECORD
    return dict(files.read_json(path)) if path.exists() else {}


def check_files(folder: Path, *, but: tuple[str, ...] = ()) -> Signature:
    """Compare the evidence of a finished run with its digests; say whose it is.

    Args:
        folder: of the run.
        but: beginnings of names that are not read, or are about to be written anew.

    Raises:
        MedvisionError: naming a file that changed, is gone, or was being written.
    """
    record = read_record(folder)
    digests: Mapping[str, str] | None = record.get("digests")
    if digests is not None and record.get("status") == "done":
        now = digest_files(folder, model=False)
        for name in sorted({*now, *digests} - {MODEL}):
            if not name.startswith(but):
                _compare(folder, name, digests.get(name), now.get(name))
    return find_signature(record)


def _compare(folder: Path, name: str, before: str | None, now: str | None) -> None:
    if before == now:
        return
    problem = {
        before is None: "was being written when its process ended",
        now is None: "is gone",
    }.get(True, "is not what it was when it was written: its digest has changed")
    part = Path(name).stem.partition("_")[0] if name.startswith("predictions/") else "test"
    way_out = (
        f"medvision evaluate run={folder} split={part}, or the training command, makes it anew"
        if name.startswith(REWRITTEN)
        else "restore it from a copy, or train the run again with rerun=true"
    )
    raise MedvisionError(f"{folder / name} {problem}; {way_out}")


def is_own_model(path: Path) -> bool:
    """Tell whether this user's key vouches for a `model.pt`, which lies in the run it belongs to.

    Raises:
        MedvisionError: it is not the file that its run wrote.
    """
    record = read_record(path.parent) if path.name == MODEL else {}
    written = dict(record.get("digests") or {}).get(MODEL)
    if written is None:
        return False
    if files.digest_file(path) != written:
        raise MedvisionError(
            f"{path} is not what it was when it was written: its digest has changed; restore it "
            "from a copy, or train the run again with rerun=true"
        )
    return _is_own(record)
