"""Hydra's side of a command: where conf/ lies, words that need quoting, sweeps."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from medvision.errors import MedvisionError
from medvision.evaluation.evaluator import direction
from medvision.files import conf_folder
from medvision.moved import current
from medvision.tasks import find_task, short_name

_told: set[str] = set()  # paths of before that this process has said something about
_FREE_MAPPINGS = ("data.annotation.", "data.columns.", "data.rename.", "data.source.")
_FLAGS_WITH_A_VALUE = ("-c", "--cfg", "-p", "--package", "-cd", "--config-dir", "-cn",
                      "--config-name", "-cp", "--config-path", "-i", "--info")  # fmt: skip
REPEATS = ("seed", "experiment", "data", "data.fold", "data.split_seed", "data.manifest", "name")


def run_name(experiment: str, data: str) -> str:
    """Name the folder of runs: the experiment, or other data that the default one is trained on."""
    return data if experiment == "cnn_phantom" and data != "phantom" else experiment


def part_flags(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part Hydra's flags, which it takes only in front, from the overrides."""
    flags, overrides, rest = [], [], iter(words)
    for word in rest:
        if word.startswith("-"):
            flags += [word, *([next(rest, "")] if word in _FLAGS_WITH_A_VALUE else [])]
        else:
            overrides.append(word)
    return flags, overrides


def own_monitor(target: str) -> str:
    """Name the score that picks the best epoch of a task, given by its dotted path."""
    try:
        return find_task(current(target)).monitor
    except MedvisionError:  # told where the task is needed
        return "val/loss"


def own_direction(monitor: str, target: str = "") -> Literal["min", "max"]:
    """Tell whether a monitor is to be `min` or `max`, by the task of a dotted path or any of ours.

    Raises:
        MedvisionError: nothing says it.
    """
    try:
        task = short_name(find_task(current(target))) if target else None
    except MedvisionError:  # told where the task is needed
        task = None
    return direction(monitor, task)


def _files_size(*asked: Any) -> list[int]:
    """Choose `data.reader.size` by the files themselves: see `choose_form`."""
    from medvision.data.sources.defaults import choose_form

    return choose_form(*map(_plain, asked))[0]


def _files_channels(*asked: Any) -> int:
    from medvision.data.sources.defaults import choose_form

    return choose_form(*map(_plain, asked))[1]


def _plain(node: Any) -> Any:
    """Return a node as it stands: what is missing in it is told where it is needed."""
    if not isinstance(node, DictConfig):
        return node
    return {key: value for key, value in OmegaConf.to_container(node, resolve=True).items()  # type: ignore[union-attr]
            if value != "???"}  # fmt: skip


def register_resolvers() -> None:
    """Teach OmegaConf the functions that conf/ calls."""
    OmegaConf.register_new_resolver("direction", own_direction, replace=True)
    OmegaConf.register_new_resolver("files_channels", _files_channels, replace=True)
    OmegaConf.register_new_resolver("files_size", _files_size, replace=True)
    OmegaConf.register_new_resolver("own_monitor", own_monitor, replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def follow_moves(config: DictConfig) -> None:
    """Let each `_target_` name where its class is now, in place; say once what has moved."""
    for place, before in _targets(OmegaConf.to_container(config, resolve=False)):
        if (now := current(before)) != before:
            OmegaConf.update(config, place, now)
            if before not in _told:
                _told.add(before)
                print(f"note: {before} is {now} now; mend the file that names it")


def _targets(config: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted place and the value of each `_target_`."""
    named = enumerate(config) if isinstance(config, list) else config.items()
    for key, value in named:
        inner = f"{place}[{key}]" if isinstance(config, list) else f"{place}.{key}".strip(".")
        if isinstance(value, dict | list):
            yield from _targets(value, inner)
        elif key == "_target_" and isinstance(value, str):
            yield inner, value


def settle_augment(config: DictConfig, overrides: Sequence[str]) -> None:
    """Augment by the modality of the files, in place, where no word says how."""
    from medvision.data.sources.defaults import choose_augment

    words = (word.lstrip("+~") for word in overrides)
    if any(word.startswith(("augment", "experiment=", "data.augment")) for word in words):
        return
    asked = (config.data.get(key) for key in ("manifest", "source", "columns"))
    preset = choose_augment(*map(_plain, asked))
    if preset != "ct":  # as composed
        config.augment = OmegaConf.load(conf_folder() / "augment" / f"{preset}.yaml")


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

    Keys of free mappings (such as `data.columns.…`) may be new, which Hydra writes as `++`; the
    group `judge` will be called `fidelity`, and may be already.
    """
    key, equals, value = word.partition("=")
    if word.startswith("-") or not equals:
        return word
    group, dot, rest = key.partition(".")
    if group == "fidelity":
        key = f"judge{dot}{rest}"
    if key.startswith(_FREE_MAPPINGS):
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
