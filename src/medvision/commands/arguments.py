"""`key=value` words for the commands that are plain functions."""

import csv
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from medvision.commands.help import read_signature
from medvision.errors import MedvisionError, did_you_mean

TEXTS = (list[str], list[str] | None)


def call(command: str, words: Sequence[str]) -> None:
    """Import the command's module and call the function `run` in it with the words as arguments.

    Raises:
        MedvisionError: an unknown, missing or misspelt argument.
    """
    trust, words = _take_trust(words)
    parse(words, read_signature(command), command)  # a mistake is told before torch is imported
    from medvision.trust.names import trusting

    function: Callable[..., None] = importlib.import_module(f"medvision.commands.{command}").run
    with trusting(trust):
        function(**parse(words, function, command))


def _take_trust(words: Sequence[str]) -> tuple[bool, list[str]]:
    """Take out the word that every command knows: whether files may name any code."""
    said = [word for word in words if word.startswith("trust=")]
    values = [read_value(word.removeprefix("trust=")) for word in said]
    if wrong := [word for word, value in zip(said, values, strict=True) if type(value) is not bool]:
        raise MedvisionError(f"{wrong[0]} is neither true nor false; choose one of them")
    return bool(values and values[-1]), [word for word in words if word not in said]


def parse(words: Sequence[str], function: Callable[..., Any], command: str) -> dict[str, Any]:
    """Split words at the first `=`; dots in a key make nested mappings; `Path` arguments stay text.

    Values read as Python users expect: true, false, null, numbers, [a,b]; anything else is text.
    """
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
    arguments: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        head, _, tail = key.partition(".")
        if not equals:
            raise MedvisionError(
                f"{word!r} is not key=value; medvision {command} takes {', '.join(known)}"
            )
        if head not in known and not open_ended:
            raise MedvisionError(
                f"medvision {command} has no argument {head!r}{did_you_mean(head, known)}; "
                f"it takes {', '.join(known)}"
            )
        hint = hints.get(head) if head in known else None
        value = text if _is_text(hint) else read_value(text, as_text=hint in TEXTS)
        _check(key, value, hint)
        if tail:
            arguments.setdefault(head, {})[tail] = value
        else:
            arguments[head] = value
    missing = [
        name for name, p in parameters.items()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD and name not in arguments
    ]  # fmt: skip
    if missing:
        raise MedvisionError(f"medvision {command} needs {', '.join(f'{m}=…' for m in missing)}")
    return arguments


def _check(key: str, value: Any, hint: Any) -> None:
    """Refuse a value its parameter cannot take: a word for a switch, a key that has no keys."""
    head, _, tail = key.partition(".")
    kinds = [get_origin(kind) or kind for kind in get_args(hint) or (hint,)]
    if (dict in kinds or Mapping in kinds) and not tail and value is not None:
        raise MedvisionError(f"{head}= takes a key of its own, as in {head}.KEY={value}")
    if hint is not None and tail and dict not in kinds and Mapping not in kinds:
        raise MedvisionError(f"{key}= is too long a key; say {head}={value}")
    if hint is bool and not isinstance(value, bool):
        raise MedvisionError(f"{key}={value} is neither true nor false; choose one of them")
    if get_origin(hint) is Literal and value not in (choices := get_args(hint)):
        near = did_you_mean(str(value), choices)
        raise MedvisionError(f"{key}={value} cannot be{near}; choose {' or '.join(choices)}")


def _is_text(hint: Any) -> bool:
    return hint in (str, Path, str | None, Path | None)


def read_value(text: str, as_text: bool = False) -> Any:
    """Read one value: true/false/null, a number, a bracketed list, else the text itself.

    In a list, "…" keeps the commas of an item (the names of runs have some).

    Args:
        text: what follows the `=`.
        as_text: items of a list stay text: the name of a run may look like a number.
    """
    plain = {"true": True, "false": False, "null": None}
    if text.lower() in plain:
        return plain[text.lower()]
    if text.startswith("[") and text.endswith("]"):
        items = next(csv.reader([text[1:-1]], skipinitialspace=True), [])
        named = [item.strip() for item in items if item.strip()]
        return named if as_text else [read_value(item) for item in named]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
