"""The keys of `conf/` and their comments, read from its text: nothing is imported for it."""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from medvision.commands.docstrings import describe_arguments
from medvision.files import conf_folder

_QUOTED = r"'[^']*'|\"[^\"]*\""
_INLINE = re.compile(rf"((?:{_QUOTED}|[^'\"#]|(?<=\S)#|['\"])*?)(?:(?:^|(?<=\s))#\s?(.*))?")
_FLOW_ITEM = re.compile(rf"\s*([\w.\"]+):\s*((?:{_QUOTED}|[^'\"])*)")


class Key(NamedTuple):
    """A dotted name, its value as written ("" of a mapping), and what its file says of it."""

    name: str
    value: str
    comment: str


@dataclass(frozen=True)
class ConfFile:
    """What one file of `conf/` says: its comment on top, its defaults list, its keys in order."""

    head: list[str] = field(default_factory=list)
    defaults: list[str] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)

    @property
    def package(self) -> str | None:
        """The node its keys belong to where the file says so; "" is the top."""
        said = [line.split()[1] for line in self.head if line.startswith("@package ")]
        return said[0].removeprefix("_global_") if said else None

    @property
    def summary(self) -> str:
        """The first sentence of its comment; else the first command."""
        lines = [line for line in self.head if not line.startswith("@package")]
        told = [line for line in lines if not re.search(r"\bmedvision (train|tune)\b", line)]
        first, *others = [*(told or lines), ""]
        for line in itertools.takewhile(lambda line: line[:1].islower(), others):
            first = f"{first} {line}"
        return re.split(r"(?<=\.) (?=[A-Za-z])", first)[0]


@cache
def list_groups() -> dict[str, list[str]]:
    """Group → its choices, both by the alphabet."""
    folders = sorted(path for path in conf_folder().iterdir() if path.is_dir())
    return {folder.name: sorted(p.stem for p in folder.glob("*.yaml")) for folder in folders}


@cache
def read_file(path: Path) -> ConfFile:
    """Read one file; a list over several lines belongs to `defaults` alone."""
    said, above = ConfFile(), list[str]()
    parents: list[tuple[int, str]] = []  # indents and names of the mappings around a line
    column = -1  # of the comment beside the last key, which the next line may go on with
    for line in path.read_text(encoding="utf-8").splitlines():
        content, comment = _split_comment(line)
        if not content:
            if not said.defaults and not said.keys and not parents:
                said.head.extend([comment] if comment else [])
            elif comment and line.index("#") == column:
                _append_comment(said.keys, comment)
            elif comment:
                above.append(comment)
            continue
        column = len(line) - len(comment) - 2 if comment else -1
        indent = len(content) - len(content.lstrip())
        parents = [(at, name) for at, name in parents if at < indent]
        if content.lstrip().startswith("- "):
            said.defaults.append(content.strip().removeprefix("- "))
            continue
        key, _, value = (part.strip() for part in content.partition(":"))
        if key == "defaults":
            said.defaults.extend(item.strip() for item in value.strip("[]").split(",") if item)
            parents.append((indent, key))
            continue
        name = ".".join([*(name for _, name in parents), key])
        said.keys.extend(_comment_on(_open_flow(name, value), " ".join([*above, comment]).strip()))
        above.clear()
        if not value:
            parents.append((indent, key))
    return said


def compose_keys(words: Sequence[str]) -> dict[str, Key]:
    """Return the keys of a training by their names, with the choices that some words make.

    What a user's own folder adds is not known here.
    """
    chosen = dict(word.partition("=")[::2] for word in words if "=" in word)
    top = conf_folder() / "train.yaml"
    named = dict(re.split(r":\s*", item) for item in read_file(top).defaults if ":" in item)
    experiment = chosen.get("experiment", named["experiment"])
    told = _open_choice("experiment", experiment).defaults
    overridden = dict(re.findall(r"override /(\w+): (\w+)", "\n".join(told)))
    keys: dict[str, Key] = {}
    _merge(keys, (key for key in read_file(top).keys if not key.name.startswith("hydra")))
    for group in named:
        if group in list_groups():
            choice = chosen.get(group) or overridden.get(group, named[group])
            _merge(keys, read_choice(group, choice).values())
    return keys


