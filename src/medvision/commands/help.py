"""What `medvision COMMAND --help` prints, read from the text of files: nothing is imported."""

import ast
import builtins
import collections.abc
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from medvision.commands.conf_text import Key, compose_keys, describe, list_groups, read_file
from medvision.files import conf_folder

_TOLD = ("experiment", "model", "data", "augment")  # groups whose choices are told one by one
_WIDE, _WIDER = 22, 32
_ENTRIES = {"tune": "launch", "completion": "launch"}  # of other commands it is `run`
WORDS = vars(typing) | vars(collections.abc) | {"Path": Path}  # of annotations


class _Names(dict[str, Any]):
    """Words of annotations; one that another file defines stands for anything."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


def read_signature(command: str) -> Callable[..., None]:
    """Return a function with the signature and docstring of a command's own, which does nothing."""
    tree = ast.parse(Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8"))
    name = _ENTRIES.get(command, "run")
    (found,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    found.body = found.body[:1]
    names = _Names(WORDS)
    exec(compile(ast.Module([found], []), command, "exec"), {}, names)
    function: Callable[..., None] = names[name]
    return function


def print_help(command: str) -> None:
    """Print what a command takes."""
    if command == "train":
        print(_describe_configuration())
        return
    print(f"medvision {command}\n\n{inspect.getdoc(read_signature(command))}")
    if command == "tune":
        print("\n" + "\n".join(_list_keys(read_file(conf_folder() / "tune.yaml").keys)))
    print(TRUST if command != "completion" else "")


def _describe_configuration() -> str:
    """Write the groups of `conf/` as Hydra does, then all keys and choices with their comments."""
    groups = [f"{group}: {', '.join(choices)}" for group, choices in list_groups().items()]
    root = (conf_folder() / "train.yaml").read_text(encoding="utf-8")
    keys = re.split(r"^(?=\S)", root, flags=re.MULTILINE)
    own = "".join(key for key in keys if not key.startswith(("#", "defaults:", "hydra:")))
    composed = compose_keys([])
    inner = [key._replace(comment=describe(key.name, composed)) for key in composed.values()
             if key.name.partition(".")[0] in list_groups() and "." in key.name]  # fmt: skip
    choices = [line for name in _TOLD for line in _list_choices(name)]
    parts = {"groups": groups, "keys": [own.strip()], "inner": _list_keys(inner)}
    return TRAIN.format(**{k: "\n".join(v) for k, v in (parts | {"choices": choices}).items()})


def _list_keys(keys: Iterable[Key]) -> Iterator[str]:
    """Yield keys with their values and comments, a line each; a mapping only if it has a comment.

    What a value is computed from, and how Hydra builds, is left to `--cfg job`.
    """
    for name, value, comment in keys:
        if name.endswith("._partial_") or value.startswith("${") or not (value or comment):
            continue
        yield f"{f'{name}={value}' if value else name:<{_WIDER}} {comment}".rstrip()


def _list_choices(group: str) -> Iterator[str]:
    """Yield the choices of a group, a line each, with what their files say on top."""
    yield f"{group}="
    for choice in list_groups()[group]:
        said = read_file(conf_folder() / group / f"{choice}.yaml")
        yield f"  {choice:<{_WIDE}} {said.summary}".rstrip()


TRUST = """
trust=true     let a run or model that was not made with your key name any code; without it, nets
               of medvision, torch, torchvision, MONAI and timm alone
"""
TRAIN = """\
train is powered by Hydra.

== Configuration groups ==
Compose your configuration from those groups (group=option)

{groups}


== Config ==
Override anything in the config (foo.bar=value)

{keys}

The keys of the groups, here of their first choices; of others: medvision train model=rnn --cfg job

{inner}

== Choices ==
{choices}


Powered by Hydra (https://hydra.cc)
Use --hydra-help to view Hydra specific help
"""
