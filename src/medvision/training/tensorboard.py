"""Where curves go, and what stands beside them: configuration, figures, scores for HPARAMS."""

from collections.abc import Mapping
from typing import Any

import cv2
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

import medvision.files as files
from medvision.evaluation.comparison.settings import flatten
from medvision.evaluation.evaluator import name_task, open_evaluator
from medvision.evaluation.predictions import read_predictions
from medvision.runs import Run, is_place
from medvision.training.job import Job


def open_board(run: Run, first_epoch: int = 0) -> TensorBoardLogger:
    """Open the run's TensorBoard folder; what was logged from `first_epoch` on is cut off."""
    return TensorBoardLogger(
        run.folder, name="", version="tensorboard", default_hp_metric=False, purge_step=first_epoch
    )


def show_in_tensorboard(run: Run, job: Job, metrics: Mapping[str, Any], step: int) -> None:
    """Put configuration, figures and final scores beside the curves, which end before `step`."""
    record, plain = run.record, job.plain
    logger = open_board(run, step)
    board = logger.experiment
    text = OmegaConf.to_yaml(OmegaConf.create(plain))
    board.add_text("config", "    " + text.replace("\n", "\n    "), step)
    for path in files.list_visible(run.folder / "figures", "*.png"):
        picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        board.add_image(f"figures/{path.stem}", picture, step, dataformats="HWC")
    _add_curves(run, job, board, step)
    scores = metrics.get("test", {})
    final = {f"test/{name}": score["value"] for name, score in scores.items()
             if score["value"] is not None}  # fmt: skip
    best = {f"best/{record['monitor']}": record["objective"]}
    logger.log_hyperparams(_choose_settings(record, plain), best | final, step=step)
    logger.finalize("success")


def _add_curves(run: Run, job: Job, board: SummaryWriter, step: int) -> None:
    """Add the precision-recall curves of each part to the PR CURVES tab, so that runs overlay."""
    for part in ("val", "test"):
        if not run.predictions(part).exists():
            continue
        schema = open_evaluator(name_task(run.record)).tables[""]
        table = read_predictions(run.predictions(part), schema)
        for name, truth, scores in job.task.curves(job.data.ready.target, table):
            board.add_pr_curve(f"{part}/{name}", truth, scores, step)


def _choose_settings(record: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """Take what this run was told, and what everyone asks for: a hundred columns compare nothing.

    The whole configuration stands in the TEXT tab.
    """
    flat = flatten(plain)
    words = (word.lstrip("+~").partition("=") for word in record["overrides"])
    told = {key: flat.get(key, text) for key, _, text in words if not is_place(key)}
    usual = {key: flat[key] for key in ("seed", "model.optimizer.lr") if key in flat}
    return usual | told


def open_loggers(run: Run, config: DictConfig, first_epoch: int = 0) -> list[Logger]:
    """Open TensorBoard, and the logger of the configuration, whose empty keys the run fills in."""
    board: list[Logger] = [open_board(run, first_epoch)]
    if config.get("logger") is None:
        return board
    fills = {"save_dir": str(run.folder), "name": run.title, "run_name": run.title}
    given = {key: fills[key] for key, value in config.logger.items()
             if key in fills and value is None}  # fmt: skip
    return [*board, instantiate(OmegaConf.merge(config.logger, given))]
