"""One training from its composed configuration to a finished run folder."""

import math
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from functools import partial
from io import StringIO
from typing import Any, NamedTuple

import pandas as pd
import pytorch_lightning as lightning
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

import medvision.files as files
import medvision.trust.integrity as integrity
from medvision.callbacks.event_files import cut_events
from medvision.callbacks.graph import Graph
from medvision.cells import guard_cells
from medvision.data.manifest.card import Card
from medvision.data.manifest.path_map import without_names
from medvision.devices import takes_several
from medvision.errors import MedvisionError, Stopped
from medvision.evaluation.epochs import explain_choice, explain_last, keeps_last, note_last
from medvision.evaluation.evaluator import direction
from medvision.openings import close_opening
from medvision.provenance import command_line, cost, describe_code, describe_process
from medvision.runs import (
    Run,
    claimed,
    name_folder,
    name_setting,
    prepare_folder,
    run_key,
)
from medvision.tasks import short_name
from medvision.tasks.trainable import Batch, Context, Trainable
from medvision.training.build import build_task, build_trainer
from medvision.training.config import settle_augment
from medvision.training.context import SampleRows, open_context
from medvision.training.distributed import State, announce, await_decision, is_leader
from medvision.training.explain import explain
from medvision.training.job import Job, prepare_job
from medvision.training.machine import compile_nets
from medvision.training.preview import Preview, describe_pixels
from medvision.trust.names import trusting


def train(
    config: DictConfig,
    overrides: list[str],
    callbacks: Sequence[Callback] = (),
    *,
    cell: bool = False,
) -> float:
    """Fit, calibrate and evaluate; return the value of the monitor at the kept epoch.

    The same configuration is the same run folder: finished answers, unfinished resumes.

    Args:
        config: composed, without Hydra's own node.
        overrides: the words that led to it: they name the folder and repeat the run.
        callbacks: called after the checkpoints of an epoch are written.
        cell: one of several jobs, whose refusal is written down as well.

    Returns:
        the value of the monitor at the kept epoch; nan from a process that only helped rank 0.

    Raises:
        MedvisionError: a mistake in the configuration or the data, before the first batch.
    """
    with trusting(config.trust):
        return _train(config, overrides, callbacks, cell=cell)


def _train(
    config: DictConfig, overrides: list[str], callbacks: Sequence[Callback], *, cell: bool
) -> float:
    start, place = time.perf_counter(), name_folder(config.name)
    settle_augment(config, overrides)
    with _refusals_noted(config, overrides) if cell and is_leader() else nullcontext():
        job = prepare_job(config)
    run = Run(place / run_key(overrides, job.plain, job.identity()))
    if not is_leader():
        return follow(run, job, callbacks)
    with claimed(run):
        state: State = prepare_folder(run, config.rerun)
        if state == "resume" and run.frozen:
            state = "frozen"
        if takes_several(config):
            announce(run, state)
        if state == "done":
            return answer(run, job)
        earlier = _count_seconds(run)
        begin(run, job, state, overrides)
        try:
            objective = learn(run, job, state, callbacks)
            from medvision.training.finish import finish_run, report

            finish_run(run, job, brief=cell)
        except BaseException as error:
            _note_end(run, error, cost(start, earlier))
            raise
        close_opening(
            [run], status="done", finished=files.today(), **cost(start, earlier),
            digests=integrity.digest_files(run.folder),
        )  # fmt: skip
        report(run, job, brief=cell)
    return objective


def _note_end(run: Run, error: BaseException, spent: dict[str, float]) -> None:
    """Write down why a run ended: what a full disk or a person stopped resumes, the rest failed."""
    stopped = isinstance(error.__cause__ or error, KeyboardInterrupt | OSError | Stopped)
    stopped = stopped or files.find_refusal(error) is not None
    reason = "stopped by you" if isinstance(error, KeyboardInterrupt) else _write_reason(error)
    with suppress(MedvisionError):
        run.note(status="interrupted" if stopped else "failed", reason=reason, **spent)


def _write_reason(error: BaseException) -> str:
    """Say why a run ended as its folder may say it, which others get: without names of files."""
    return without_names(explain(error))[:2000]


