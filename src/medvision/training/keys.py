"""Keys that nobody would read are refused: a slip must not pass for a setting."""

import inspect
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec

import pytorch_lightning as lightning
from omegaconf import DictConfig, OmegaConf

from medvision.errors import MedvisionError, collect, did_you_mean
from medvision.files import conf_folder

_OURS = {
    "logger": "TensorBoard is always there, and logger=csv, mlflow or wandb adds another",
    "callbacks": "give callbacks.NAME._target_=…",
    "default_root_dir": "MEDVISION_RUNS and name= say where a run lies",
    "plugins": "checkpoints are written by medvision",
    "enable_model_summary": "model.pt and the report describe the net",
    "num_sanity_val_steps": "the first epoch is validated as a whole",
    "use_distributed_sampler": "batches are shared out by medvision",
    "fast_dev_run": "trainer=debug takes two batches through every step of a run",
}
"""Arguments of Lightning's Trainer that a run sets itself, and what to say in their place."""

_NEEDED = {"MLFlowLogger": "mlflow", "WandbLogger": "wandb"}  # Lightning imports them late


def check_keys(config: DictConfig) -> None:
    """Refuse keys on top, and of the Trainer, that nobody reads.

    Raises:
        MedvisionError: all of them, with the nearest that there is.
    """
    problems = [*_find_strangers(config), *_find_trainer_strangers(config.trainer)]
    if problems:
        raise collect("keys that nobody reads", problems, "Leave them out")
    if not all(isinstance(tag, str) for tag in config.get("tags", [])):
        raise MedvisionError(f"tags={config.tags} must be a list of words, as in tags=[pilot]")


def _find_strangers(config: DictConfig) -> Iterator[str]:
    for key in map(str, config):
        if key not in _known():
            yield f"{key}{did_you_mean(key, _known())}"


@cache
def _known() -> frozenset[str]:
    """Name the keys of `train.yaml` and the groups beside it."""
    own = OmegaConf.load(conf_folder() / "train.yaml")
    groups = (path.name for path in conf_folder().iterdir() if path.is_dir())
    return frozenset({*map(str, own), *groups} - {"defaults", "hydra", "experiment"})


def _find_trainer_strangers(trainer: DictConfig) -> Iterator[str]:
    takes = inspect.signature(lightning.Trainer).parameters
    for key in map(str, trainer):
        if key in _OURS:
            if key != "fast_dev_run" or trainer.fast_dev_run:
                yield f"trainer.{key}, which a run sets itself: {_OURS[key]}"
        elif key not in takes and key != "_target_":
            yield f"trainer.{key}{did_you_mean(key, takes)}"


def check_logger(config: DictConfig) -> None:
    """Refuse a logger whose package is not here.

    Raises:
        MedvisionError: with how to install it.
    """
    target = str((config.get("logger") or {}).get("_target_", ""))
    package = _NEEDED.get(target.rpartition(".")[2])
    if package is not None and find_spec(package) is None:
        raise MedvisionError(
            f"logger._target_={target} needs the package {package}; add it with: "
            f"pip install {package}"
        )
