"""The flow of participants as boxes: found, left out and why, served, scored."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.table import PARTS

UNITS = ("images", "series", "patients")
REASONS = {
    "unreadable": "unreadable or broken",
    "channel": "of a channel that was not asked for",
    "gap": "of series with missing slices",
    "leak": "sharing a patient or an image with a more protected part",
}
JOINED = {"extra": "of other manifests (data.extra)", "generated": "generated"}


@dataclass(frozen=True)
class Box:
    """One box.

    Attributes:
        title: what was done.
        counts: how many there are, one line.
        lines: more about them.
        aside: what left at this step, or joined it.
    """

    title: str
    counts: str
    lines: list[str] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Participants:
    """Boxes from top to bottom, then one a part, and the same in a sentence."""

    steps: list[Box]
    parts: list[Box]
    sentence: str


def describe_participants(found: RunFiles) -> Participants | None:
    """Return the flow of a run; None of one that did not count its rows."""
    flow = found.flow
    if not flow.get("whole"):
        return None
    steps = [*_found(found), _manifest(found)]
    if joined := flow.get("joined"):
        aside = [f"joined: {_say(one)} {JOINED[one['reason']]}" for one in joined]
        steps.append(Box("Joined train", _say(_total(flow)), [], aside))
    parts = [_part(found, part) for part in PARTS if part in flow["parts"]]
    told = [f"{part} {_say(flow['parts'][part])}" for part in PARTS if part in flow["parts"]]
    lost = sum(one["images"] for one in [*_early(found), *flow["excluded"]])
    first = _early_whole(found) or flow["whole"]
    sentence = (
        f"Of {_say(first)}, {lost or 'no'} image{'s were' if lost != 1 else ' was'} left out; "
        f"in the parts: {'; '.join(told)}."
    )
    return Participants(steps, parts, sentence)


def _found(found: RunFiles) -> Iterator[Box]:
    """Yield the box of `prepare`, if what it wrote is what the run was given."""
    if whole := _early_whole(found):
        aside = [f"left out: {_say_lost(one)}, {REASONS[one['reason']]}" for one in _early(found)]
        yield Box("Found by prepare", _say(whole), list(_aside(found.facts)), aside)


def _early_whole(found: RunFiles) -> Mapping[str, Any] | None:
    early = found.facts.get("flow") or {}
    return early.get("whole") if early.get("kept") == found.flow["whole"] else None


def _early(found: RunFiles) -> list[Mapping[str, Any]]:
    return list(found.facts["flow"]["excluded"]) if _early_whole(found) else []


def _aside(facts: Mapping[str, Any]) -> Iterator[str]:
    """Tell what the source saw beside images; counts of files or series, never their names."""
    if skipped := _number(facts.get("skipped")):
        yield f"{skipped} other files beside them"
    for key in ("not taken", "set aside"):
        for kind, number in (facts.get(key) or {}).items():
            yield f"not taken: {_number(number)} {kind}"
    labels = facts.get("labels")
    if isinstance(labels, Mapping) and (strays := labels.get("lines_without_images")):
        yield f"{strays} lines of the labels without an image"


def _number(value: Any) -> int:
    return len(value) if isinstance(value, list) else int(value or 0)


def _manifest(found: RunFiles) -> Box:
    flow = found.flow
    aside = [f"left out: {_say_lost(one)}, {REASONS[one['reason']]}" for one in flow["excluded"]]
    early = found.facts.get("flow")
    lines = ["not the rows that prepare wrote"] if early and not _early_whole(found) else []
    if flow["excluded"]:
        lines.append(f"kept: {_say(flow['kept'])}")
    return Box("Rows of the manifest", _say(flow["whole"]), lines, aside)


def _total(flow: Mapping[str, Any]) -> dict[str, int]:
    real = [one for one in flow["joined"] if one["reason"] != "generated"]
    return {
        unit: number + sum(one.get(unit, 0) for one in real)
        for unit, number in flow["kept"].items()
    }


def _part(found: RunFiles, part: str) -> Box:
    counts = found.flow["parts"][part]
    lines = [f"{name}: {_name(n, found.unit)}" for name, n in counts["per_class"].items()]
    if counts.get("nothing"):
        lines.append(f"none of them: {_name(counts['nothing'], found.unit)}")
    if counts["unlabelled"]:
        verb = "do not train" if part == "train" else "are not scored"
        lines.append(f"unlabelled: {counts['unlabelled']}, which {verb}")
    scored = ((found.metrics.get("n") or {}).get(part) or {}).get(found.unit)
    if scored is not None and not found.makes_images:
        lines.append(f"scored: {scored}")
    return Box(part, _say(counts), lines)


def _say_lost(counts: Mapping[str, Any]) -> str:
    """Write `6 images, all of 1 patient`."""
    whole = [_name(counts[unit], unit) for unit in ("patients", "series") if counts.get(unit)]
    lost = _name(counts["images"], "images")
    return lost + (f", all of {' and '.join(whole)}" if whole else "")


def _say(counts: Mapping[str, Any]) -> str:
    return ", ".join(_name(counts[unit], unit) for unit in reversed(UNITS) if unit in counts)


def _name(number: int, unit: str) -> str:
    return f"{number} {unit if number != 1 or unit == 'series' else unit[:-1]}"
