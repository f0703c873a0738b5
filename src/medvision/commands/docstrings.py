"""What the arguments of a class or function are, read from docstrings: nothing is imported."""

import inspect
import re
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_DEFINED = r'^(?:class|def) {name}\b([^:]*?|\(.*?\n\)[^\n]*?):\n    """(.*?)"""'
_IMPORT = re.compile(r"^\s*from (medvision\S*) import (\([^)]*\)|.*)$", re.MULTILINE)


@cache
def describe_arguments(target: str) -> dict[str, str]:
    """Argument → what the docstring of a dotted path of ours says of it.

    What a class leaves to its parents, or to another that its docstring refers to by "see", is
    told by those.
    """
    module, _, name = target.rpartition(".")
    text = _read_module(module)
    places = _list_imports(text)
    found = re.search(_DEFINED.format(name=name), text, re.MULTILINE | re.DOTALL)
    if found is None:
        return describe_arguments(places[name]) if name in places else {}
    others = [*re.findall(r"see `(\w+)`", found[2]), *re.findall(r"\w+", found[1])]
    inherited = [describe_arguments(places[other]) for other in others if other in places]
    told = {key: text for some in reversed(inherited) for key, text in some.items()}
    return told | _read(found[2])


def _read(docstring: str) -> dict[str, str]:
    """Read the section of a docstring that lists arguments, or attributes of a dataclass."""
    list_of = r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)"
    section = re.search(list_of, inspect.cleandoc(docstring), re.MULTILINE)
    entry = r"^    (\w+(?:, \w+)*): ((?:.*\n?)(?:^      .*\n?)*)"
    entries = re.findall(entry, section[1], re.MULTILINE) if section else []
    told = {names: " ".join(text.split()).rstrip(".") for names, text in entries}
    return {name: text for names, text in told.items() for name in names.split(", ")}


def _list_imports(text: str) -> dict[str, str]:
    """Name → the dotted path that a file imports it from, of ours."""
    return {
        name: f"{module}.{name}"
        for module, names in _IMPORT.findall(text)
        for name in re.findall(r"\w+", names)
    }


@cache
def _read_module(module: str) -> str:
    """Read the file of a module of ours; "" of any other."""
    head, *parts = module.split(".")
    place = _PACKAGE.joinpath(*parts)
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if head == "medvision" and path.is_file():
            return path.read_text(encoding="utf-8")
    return ""
