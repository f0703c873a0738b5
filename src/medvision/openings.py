"""Looks at test parts, counted over the whole runs folder: each is allowed, none is hidden."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import medvision.files as files
from medvision.provenance import command_line
from medvision.runs import Run


def digest_rows(images: Iterable[str]) -> str:
    """Name a part by what its images show, whatever its run, manifest or files are called."""
    return files.digest(*sorted({*images}))[:16]


def record_opening(
    places: Sequence[Run], models: Sequence[str], rows: str, settings: Sequence[str] = (),
    *, whole: bool = False,
) -> None:  # fmt: skip
    """Write down that a test part was looked at: a second look is allowed, never hidden.

    One that a kill left unfinished is the same look when its command comes again.

    Args:
        places: where it is written down; it is one look all the same.
        models: digest of the model in each place.
        rows: `digest_rows` of the part.
        settings: of the models that looked, as their records name them.
        whole: nobody will say that it ended (`close_opening`).
    """
    event = secrets.token_hex(4)
    for place, model in zip(places, models, strict=True):
        opening = {"date": files.today(), "model": model[:16], "command": command_line(),
                   "rows": rows, "settings": sorted({*settings})}  # fmt: skip
        held = place.record.get("test_openings", [])
        again = {**opening, "date": "", "event": "", "finished": False}
        if not any({**one, "date": "", "event": ""} == again for one in held):
            place.note(test_openings=[*held, opening | {"event": event, "finished": whole}])


def close_opening(places: Sequence[Run]) -> None:
    """Say that the looks begun in these places have ended."""
    for place in places:
        held = place.record.get("test_openings", [])
        place.note(test_openings=[
            one | {"finished": True} if one.get("finished") is False else one for one in held
        ])  # fmt: skip


def count_openings(record: Mapping[str, Any]) -> tuple[int, int]:
    """Count the looks at the test part of a record, over the whole runs folder, and their settings.

    Looks of before, which do not say what they were at, count in their own record alone.
    """
    own = record.get("test_openings") or []
    rows = {one["rows"] for one in own if "rows" in one}
    events = {one.get("event", str(k)): one.get("settings", []) for k, one in enumerate(own)}
    for pattern in ("*/*/record.json", "*/*/evaluations/*/record.json") if rows else ():
        for path in sorted(files.runs_folder().glob(pattern)):
            for one in Run(path.parent).record.get("test_openings") or []:
                if one.get("rows") in rows:
                    events[one["event"]] = one["settings"]
    return len(events), len({each for settings in events.values() for each in settings})
