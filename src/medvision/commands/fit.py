"""One training from its composed configuration to a finished run folder."""

import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
import pytorch_lightning as lightning
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint

import medvision.files as files
from medvision.commands.board import show_in_tensorboard
from medvision.commands.checks import check_monitor, check_parts, check_settings, find_weights
from medvision.commands.compose import build_task, build_trainer, net_config
from medvision.commands.evaluate import evaluate_parts
from medvision.commands.infer import predict_logits
from medvision.commands.preview import draw_preview
from medvision.commands.settings import quieten, set_allocator
from medvision.data.datamodule import ImageDataModule
from medvision.errors import MedvisionError
from medvision.evaluation.calibration import choose_thresholds, fit_temperature
from medvision.evaluation.figures import draw_learning_curves, save_figure
from medvision.evaluation.report import write_report
from medvision.evaluation.tables import print_table
from medvision.model import Model, Seen, save_model
from medvision.runs import (
    Run,
    claimed,
    cost,
    describe_code,
    describe_process,
    run_key,
    settle,
)
from medvision.tasks.supervised import Supervised


def train(config: DictConfig, overrides: list[str]) -> float:
    """Fit, calibrate and evaluate; return the best value of the monitor.

    The same configuration is the same run folder: finished answers, unfinished resumes.

    Raises:
        MedvisionError: a mistake in the configuration or the data, before the first batch.
    """
    start = time.perf_counter()
    check_settings(config)
    quieten()
    set_allocator(config.allocator)
    if config.threads:
        torch.set_num_threads(config.threads)
    weights = find_weights(config.model.weights)
    data: ImageDataModule = instantiate(config.data)
    digests = data.digests() + ([files.digest_file(weights)] if weights else [])
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    run = Run(files.runs_folder() / config.name / run_key(overrides, plain, digests))
    with claimed(run):
        state = settle(run, config.rerun)
        if state == "done":
            return answer(run, config.test)
        run.note(**describe_process(config.seed), status="running", monitor=config.monitor)
        try:
            return fit(run, config, plain, data, weights, state, start)
        except BaseException as error:
            # What a full disk or a person stopped resumes; what failed starts anew.
            stopped = isinstance(error.__cause__ or error, KeyboardInterrupt | OSError)
            with suppress(MedvisionError):
                run.note(status="interrupted" if stopped else "failed", reason=str(error)[:2000])
            raise


def fit(
    run: Run,
    config: DictConfig,
    plain: dict[str, Any],
    data: ImageDataModule,
    weights: str | None,
    state: Literal["new", "resume"],
    start: float,
) -> float:
    """The story of a run, from the split to the evidence."""
    data.setup()
    check_monitor(config.monitor, data)
    check_parts(config, data)
    write_inputs(run, config, data)
    lightning.seed_everything(config.seed, verbose=False)
    task = build_task(config, data, weights)
    draw_preview(data, run.folder / "figures" / "preview.png")

    trainer = build_trainer(run, config)
    print(f"{'resuming' if state == 'resume' else 'training'} in {run.folder}", flush=True)
    fit_until_done(trainer, task, data, run.last_checkpoint if state == "resume" else None)
    objective = best_score(trainer, config.monitor)
    best = torch.load(run.best_checkpoint, map_location="cpu", weights_only=True)
    task.load_state_dict(best["state_dict"])
    model = calibrate(task, config, plain, data)
    digest = save_model(model, run.model)
    run.note(
        objective=objective, best_epoch=best["epoch"], epochs=trainer.current_epoch, model=digest,
        checkpoints={p.stem: files.digest_file(p) for p in run.checkpoints},
    )  # fmt: skip
    parts = ["val", "test"] if config.test else ["val"]
    metrics = evaluate_parts(run, model, data.ready, parts)
    draw_history(run, config.monitor)
    show_in_tensorboard(run, trainer, plain, metrics)
    print_table(metrics)
    run.note(status="done", finished=files.today(), **cost(start))
    write_report(run.folder)
    print(f"next: medvision report run={run.folder.parent.name}/{run.folder.name}")
    return objective


def write_inputs(run: Run, config: DictConfig, data: ImageDataModule) -> None:
    """Write down what goes in before anything comes out."""
    samples = data.ready
    assert data.audit is not None
    assert data.card is not None
    files.write_text(run.folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
    files.write_text(run.manifest, samples.table.to_csv(index=False))
    files.write_json(run.folder / "card.json", data.card.to_json())
    files.write_json(run.folder / "audit.json", data.audit.to_json())
    seen = {part: dict(zip(("patients", "images"), samples.seen(part), strict=True))
            for part in ("train", "val")}  # fmt: skip
    run.note(manifest=data.digests(), seen=seen, key=data.card.key, classes=samples.classes.names)


def fit_until_done(
    trainer: lightning.Trainer, task: Supervised, data: ImageDataModule, resume: Path | None
) -> None:
    """Fit; Ctrl-C, which Lightning turns into an exit, leaves a run that resumes."""
    try:
        trainer.fit(task, data, ckpt_path=str(resume) if resume else None, weights_only=True)
    except SystemExit:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None


def best_score(trainer: lightning.Trainer, monitor: str) -> float:
    """Return the best value of the monitor.

    Raises:
        MedvisionError: there is none, because training diverged.
    """
    checkpoints = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    score = next(c.best_model_score for c in checkpoints if c.monitor == monitor)
    if score is None or not torch.isfinite(score):
        raise MedvisionError(
            f"training diverged: {monitor} was not a number in any epoch; "
            "lower model.optimizer.lr, or set trainer.precision=32-true"
        )
    return float(score)


def calibrate(
    task: Supervised, config: DictConfig, plain: dict[str, Any], data: ImageDataModule
) -> Model:
    """Freeze temperature and operating point on the val part; return the finished model."""
    samples, card = data.ready, data.card
    assert card is not None
    train_patients, train_images = samples.seen("train")
    val_patients, val_images = samples.seen("val")
    model = Model(
        net=task.net.eval(),
        config=net_config(config, data, trained=True),
        classes=samples.classes.names,
        kind=samples.classes.kind,
        contract=data.reader.contract(),
        rename=dict(samples.classes.rename),
        negative=samples.classes.negative,
        rule=config.operating_point,
        augment=plain["augment"],
        tta=config.tta,
        seed=config.seed,
        seen=Seen(train_patients, val_patients, train_images, val_images, card.key),
    )
    rows = samples.rows("val")
    logits, label = predict_logits(model, samples, rows).numpy(), samples.label[rows]
    model.temperature = fit_temperature(logits, label, model.kind)
    probs = model.probs(torch.from_numpy(logits)).numpy()
    model.threshold = choose_thresholds(probs, label, model.kind, model.rule)
    return model


def draw_history(run: Run, monitor: str) -> None:
    """Draw the learning curves of `history.csv`."""
    history = pd.read_csv(run.folder / "history.csv")
    figure = draw_learning_curves(history, monitor)
    save_figure(figure, run.folder / "figures" / "learning_curves.png")


def answer(run: Run, test: bool) -> float:
    """Answer for a finished run, saying whether the code has changed since."""
    record = run.record
    changed = record["code"]["digest"] != describe_code()["digest"]
    print(f"finished already: {run.folder}" + (
        " (the code has changed since; rerun=true does it again)" if changed else ""))  # fmt: skip
    if test and not run.predictions("test").exists():
        print(f"its test part is unopened; medvision evaluate run={run.folder} opens it")
    return float(record["objective"])
