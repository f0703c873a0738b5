"""Where curves go, and what stands beside them: configuration, figures, scores for HPARAMS."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from torch.utils.tensorboard import SummaryWriter

import medvision.files as files
from medvision.callbacks.event_files import EventFiles, cut_events
from medvision.evaluation.comparison.settings import flatten
from medvision.evaluation.evaluator import name_task, open_evaluator, target_of
from medvision.evaluation.predictions import read_predictions
from medvision.runs import Run, is_place
from medvision.training.job import Job

PREVIEW = "preview"
"""The figure of what the net sees, which is shown before the first step."""


def open_loggers(run: Run, config: DictConfig) -> list[Logger]:
    """Open TensorBoard, and the logger of the configuration, whose empty keys the run fills in."""
    board: list[Logger] = [EventFiles(run.folder)]
    if config.get("logger") is None:
        return board
    fills = {"save_dir": str(run.folder), "name": run.title, "run_name": run.title}
    given = {key: fills[key] for key, value in config.logger.items()
             if key in fills and value is None}  # fmt: skip
    return [*board, instantiate(OmegaConf.merge(config.logger, given))]


def show_in_tensorboard(run: Run, job: Job, metrics: Mapping[str, Any], step: int) -> None:
    """Put configuration, figures and final scores beside the curves, which end before `step`."""
    cut_events(run.folder)
    logger = EventFiles(run.folder)
    board = logger.experiment
    text = OmegaConf.to_yaml(OmegaConf.create(job.plain))
    board.add_text("config", "    " + text.replace("\n", "\n    "), step)
    for path in files.list_visible(run.folder / "figures", "*.png"):
        if path.stem != PREVIEW:
            add_figure(board, path, step)
    _add_curves(run, job, board, step)
    _add_scores(run, job, metrics, logger, step)
    logger.finalize("success")


def add_figure(board: SummaryWriter, path: Path, step: int) -> None:
    """Show a PNG under its own name."""
    picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    board.add_image(f"visual/{path.stem}", picture, step, dataformats="HWC")


def _add_scores(
    run: Run, job: Job, metrics: Mapping[str, Any], logger: EventFiles, step: int
) -> None:
    """Put the settings and the headline of what came of them into HPARAMS.

    That tab reads its scores from curves. These have one point each, and their name puts them below
    all others, where the first screen does not show them.
    """
    record, scores = run.record, metrics.get("test") or {}
    evaluator = open_evaluator(name_task(record), target_of(record))
    final = {f"test/{name}": scores[name]["value"] for name in evaluator.headline if name in scores}
    final |= {str(record["monitor"]): record["objective"]}
    known = {f"weights_kept/{name}": value for name, value in final.items() if value is not None}
    logger.log_hyperparams(_choose_settings(record, job.plain), known, step)


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
