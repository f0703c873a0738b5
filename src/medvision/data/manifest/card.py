"""The card: facts beside a manifest, in `card.json`."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import medvision.files as files
from medvision.errors import MedvisionError, collect

ORIGINS = ("real", "generated")


@dataclass(frozen=True)
class Card:
    """Facts beside a manifest.

    Attributes:
        classes: in order, or None to take the sorted labels.
        patient_rule: how a patient was told from another.
        key: fingerprint of the key the patients were hashed with; None = patients as given.
        command: what made the manifest; empty for a hand-written one.
        versions: package → version.
        origin: `real` or `generated`, for rows that do not say.
        facts: anything else, plain JSON types.
    """

    dataset: str
    classes: list[str] | None = None
    patient_rule: str = "the column `patient`"
    key: str | None = None
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    origin: str = "real"
    facts: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain types in the order of the fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Any, where: Path) -> "Card":
        """Check what a card file holds; unknown keys become facts.

        Args:
            content: the parsed file.
            where: the file, for messages; its folder's name stands in for a missing `dataset`.

        Raises:
            MedvisionError: naming every value of the wrong kind.
        """
        if not isinstance(content, dict):
            raise MedvisionError(f"{where} holds no JSON object; restore or remove it")
        known = {key: content[key] for key in (f.name for f in fields(cls)) if key in content}
        problems = [
            f"`{key}` must be {_CARD_RULES[key][0]}, not {value!r}"
            for key, value in known.items()
            if not _CARD_RULES[key][1](value)
        ]
        if problems:
            raise collect(str(where), problems, "Mend the card or remove it", show=9)
        unknown = {key: value for key, value in content.items() if key not in known}
        facts = unknown | known.pop("facts", {})
        return cls(**({"dataset": where.parent.name} | known | {"facts": facts}))


def read_card(place: Path) -> Card:
    """Read a card; a file that is not there says nothing.

    Raises:
        MedvisionError: not JSON, of the wrong kind, or with what could not be written again: NaN,
            endless numbers, half letters.
    """
    try:
        content = files.read_json(place) if place.exists() else {}
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise MedvisionError(f"{place} is not strict JSON in UTF-8; restore or remove it") from None
    return Card.from_json(content, place)


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(map(_is_text, value)))


_CARD_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "dataset": ("a name", lambda value: _is_text(value) and value != ""),
    "classes": ("a list of names or null", _is_names),
    "patient_rule": ("text", _is_text),
    "key": ("a fingerprint or null", lambda value: value is None or _is_text(value)),
    "command": ("text", _is_text),
    "versions": ("an object", _is_map),
    "origin": ("real or generated", lambda value: value in ORIGINS),
    "facts": ("an object", _is_map),
}
