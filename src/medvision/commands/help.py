"""What `medvision COMMAND --help` prints, read from the text of files: nothing is imported."""

import ast
import builtins
import collections.abc
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medvision.files import conf_folder

_TOLD = ("experiment", "model", "data", "augment")  # groups whose choices are told one by one
_WIDE = 22
_ENTRIES = {"tune": "launch"}  # of other commands it is `run`
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
    else:
        print(f"medvision {command}\n\n{inspect.getdoc(read_signature(command))}\n{TRUST}")


def _describe_configuration() -> str:
    """Write the groups of `conf/` as Hydra does, and the keys of `train.yaml` as they stand."""
    folders = sorted(path for path in conf_folder().iterdir() if path.is_dir())
    groups = [
        f"{folder.name}: {', '.join(sorted(path.stem for path in folder.glob('*.yaml')))}"
        for folder in folders
    ]
    root = (conf_folder() / "train.yaml").read_text(encoding="utf-8")
    keys = re.split(r"^(?=\S)", root, flags=re.MULTILINE)
    own = "".join(key for key in keys if not key.startswith(("#", "defaults:", "hydra:")))
    choices = "\n".join(line for name in _TOLD for line in _list_choices(name))
    return TRAIN.format(groups="\n".join(groups), keys=own.strip(), choices=choices)


def _list_choices(group: str) -> Iterator[str]:
    """Yield the choices of a group, a line each, with the first comment of their files."""
    yield f"{group}="
    for path in sorted((conf_folder() / group).glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        said = (line for line in lines if line.startswith("# ") and "@package" not in line)
        yield f"  {path.stem:<{_WIDE}} {next(said, '').removeprefix('# ')}".rstrip()


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

The keys of the groups, as composed: medvision train --cfg job

== Choices ==
{choices}


Powered by Hydra (https://hydra.cc)
Use --hydra-help to view Hydra specific help
"""
