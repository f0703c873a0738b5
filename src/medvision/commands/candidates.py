"""What may stand at the cursor of a half-typed command, read from text: Tab waits for no import."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from medvision.commands.conf_text import compose_keys, describe, list_groups, read_file
from medvision.commands.help import read_signature
from medvision.files import conf_folder

_FLAGS = {
    "--multirun ": "sweep", "--cfg ": "print the configuration: job", "--help ": "what there is",
    "--config-dir ": "a folder like conf/ of your own", "--hydra-help ": "Hydra's own flags",
}  # fmt: skip
_LAUNCHERS = {"joblib": "several jobs on this machine", "submitit_slurm": "a cluster",
              "submitit_local": "a process a job", "basic": "one after the other"}  # fmt: skip
_RUN_KEYS = ("run", "runs", "model.weights", "judge.run")
_OF_ALL = {"trust": "let what was not made with your key name any code"}


class Candidate(NamedTuple):
    """A word that may be meant, with a blank at its end where it is whole, and what it is."""

    text: str
    told: str = ""


class Typed(NamedTuple):
    """A line up to the cursor: whole words without quotes, and the one that is being typed.

    `begin` is where a shell thinks that the last word begins.
    """

    words: list[str]
    last: str
    begin: int
    quoted: bool


def split_line(line: str, breaks: str = "") -> Typed:
    """Part a line as a shell does.

    Args:
        line: up to the cursor, with the program's name.
        breaks: characters at which the shell begins another word to complete.
    """
    words, last, begin, quote, escaped = list[str](), "", 0, "", False
    for char in line:
        if escaped or (quote and char not in (quote, "\\")) or (quote == "'" and char != "'"):
            last, escaped = last + char, False
        elif char == "\\":
            escaped = True
        elif quote:
            quote = ""
        elif char in "'\"":
            quote, begin = char, len(last)
        elif char.isspace():
            words, last, begin = [*words, *([last] if last else [])], "", 0
        else:
            last += char
            begin = len(last) if char in breaks else begin
    return Typed(words[1:], last, begin, bool(quote))


def list_candidates(typed: Typed, usage: str) -> list[Candidate]:
    """List what may be meant, by the alphabet of what there is.

    Args:
        typed: the line so far.
        usage: what `medvision --help` prints, which names the commands.
    """
    command = next(iter(typed.words), None)
    lines = re.findall(r"^  medvision ([a-z]+)(.*)$", usage, re.MULTILINE)
    found: Iterator[Candidate]
    if command is None:
        found = (Candidate(f"{name} ", _cut_usage(told)) for name, told in [*lines, ("--help", "")])
    elif command in ("train", "tune"):
        found = _list_of_training(command, typed)
    elif command == "completion":
        found = iter([Candidate("bash "), Candidate("zsh ")])
    else:
        found = _list_of_command(command, typed) if command in dict(lines) else iter(())
    begun: dict[str, Candidate] = {}
    for candidate in found:
        if candidate.text.startswith(typed.last):
            begun.setdefault(candidate.text, candidate)
    return [*begun.values()]


def _cut_usage(line: str) -> str:
    """Leave out the words of a command, which a gap parts from what it does."""
    return re.split(r" {3,}(?=\S+ )", line)[-1].strip()


def _list_of_training(command: str, typed: Typed) -> Iterator[Candidate]:
    """Yield flags, groups and keys of `medvision train` or `tune`, or values of a key."""
    if typed.words[-1] in ("--cfg", "-c"):
        yield from (Candidate(f"{kind} ") for kind in ("job", "hydra", "all"))
        return
    keys = compose_keys(typed.words[1:])
    if command == "tune":
        keys |= {key.name: key for key in read_file(conf_folder() / "tune.yaml").keys}
    key, equals, value = typed.last.lstrip("+~").partition("=")
    mark = typed.last[: typed.last.index(key)]
    if equals:
        comment = describe(key, keys) if key in keys else ""
        present = keys[key].value if key in keys else ""
        values = _list_values(key, value, command) or _read_choices(comment, present)
        yield from _join(f"{mark}{key}=", value, values)
        return
    yield from (Candidate(*flag) for flag in _FLAGS.items())
    parent = key.rpartition(".")[0]
    if not parent:
        yield from (Candidate(f"{mark}{group}=", "a choice of files") for group in list_groups())
        yield Candidate(f"{mark}hydra/launcher=", "where the jobs of a sweep run")
    inner = f"{parent}." if parent else ""
    for name in (name for name in keys if name.startswith(inner)):
        head, dot, _ = name[len(inner) :].partition(".")
        whole, dot = f"{inner}{head}", dot or "." * (keys[name].value == "{}")
        if dot or keys[name].value:
            yield Candidate(f"{mark}{whole}{dot or '='}", describe(whole, keys))


def _list_of_command(command: str, typed: Typed) -> Iterator[Candidate]:
    """Yield keys of a command that is a function, or values of a key, by docstring and hints."""
    function = read_signature(command)
    key, equals, value = typed.last.partition("=")
    if equals:
        values = _list_values(key, value, command) or _read_hint(command, key)
        yield from _join(f"{key}=", value, values)
        return
    told = _read_told(function, typed.words)
    yield from (Candidate(_cut(name), text) for name, (_, text) in told.items())
    hints = get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        nested = get_origin(hints.get(name)) in (dict, Mapping) or any(
            get_origin(kind) in (dict, Mapping) for kind in get_args(hints.get(name)))  # fmt: skip
        is_told = any(key.partition(".")[0] == name for key in told)
        if parameter.kind is not parameter.VAR_KEYWORD and not is_told:
            yield Candidate(f"{name}{'.' if nested else '='}")
    yield from (Candidate(f"{name}=", text) for name, text in _OF_ALL.items())


def _read_told(function: Callable[..., None], words: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Read key → example and description from the lines of a docstring.

    The options of a source stand below its name, and are those of a line that names it.
    """
    text = inspect.getdoc(function) or ""
    lines = re.findall(r"^([a-z][\w.]*)=(\S*) +(.+)$", text, re.MULTILINE)
    told = {name: (example, description) for name, example, description in lines}
    for source in (word.partition("=")[2] for word in words if word.startswith("source=")):
        block = re.search(rf"^  {source} .*(?:\n {{5,}}.*)*", text, re.MULTILINE)
        options = re.findall(r"([a-z_]+(?:\.[A-Z]+)?)=(\S*)", block[0]) if block else []
        told |= {name: (example, f"of source={source}") for name, example in options}
    return told


