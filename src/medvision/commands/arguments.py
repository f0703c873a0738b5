"""`key=value` words for the commands that are plain functions."""

import importlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from medvision.errors import MedvisionError, did_you_mean


def call(command: str, words: Sequence[str]) -> None:
    """Import the command's module and call the function `run` in it with the words as arguments.

    Raises:
        MedvisionError: an unknown, missing or misspelt argument.
    """
    function: Callable[..., None] = importlib.import_module(f"medvision.commands.{command}").run
    if any(word in ("-h", "--help") for word in words):
        print(f"medvision {command}\n\n{inspect.getdoc(function)}")
        return
    function(**parse(words, function, command))


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
        value = text if _is_text(hints.get(head)) else read_value(text)
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


def _is_text(hint: Any) -> bool:
    return hint in (str, Path, str | None, Path | None)


def read_value(text: str) -> Any:
    """Read one value: true/false/null, a number, a bracketed list, else the text itself."""
    plain = {"true": True, "false": False, "null": None}
    if text.lower() in plain:
        return plain[text.lower()]
    if text.startswith("[") and text.endswith("]"):
        return [read_value(item.strip()) for item in text[1:-1].split(",") if item.strip()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