def begin(run: Run, job: Job, state: State, overrides: list[str]) -> None:
    """Write down what goes in before anything comes out."""
    samples, audit, card = job.data.ready, job.data.audit, job.data.card
    assert audit is not None
    assert card is not None
    process = describe_process(job.config.seed)
    if state != "new":
        if process["code"] != run.record.get("code"):
            print("note: the code has changed since this run began; rerun=true starts it afresh")
        run.note(status="running", resumed=[*run.record.get("resumed", []), process])
        return
    run.note(
        **process, status="running", task=short_name(job.task), monitor=job.config.monitor,
        manifest=job.data.identity(), seen=job.seen.to_record(), key=card.key,
        target=samples.target.plain(),
        **job.task.describe_target(samples.target), overrides=overrides,
        judge=_describe_judge(job), compile=job.plain["compile"], stamps=job.seen.unknown,
        setting=name_setting(job.plain), tags=job.plain.get("tags", []),
    )  # fmt: skip
    files.write_text(run.folder / "config.yaml", OmegaConf.to_yaml(job.config, resolve=True))
    files.write_text(run.manifest, guard_cells(samples.table).to_csv(index=False))
    files.write_json(run.folder / "card.json", card.to_json() | {"facts": sum_up(card)})
    files.write_json(run.folder / "audit.json", audit.to_json())
    print(describe_pixels(job))
    kept = note_last(job.config.keep, _count_patients(job), job.config.monitor)
    for note in dict.fromkeys([*audit.notes, *job.seen.unknown, *kept]):
        print(f"note: {note}")


def _describe_judge(job: Job) -> dict[str, str] | None:
    """Name the classifier that judges a generator, and the digest of its model."""
    if job.judge is None:
        return None
    return {"run": job.judge.title, "model": files.digest_file(job.judge.model)}


def sum_up(card: Card) -> dict[str, Any]:
    """Return the facts of a card without names of files and folders: counts of lists say enough."""
    if card.key is None:
        return dict(card.facts)
    facts = {k: len(v) if isinstance(v, list) else v for k, v in card.facts.items() if k != "table"}
    if isinstance(labels := facts.get("labels"), dict):
        facts["labels"] = {k: v for k, v in labels.items() if k != "file"}
    return facts


class Outcome(NamedTuple):
    """What came of a training: the task, and whether it took steps or was fitted without any."""

    trainer: lightning.Trainer
    task: Trainable
    context: Context
    stepped: bool


def learn(run: Run, job: Job, state: State, callbacks: Sequence[Callback]) -> float:
    """Fit, pick the epoch to keep, decide on the val part, and freeze it all into `model.pt`."""
    if state == "frozen":  # killed while it was evaluated
        print(f"resuming in {run.folder}", flush=True)
        return float(run.record["objective"])
    preview = Preview(job.data, run.folder / "figures")
    trainer, task, context, stepped = fit(run, job, state, callbacks, preview)
    monitor, checkpoints = job.config.monitor, run.checkpoints if stepped else ()
    objective = best_score(trainer, monitor) if stepped else _fitted_score(trainer, monitor)
    facts: dict[str, Any] = {"objective": objective, "epochs": 0}
    if stepped:
        best = torch.load(run.best_checkpoint, map_location="cpu", weights_only=True)
        task.load_state_dict(best["state_dict"])
        facts |= {"best_epoch": best["epoch"], "epochs": trainer.current_epoch,
                  "kept_for": _explain_choice(run, job, task)}  # fmt: skip
    from medvision.training.finish import freeze_model

    run.note(
        **facts, model=freeze_model(run, job, task, context),
        checkpoints={path.stem: files.digest_file(path) for path in checkpoints},
        digests=integrity.digest_files(run.folder),
    )  # fmt: skip
    return objective


def _explain_choice(run: Run, job: Job, task: Trainable) -> str:
    """Say why the epoch was kept."""
    monitor, history = job.config.monitor, pd.read_csv(run.folder / "history.csv")
    if task.keeps_last:
        epochs = history["epoch"].nunique()
        return explain_last(job.config.keep, _count_patients(job), monitor, epochs)
    way = direction(monitor, short_name(job.task))
    return explain_choice(history, {monitor: way, **job.task.ties})


def _count_patients(job: Job) -> float:
    """Count the patients who choose an epoch: of val; a generator is judged by what it makes."""
    rows = SampleRows(job.data.ready)
    return len(set(rows.patients(rows.of("val")))) if job.task.predicts else math.inf


def follow(run: Run, job: Job, callbacks: Sequence[Callback]) -> float:
    """Train beside rank 0, which decides, writes and evaluates alone."""
    state = await_decision(run)
    if state not in ("done", "frozen"):
        with redirect_stdout(StringIO()):
            fit(run, job, state, callbacks)
    return math.nan


