"""Hydra's side of a command: where conf/ lies, words that need quoting, errors in one sentence."""

import os
import re
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from medvision.errors import MedvisionError, did_you_mean
from medvision.evaluation.metrics import direction

FREE_MAPPINGS = ("data.columns.", "data.rename.", "data.source.")
FLAGS_WITH_A_VALUE = ("-c", "--cfg", "-p", "--package", "-cd", "--config-dir", "-cn",
                      "--config-name", "-cp", "--config-path", "-i", "--info")  # fmt: skip
REPEATS = ("seed", "experiment", "data", "data.fold", "data.split_seed", "data.manifest", "name")
SEE_KEYS = "see all keys with: medvision train --cfg job"


def conf_folder() -> Path:
    """Find `conf/`: inside an installed package, or beside `src` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def run_name(experiment: str, data: str) -> str:
    """Name the folder of runs: the experiment, or other data that the default one is trained on."""
    return data if experiment == "cnn_phantom" and data != "phantom" else experiment


def part_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part Hydra's flags, which it takes only in front, from the overrides."""
    flags, overrides, rest = [], [], iter(words)
    for word in rest:
        if word.startswith("-"):
            flags += [word, *([next(rest, "")] if word in FLAGS_WITH_A_VALUE else [])]
        else:
            overrides.append(word)
    return flags, overrides


def register_resolvers() -> None:
    """Teach OmegaConf the two functions that conf/ calls."""
    OmegaConf.register_new_resolver("direction", direction, replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def swept_keys(flags: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Name what a sweep varies: on the command line, and under `hydra.sweeper.params` of its file.

    Raises:
        HydraException: the words do not compose.
    """
    parser = OverridesParser.create()
    parsed = [parser.parse_override(quote(word)) for word in overrides]
    fixed = [o.input_line for o in parsed if not o.is_sweep_override() and o.input_line]
    swept = [o.get_key_element().lstrip("+") for o in parsed if o.is_sweep_override()]
    space = compose_train(flags, fixed).hydra.sweeper.get("params") or {}
    return list(dict.fromkeys([*swept, *map(str, space)]))


def searches(swept: Sequence[str], overrides: Sequence[str]) -> bool:
    """Tell a sweep over hyper-parameters, which must not see the test part, from seeds and folds.

    A sweep that says `test=` itself is taken at its word.
    """
    if any(word.startswith("test=") for word in overrides):
        return False
    return any(key not in REPEATS and not key.startswith("hydra.") for key in swept)


def compose_train(flags: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    """Compose `train.yaml` with Hydra's own node, outside of an app; `--config-dir` is honoured.

    Raises:
        HydraException: the words do not compose.
    """
    places = [Path(flags[flags.index(flag) + 1]).resolve()
              for flag in ("-cd", "--config-dir") if flag in flags]  # fmt: skip
    path = ",".join(f"file://{place}" for place in places)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose(
            "train", [*overrides, f"hydra.searchpath=[{path}]"], return_hydra_config=True
        )


def quote(word: str) -> str:
    """Quote a value that Hydra's grammar refuses or takes apart, so that any path works as typed.

    Keys of free mappings (`data.columns.…`) may be new, which Hydra writes as `++`.
    """
    key, equals, value = word.partition("=")
    if word.startswith("-") or not equals:
        return word
    if key.startswith(FREE_MAPPINGS):
        key = "++" + key
    try:
        parsed = OverridesParser.create().parse_override(f"{key}={value}")
        # os.path.exists takes any text for an answer; Path.exists raises on a long sweep.
        is_path = parsed.is_sweep_override() and os.path.exists(value)  # noqa: PTH110
    except HydraException:
        is_path = True
    if not is_path:
        return f"{key}={value}"
    # In quotes a backslash stands for itself, except in front of a quote or at the end.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"{key}='{escaped}'"


def explain(error: BaseException, words: Sequence[str] = ()) -> str:
    """Say in one sentence what went wrong; a fault of ours keeps its type and place.

    Args:
        error: whatever ended a command.
        words: the command's `key=value` words, which decide the keys there are.
    """
    if isinstance(error, MedvisionError):
        return str(error)
    if isinstance(error, InstantiationException):
        return explain_building(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain_config(error, words)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"


def explain_config(error: BaseException, words: Sequence[str] = ()) -> str:
    """Turn Hydra's words about an override into one sentence with the way out."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    if found := re.search(r"Could not (?:override|delete from config.*) '([^']+)'", text):
        key = found[1].partition("@")[0]
        return f"there is no key {key!r}{suggest_key(key, words)}; {SEE_KEYS}"
    if found := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, name = found[1], found[2]
        if group == "hydra/launcher":
            return f"{group}={name} is not installed; add it with: pip install 'medvision[launch]'"
        known = sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))
        return f"{group}={name} does not exist{did_you_mean(name, known)}; use {', '.join(known)}"
    if found := re.search(r"Error parsing override '(.+?)'", text):
        return f"{found[1]!r} is not key=value; {SEE_KEYS}"
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
    return f"{lines[0].rstrip('.')}{detail}; {SEE_KEYS}"


def explain_building(error: InstantiationException) -> str:
    """Say which part of the configuration could not be built, and why."""
    if isinstance(error.__cause__, MedvisionError):
        return str(error.__cause__)
    lines = str(error).splitlines()
    quoted = re.search(r"'([^']+)'", lines[0])
    part = quoted[1] if quoted else lines[0]
    key = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), ""
    )
    reason = str(error.__cause__ or "").splitlines() or [""]
    return f"{key or 'the configuration'} cannot be built ({part}: {reason[-1]}); {SEE_KEYS}"


def suggest_key(key: str, words: Sequence[str]) -> str:
    """Return `" (did you mean 'x'?)"`: a key that ends alike, else the one spelt nearest."""
    known = [name for name in known_keys(words) if name != key]
    alike = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    return f" (did you mean {alike[0]!r}?)" if alike else did_you_mean(key, known)


def known_keys(words: Sequence[str]) -> list[str]:
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
