"""Hydra's errors in one sentence."""

import errno
import re
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, InstantiationException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from medvision.errors import MedvisionError, did_you_mean
from medvision.files import conf_folder, explain_refusal, find_refusal
from medvision.training.config import compose_train

_SEE_KEYS = "see all keys with: medvision train --cfg job"


def explain(error: BaseException, words: Sequence[str] = ()) -> str:
    """Say in one sentence what went wrong; a fault of ours keeps its type and place.

    Args:
        error: whatever ended a command.
        words: the command's `key=value` words, which decide the keys there are.
    """
    if isinstance(error, MedvisionError):
        return str(error)
    if isinstance(error, InstantiationException):
        return _explain_building(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _explain_config(error, words)
    refusal = find_refusal(error)
    if refusal is not None and refusal.errno in (errno.ENOSPC, errno.EDQUOT):
        return str(explain_refusal(refusal))
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


def _explain_config(error: BaseException, words: Sequence[str] = ()) -> str:
    """Turn Hydra's words about an override into one sentence with the way out."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    if found := re.search(r"Could not (?:override|delete from config.*) '([^']+)'", text):
        key = found[1].partition("@")[0]
        return f"there is no key {key!r}{_suggest_key(key, words)}; {_SEE_KEYS}"
    if found := re.search(r"(?:already at .|Multiple values for )(\w[\w.]*\w)", text):
        return f"{found[1]} is there already: write {found[1]}=… without the +"
    if found := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, name = found[1], found[2]
        if group == "hydra/launcher":
            return f"{group}={name} is not installed; add it with: pip install 'medvision[launch]'"
        known = sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
        return f"{group}={name} does not exist{did_you_mean(name, known)}; use {', '.join(known)}"
    if found := re.search(r"Error parsing override '(.+?)'", text):
        return f"{found[1]!r} is not key=value; {_SEE_KEYS}"
    if "does not support sweep type" in text:
        return (
            "a sweep takes lists (a,b or range(…)) and the experiment gives an interval; "
            "search it with: medvision tune experiment=…"
        )
    if isinstance(error, MissingMandatoryValue):
        key = str(getattr(error, "full_key", "") or lines[0].rpartition(" ")[2])
        return f"{key} has no value; give {key}=…"
    cause = next((line.strip() for line in str(error.__cause__ or "").splitlines()), "")
    detail = f" ({cause.rstrip('.')})" if cause and cause != lines[0] else ""
    return f"{lines[0].rstrip('.')}{detail}; {_SEE_KEYS}"


def _explain_building(error: InstantiationException) -> str:
    """Say which part of the configuration could not be built, and why."""
    if isinstance(error.__cause__, MedvisionError):
        return str(error.__cause__)
    lines = str(error).splitlines()
    quoted = re.search(r"'([^']+)'", lines[0])
    part = quoted[1] if quoted else lines[0]
    near = _suggest_name(part)
    key = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), ""
    )
    reason = str(error.__cause__ or "").splitlines() or [""]
    return f"{key or 'the configuration'} cannot be built ({part}: {reason[-1]}){near}; {_SEE_KEYS}"


def _suggest_name(path: str) -> str:
    """Return `" (did you mean 'x'?)"` for a dotted path whose module has no such name."""
    module, _, name = path.rpartition(".")
    try:
        known = vars(import_module(module)) if module else {}
    except ImportError:
        return ""
    return "" if name in known else did_you_mean(name, known)


def _suggest_key(key: str, words: Sequence[str]) -> str:
    """Return `" (did you mean 'x'?)"`: a key that ends alike, else the one spelt nearest."""
    known = [name for name in _known_keys(words) if name != key]
    alike = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    return f" (did you mean {alike[0]!r}?)" if alike else did_you_mean(key, known)


def _known_keys(words: Sequence[str]) -> list[str]:
    """Compose once more with the choices of groups alone, and list every dotted key."""
    groups = {path.name for path in conf_folder().iterdir() if path.is_dir()}
    choices = [word for word in words if word.partition("=")[0] in groups and "," not in word]
    try:
        config = compose_train([], choices)
    except (HydraException, OmegaConfBaseException):
        return sorted(groups)
    with open_dict(config):
        del config["hydra"]
    return [*groups, *_dotted(OmegaConf.to_container(config, resolve=False))]


def _dotted(config: Any, prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