def fit(
    run: Run, job: Job, state: State, callbacks: Sequence[Callback] = (), *first: Callback
) -> Outcome:
    """Fit; Ctrl-C, which Lightning turns into an exit, leaves a run that resumes.

    Args:
        run: its folder holds the checkpoints.
        job: what it is made of.
        state: whether it is new.
        callbacks: called after those of the run and of the task.
        first: called before those of the task.
    """
    if state == "resume":
        epochs = _check_checkpoints(run)
        if is_leader():
            cut_events(run.folder, epochs)
    config, context = job.config, open_context(run, job)
    lightning.seed_everything(config.seed, verbose=False)
    task = build_task(config, job.data, job.weights)
    task.keeps_last = keeps_last(config.keep, _count_patients(job))
    compile_nets(task, job.plain["compile"])
    graph = [Graph(task.trained, partial(_show_example, task, context))] if config.log_graph else []
    callbacks = [*first, *graph, *task.prepare(context), *callbacks]
    trainer = build_trainer(run, config, job.data, task, callbacks)
    print(f"{'training' if state == 'new' else 'resuming'} in {run.folder}", flush=True)
    if task.fit(context):
        trainer.validate(task, job.data, verbose=False)
        return Outcome(trainer, task, context, stepped=False)
    resume = str(run.last_checkpoint) if state == "resume" else None
    try:
        trainer.fit(task, job.data, ckpt_path=resume, weights_only=True)
    except SystemExit:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from None
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return Outcome(trainer, task, context, stepped=True)


def _show_example(task: Trainable, context: Context) -> Batch:
    """Return two samples of the training part, as the trained net is given them."""
    rows = context.rows
    return task.example(next(rows.batches(rows.of("train")[:2])))


def _check_checkpoints(run: Run) -> int:
    """Return the epochs behind the last checkpoint.

    What a broken disk or a copy has left is refused; the next start is a new one.

    Raises:
        MedvisionError: a checkpoint is gone or cannot be read.
    """
    epochs = 0
    for path in run.checkpoints:
        try:
            epochs = int(torch.load(path, map_location="cpu", weights_only=True)["epoch"]) + 1
        except Exception as error:  # torch raises many kinds
            raise MedvisionError(
                f"{path} cannot be read ({type(error).__name__}), so the run cannot go on; give "
                "the same command again: it moves this folder aside and begins anew"
            ) from error
    return epochs


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


def _fitted_score(trainer: lightning.Trainer, monitor: str) -> float:
    """Return the monitor of what was fitted without steps.

    Raises:
        MedvisionError: it is not a number.
    """
    score = float(trainer.callback_metrics.get(monitor, math.nan))
    if not math.isfinite(score):
        raise MedvisionError(f"{monitor} was not a number once the model was fitted; see its data")
    return score


def _count_seconds(run: Run) -> float:
    """Add up the epochs that earlier sessions of a run have finished."""
    history = run.folder / "history.csv"
    return float(pd.read_csv(history)["seconds"].sum()) if history.exists() else 0.0


def answer(run: Run, job: Job) -> float:
    """Answer for a finished run; open its test part if that is asked for and was not done."""
    record = run.record
    changed = record["code"]["digest"] != describe_code()["digest"]
    print(f"finished already: {run.folder}" + (
        " (the code has changed since; rerun=true does it again)" if changed else ""))  # fmt: skip
    stopped = "metrics.json" not in record.get("digests", {"metrics.json": ""})  # while scored
    unopened = job.config.test and (stopped or not run.predictions("test").exists())
    if unopened or not (run.folder / "report.html").exists():  # a full disk refused this last file
        from medvision.training.finish import finish_run, report

        if unopened:
            with run.rewriting("val", "test"):
                finish_run(run, job)
            close_opening([run])
        report(run, job)
    return float(record["objective"])


@contextmanager
def _refusals_noted(config: DictConfig, overrides: Sequence[str]) -> Iterator[None]:
    """Leave a failed run behind when a job is refused before its run folder can be named.

    Once it is no longer refused the trace goes: it held nothing but the reason.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    trace = Run(name_folder(config.name) / run_key(overrides, plain, ["refused"]))
    try:
        yield
    except Exception as error:
        trace.note(
            command=command_line(), started=files.today(), seed=config.seed, status="failed",
            reason=_write_reason(error), monitor=config.monitor, overrides=list(overrides),
        )  # fmt: skip
        raise
    shutil.rmtree(trace.folder, ignore_errors=True)
