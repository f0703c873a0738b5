"""TensorBoard beyond the curves: configuration, figures, final scores for its HPARAMS tab."""

from typing import Any

import cv2
import pytorch_lightning as lightning
from omegaconf import OmegaConf
from pytorch_lightning.loggers import TensorBoardLogger

from medvision.runs import Run


def show_in_tensorboard(
    run: Run, trainer: lightning.Trainer, plain: dict[Any, Any], metrics: dict[str, Any]
) -> None:
    """Put configuration, figures and final scores beside the curves."""
    logger = trainer.logger
    assert isinstance(logger, TensorBoardLogger)
    board, epoch = logger.experiment, trainer.current_epoch
    text = OmegaConf.to_yaml(OmegaConf.create(plain))
    board.add_text("config", "    " + text.replace("\n", "\n    "))
    for path in sorted((run.folder / "figures").glob("*.png")):
        picture = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        board.add_image(f"figures/{path.stem}", picture, epoch, dataformats="HWC")
    part = "test" if "test" in metrics else "val"
    final = {f"final_{part}/{name}": score["value"] for name, score in metrics[part].items()
             if isinstance(score, dict) and score["value"] is not None}  # fmt: skip
    logger.log_hyperparams(flatten(plain), final)
    logger.finalize("success")


def flatten(config: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Name nested settings by their dotted keys, as TensorBoard's HPARAMS tab wants them."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
