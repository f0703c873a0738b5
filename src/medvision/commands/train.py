"""`medvision train`: the Hydra app around one training, or around the jobs of a sweep."""

import math
import os
import sys
from collections.abc import Sequence

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvision.commands.configuration import (
    conf_folder,
    explain,
    part_flags,
    quote,
    run_name,
    searches,
)
from medvision.errors import MedvisionError
from medvision.evaluation.metrics import direction


def launch(words: Sequence[str]) -> int:
    """Run the Hydra app with the user's words; return the exit status.

    A failed job of a sweep is a failed cell: its reason is printed, it answers nan, and the rest
    goes on. Errors never cross Hydra, which would add its own words or end the sweep.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors of composition reach us whole
    OmegaConf.register_new_resolver("direction", direction, replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    flags, overrides = part_flags(words)
    if searches(flags, overrides):
        overrides.append("test=false")
        print("note: a sweep over hyper-parameters leaves the test part closed (test=false)")
    sys.argv = ["medvision train", *flags, *(quote(word) for word in overrides)]
    failures: list[BaseException] = []

    @hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="train")
    def job(config: DictConfig) -> float:
        try:
            from medvision.commands.fit import train

            return train(config, list(HydraConfig.get().overrides.task))
        except Exception as error:
            failures.append(error)
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                print(f"medvision: this job failed: {explain(error)}", file=sys.stderr, flush=True)
            return math.nan

    try:
        job()
    except (HydraException, OmegaConfBaseException) as error:
        raise MedvisionError(explain(error, words)) from error
    if failures and not {"-m", "--multirun"} & set(flags):
        if isinstance(failures[0], HydraException | OmegaConfBaseException):
            raise MedvisionError(explain(failures[0])) from failures[0]
        raise failures[0]
    if failures:
        jobs = "1 job" if len(failures) == 1 else f"{len(failures)} jobs"
        print(f"medvision: {jobs} of the sweep failed", file=sys.stderr)
    return 2 if failures else 0
