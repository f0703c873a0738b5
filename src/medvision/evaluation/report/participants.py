"""The flow of participants as boxes: found, left out and why, served, scored."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from medvision.evaluation.report.run_files import RunFiles
from medvision.evaluation.report.table import PARTS

REASONS = {
    "unreadable": "unreadable or broken",
    "channel": "of a channel that was not asked for",
    "gap": "of series with missing slices",
    "leak": "sharing a patient or an image with a more protected part",
}
_JOINED = {"extra": "of other manifests (data.extra)", "generated": "generated"}


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


def describe_participants(run: RunFiles) -> Participants | None:
    """Return the flow of a run; None of one that did not count its rows."""
    flow, early = run.flow, run.get("card.facts.flow") or {}
    if not flow.get("whole"):
        return None
    prepared = "whole" in early and early.get("kept") == flow["whole"]  # else of other rows
    boxes = [_found(run, early)] if prepared else []
    boxes.append(_manifest(flow, changed=bool(early) and not prepared))
    if joined := flow.get("joined"):
        aside = [f"joined: {_say(one)} {_JOINED[one['reason']]}" for one in joined]
        boxes.append(Box("Joined train", _say(_total(flow)), [], aside))
    parts = {part: flow["parts"][part] for part in PARTS if part in flow["parts"]}
    steps = [early, flow] if prepared else [flow]
    lost = sum(one["images"] for step in steps for one in step["excluded"])
    served = [f"{part} {_say(counts)}" for part, counts in parts.items()]
    sentence = (
        f"Of {_say(steps[0]['whole'])}, {lost or 'no'} image{'s were' if lost != 1 else ' was'} "
        f"left out; in the parts: {'; '.join(served)}."
    )
    return Participants(
        boxes, [_part(run, part, counts) for part, counts in parts.items()], sentence
    )


def _found(run: RunFiles, early: Mapping[str, Any]) -> Box:
    lines = list(_aside(run.get("card.facts")))
    return Box("Found by prepare", _say(early["whole"]), lines, _left_out(early))


def _manifest(flow: Mapping[str, Any], *, changed: bool) -> Box:
    lines = ["not the rows that prepare wrote"] if changed else []
    if flow["excluded"]:
        lines.append(f"kept: {_say(flow['kept'])}")
    return Box("Rows of the manifest", _say(flow["whole"]), lines, _left_out(flow))


def _left_out(flow: Mapping[str, Any]) -> list[str]:
    """Write `left out: 6 images, all of 1 patient, unreadable or broken`, a line a reason."""
    lines = []
    for one in flow["excluded"]:
        owners = [_name(one[unit], unit) for unit in ("patients", "series") if one.get(unit)]
        of = f", all of {' and '.join(owners)}" if owners else ""
        lines.append(f"left out: {_name(one['images'], 'images')}{of}, {REASONS[one['reason']]}")
    return lines


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


def _total(flow: Mapping[str, Any]) -> dict[str, int]:
    real = [one for one in flow["joined"] if one["reason"] != "generated"]
    return {
        unit: number + sum(one.get(unit, 0) for one in real)
        for unit, number in flow["kept"].items()
    }


def _part(run: RunFiles, part: str, counts: Mapping[str, Any]) -> Box:
    lines = [f"{name}: {_name(n, run.unit)}" for name, n in (counts.get("per_class") or {}).items()]
    lines += [
        f"{name}: {one['known']} known" for name, one in (counts.get("numbers") or {}).items()
    ]
    if counts.get("nothing"):
        lines.append(f"none of them: {_name(counts['nothing'], run.unit)}")
    if counts["unlabelled"]:
        verb = "do not train" if part == "train" else "are not scored"
        lines.append(f"not annotated: {counts['unlabelled']}, which {verb}")
    scored = run.get(f"metrics.n.{part}.{run.unit}")
    if scored is not None and run.evaluator.opens_test:
        lines.append(f"scored: {scored}")
    return Box(part, _say(counts), lines)


def _say(counts: Mapping[str, Any]) -> str:
    return ", ".join(
        _name(counts[unit], unit) for unit in ("patients", "series", "images") if unit in counts
    )


def _name(number: int, unit: str) -> str:
    return f"{number} {unit if number != 1 or unit == 'series' else unit[:-1]}"