def _cut(name: str) -> str:
    """End a key where the user goes on: a word in capitals is the user's own."""
    own = re.search(r"(?<=\.)[A-Z_]+$", name)
    return name[: own.start()] if own else f"{name}="


def _list_values(key: str, value: str, command: str) -> list[Candidate]:
    """List the values of keys that name something: a choice, a run, a source."""
    if key in list_groups():
        files = {choice: conf_folder() / key / f"{choice}.yaml" for choice in list_groups()[key]}
        return [Candidate(f"{name} ", read_file(path).summary) for name, path in files.items()]
    if key == "hydra/launcher":
        return [Candidate(f"{name} ", told) for name, told in _LAUNCHERS.items()]
    if key in ("source", "data.source.name"):
        return [Candidate(f"{name} ", told) for name, told in _list_sources()]
    if key in _RUN_KEYS:
        return [*_list_runs(re.split(r"[\[,]", value)[-1], command, key)]
    if key == "name":
        return [Candidate(f"{run.folder.parent.name} ") for run in _runs()]
    return []


def _list_sources() -> list[tuple[str, str]]:
    text = inspect.getdoc(read_signature("prepare")) or ""
    return re.findall(r"^  ([a-z]+) {2,}(.+)$", text, re.MULTILINE)


def _runs() -> list[Any]:
    from medvision.runs import list_runs

    return list_runs()


def _list_runs(typed: str, command: str, key: str) -> Iterator[Candidate]:
    """Yield `last`, and names of runs alone in their folder; of several the folder, then each."""
    runs = _runs()
    names = [run.folder.parent.name for run in runs]
    if "/" in typed:
        yield from (Candidate(f"{run.title} ") for run in runs)
        return
    if runs and key == "run":
        yield Candidate("last ", "the one that was begun last")
    for name in dict.fromkeys(names):
        several = names.count(name) > 1
        if not several or key == "runs" or command in ("report", "verify"):
            yield Candidate(f"{name} ", f"{names.count(name)} runs" if several else "")
        if several:
            yield Candidate(f"{name}/")


def _read_choices(comment: str, present: str) -> list[Candidate]:
    """Read the values that a comment lists (`pad | crop | stretch`), or those of a switch."""
    if present in ("true", "false"):
        return [Candidate("true "), Candidate("false ")]
    parts = [re.split(r"[;:(,]", part)[0].strip() for part in comment.split(" | ")]
    first = comment.split(" | ")[0].rpartition(": ")[2]
    words = [word for word in (first, *parts[1:]) if re.fullmatch(r"[\w.=>-]+", word)]
    return [Candidate(f"{word} ") for word in words] if len(parts) > 1 else []


def _read_hint(command: str, key: str) -> list[Candidate]:
    """List what an annotation allows, else the example of the docstring."""
    function = read_signature(command)
    hint = get_type_hints(function).get(key, bool if key in _OF_ALL else None)
    if hint is bool:
        return [Candidate("true "), Candidate("false ")]
    if get_origin(hint) is Literal:
        return [Candidate(f"{choice} ") for choice in get_args(hint)]
    example = _read_told(function, ()).get(key, ("", ""))[0]
    is_word = re.fullmatch(r"[a-z]+", example) and hint not in (str, Path)
    return [Candidate(f"{example} ")] if is_word else []


def _join(head: str, value: str, values: Sequence[Candidate]) -> Iterator[Candidate]:
    """Write the key before each value; in a list or a sweep, also the items before the last."""
    items = re.sub(r"[^\[,]*$", "", value)
    for text, told in values:
        yield Candidate(f"{head}{items}{text.rstrip() if '[' in items else text}", told)
