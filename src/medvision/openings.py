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
    held = [place.record.get("test_openings", []) for place in places]
    new = [
        {"date": files.today(), "model": model[:16], "command": command_line(), "rows": rows,
         "settings": sorted({*settings}), "event": secrets.token_hex(4), "finished": whole}
        for model in models
    ]  # fmt: skip
    begun = [one["event"] for own, opening in zip(held, new, strict=True)
             for one in own if _is_same_look(one, opening)]  # fmt: skip
    event = {"event": begun[0] if begun else new[0]["event"]}
    for place, own, opening in zip(places, held, new, strict=True):
        if event["event"] not in [one.get("event") for one in own]:
            place.note(test_openings=[*own, opening | event])


def _is_same_look(begun: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell a look that was begun and did not end, when its command comes again."""
    free = {"date": "", "event": ""}
    return {**begun, **free} == {**new, **free, "finished": False}


def close_opening(places: Sequence[Run], **facts: Any) -> None:
    """Say that the looks begun in these places have ended, and other facts in the same breath."""
    for place in places:
        held = place.record.get("test_openings", [])
        ended = [one | {"finished": True} if "finished" in one else one for one in held]
        place.note(**({"test_openings": ended} if held else {}), **facts)


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
