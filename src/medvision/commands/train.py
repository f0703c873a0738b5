"""`medvision train`: the Hydra app around one training, or around the jobs of a sweep."""

import os
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from medvision.commands.conf_text import annotate, compose_keys
from medvision.errors import MedvisionError
from medvision.files import conf_folder
from medvision.training.config import (
    part_flags,
    quote,
    register_resolvers,
    searches,
    swept_keys,
)
from medvision.training.explain import explain
from medvision.training.sweep import conclude_sweep, open_sweep, run_sweep_job

_ASKING = {"-h", "--help", "-c", "--cfg", "--hydra-help"}
_SWEEPING = {"-m", "--multirun"}
_HYDRAS_COMPLETION = {"-sc", "--shell-completion", "--shell_completion"}


def launch(words: Sequence[str]) -> int:
    """Run the Hydra app with the user's words; return the exit status.

    Errors never cross Hydra, which would add its own words or end the sweep: a failed job of a
    sweep is a failed cell, and the rest goes on.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors of composition reach us whole
    register_resolvers()
    flags, overrides = part_flags(words)
    if _HYDRAS_COMPLETION & {*flags}:
        raise MedvisionError(
            f"{flags[0]} is Hydra's own completion, which does not know medvision; "
            'use eval "$(medvision completion bash)", or zsh'
        )
    if _ASKING & {*flags}:
        return _answer(words, [flag for flag in flags if flag not in _SWEEPING], overrides)
    sweeping = bool(_SWEEPING & {*flags})
    if not sweeping:
        return _run_app(words, flags, overrides, None)
    with open_sweep() as place:
        return _run_app(words, flags, overrides, place)


def _answer(words: Sequence[str], flags: list[str], overrides: list[str]) -> int:
    """Print what Hydra answers, with the comments of `conf/` beside the keys."""
    out, status = StringIO(), 0
    try:
        with redirect_stdout(out):
            status = _run_app(words, flags, overrides, None)
    except SystemExit as end:  # as Hydra ends after its help
        status = int(end.code or 0)
    completion = r"^--shell.completion.*?(?=^--)"
    told = re.sub(completion, "", out.getvalue(), flags=re.DOTALL | re.MULTILINE)
    if told:
        print(annotate(told, compose_keys(overrides)))
    return status


def _run_app(
    words: Sequence[str], flags: list[str], overrides: list[str], place: Path | None
) -> int:
    """Run the Hydra app around one training, or around a sweep whose outcomes lie in `place`."""
    failures: list[BaseException] = []

    @hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")
    def job(config: DictConfig) -> float:
        register_resolvers()  # a launcher's own process knows Hydra's alone
        if HydraConfig.get().mode is RunMode.MULTIRUN:
            return run_sweep_job(config)
        try:
            from medvision.training.fit import train

            return train(config, list(HydraConfig.get().overrides.task))
        except Exception as error:
            failures.append(error)
            return float("nan")

    try:
        if place is not None:
            if searches(swept_keys(flags, overrides), overrides):
                overrides.append("test=false")
                print("note: a search over settings leaves the test part closed (test=false)")
            overrides.append(f"hydra.sweep.dir={place}")
        # The program keeps its name: Lightning starts it again for every further device.
        sys.argv = [sys.argv[0], *flags, *(quote(word) for word in overrides)]
        job()
    except (HydraException, OmegaConfBaseException) as error:
        raise MedvisionError(explain(error, words)) from error
    if failures:
        if isinstance(failures[0], HydraException | OmegaConfBaseException):
            raise MedvisionError(explain(failures[0])) from failures[0]
        raise failures[0]
    return conclude_sweep(place) if place is not None else 0
