"""Where the curves of a run go: TensorBoard always, and what `logger` names beside it."""

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from medvision.runs import Run
from medvision.training.tensorboard import open_board


def open_loggers(run: Run, config: DictConfig, first_epoch: int = 0) -> list[Logger]:
    """Open TensorBoard, and the logger of the configuration, whose empty keys the run fills in."""
    board: list[Logger] = [open_board(run, first_epoch)]
    if config.get("logger") is None:
        return board
    fills = {"save_dir": str(run.folder), "name": run.title, "run_name": run.title}
    given = {key: fills[key] for key, value in config.logger.items()
             if key in fills and value is None}  # fmt: skip
    return [*board, instantiate(OmegaConf.merge(config.logger, given))]