def read_choice(group: str, choice: str) -> dict[str, Key]:
    """Return the keys of one choice of a group by their names, with those it builds upon."""
    keys: dict[str, Key] = {}
    _merge(keys, _list_choice(group, choice))
    return keys


def describe(name: str, keys: dict[str, Key]) -> str:
    """Return the comment of a key, else what its node's class says of it, in one sentence."""
    if name not in keys or keys[name].comment:
        return keys[name].comment if name in keys else ""
    node, _, argument = name.rpartition(".")
    told: dict[str, str] = {}
    if f"{node}._target_" in keys:
        told = describe_arguments(keys[f"{node}._target_"].value)
    elif node == "data.source" and "data.source.name" in keys:
        source = f"medvision.data.sources.{keys['data.source.name'].value}"
        told = describe_arguments(f"{source}.find") or describe_arguments(f"{source}.source.find")
    return told.get(argument, "").partition(". ")[0]


def _open_choice(group: str, choice: str) -> ConfFile:
    path = conf_folder() / group / f"{choice}.yaml"
    return read_file(path) if path.exists() else ConfFile()


def _list_choice(group: str, choice: str) -> Iterator[Key]:
    """Yield the keys of a choice after those of the files it builds upon."""
    said = _open_choice(group, choice)
    for item in said.defaults:
        if not item.startswith("override"):
            yield from _list_choice(group, item.partition("@")[0])
    place = group if said.package is None else said.package
    for key in said.keys:
        if not key.name.startswith("hydra"):
            yield key._replace(name=f"{place}.{key.name}".strip("."))


def _merge(keys: dict[str, Key], others: Iterable[Key]) -> None:
    """Let later keys win; a comment stays until another takes its place."""
    for key in others:
        before = keys.get(key.name, key)
        parent = key.name.rpartition(".")[0]
        if parent in keys and keys[parent].value:  # a mapping where there was none
            keys[parent] = keys[parent]._replace(value="")
        if key.value == "null" and not before.value:  # none where there was a mapping
            for inner in [name for name in keys if name.startswith(f"{key.name}.")]:
                del keys[inner]
        value = before.value if key.value.strip("'\"") == "???" else key.value
        keys[key.name] = Key(key.name, value, key.comment or before.comment)


def annotate(composed: str, keys: dict[str, Key]) -> str:
    """Write the comments of keys beside the lines of a composed configuration."""
    lines, parents = [], list[tuple[int, str]]()
    for line in composed.splitlines():
        found = re.match(r"( *)([\w.]+):(\s|$)", line)
        if found is None:
            lines.append(line)
            continue
        indent = len(found[1])
        parents = [*((at, name) for at, name in parents if at < indent), (indent, found[2])]
        told = describe(".".join(name for _, name in parents), keys)
        lines.append(f"{line}  # {told}" if told else line)
    return "\n".join(lines)


def _split_comment(line: str) -> tuple[str, str]:
    found = _INLINE.fullmatch(line) if "#" in line else None
    content, comment = (found[1], found[2]) if found else (line, None)
    return content.rstrip(), comment or ""


def _append_comment(keys: list[Key], more: str) -> None:
    keys[-1] = keys[-1]._replace(comment=f"{keys[-1].comment} {more}")


def _open_flow(name: str, value: str) -> list[Key]:
    """Take `{a: 1, b: {c: 2}}` apart into keys of their own."""
    if not re.fullmatch(r"\{.*\S.*\}", value) or value.strip("{} ") == "":
        return [Key(name, value, "")]
    keys = [Key(name, "", "")]
    for item in _split_items(value[1:-1]):
        found = _FLOW_ITEM.fullmatch(item)
        if found is not None:
            keys.extend(_open_flow(f"{name}.{found[1]}", found[2].strip()))
    return keys


def _split_items(text: str) -> Iterator[str]:
    """Yield what commas part, but for those in brackets and quotes."""
    depth, begin = 0, 0
    for found in re.finditer(rf"{_QUOTED}|[\[\]{{}},]", text):
        depth += (found[0] in "[{") - (found[0] in "]}")
        if found[0] == "," and not depth:
            yield text[begin : found.start()]
            begin = found.end()
    yield text[begin:]


def _comment_on(keys: list[Key], comment: str) -> list[Key]:
    """Give a line's comment to its last key: the others are told where they come from."""
    return [*keys[:-1], keys[-1]._replace(comment=comment)]
