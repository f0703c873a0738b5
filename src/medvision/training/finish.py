"""What follows training: the model is frozen, evaluated and shown.

Imported when training has ended: its libraries for statistics and drawing take a second to load,
for which the first step need not wait.
"""

import copy
from dataclasses import replace

import pandas as pd

import medvision.files as files
from medvision.data.inputs.profile import summarise_facts, to_plain
from medvision.evaluation.figures.common import draw_learning_curves
from medvision.evaluation.figures.style import save_figure
from medvision.evaluation.report.run_report import write_report
from medvision.evaluation.report.scores import print_scores
from medvision.evaluation.report.table import show_score
from medvision.inference.evaluate import evaluate_parts, stamp_metrics
from medvision.inference.predictor import predict_samples
from medvision.model import Model, load_model, save_model
from medvision.runs import Run
from medvision.target import Encoded
from medvision.tasks import short_name
from medvision.tasks.trainable import Context, Ints, Trainable
from medvision.training.build import gather_facts, read_progress
from medvision.training.job import Job
from medvision.training.tensorboard import show_in_tensorboard


def freeze_model(run: Run, job: Job, task: Trainable, context: Context) -> str:
    """Let the task decide what it decides on the val part, write `model.pt`, return its digest."""
    model = _assemble_model(job, task)

    def answer(index: Ints) -> Encoded:
        return predict_samples(model, job.data.ready, index)

    decision = task.finish(replace(context, answer=answer))
    model.gate, model.decision = decision.pop("gate", None), decision
    return save_model(model, run.model)


def _assemble_model(job: Job, task: Trainable) -> Model:
    """Put together all of a model but what is decided on the val part."""
    config, data, samples = job.config, job.data, job.data.ready
    rows = samples.unit.rows(samples.rows("train"))
    return Model(
        net=copy.deepcopy(task.trained).eval(),  # as it will be loaded: copies are not compiled
        config=task.describe_net(config.model, gather_facts(config, data)),
        task=short_name(type(task)),
        target=samples.target.plain(),
        inputs={
            "reader": data.options.reader.contract(),
            "unit": samples.unit.plain(),
            "tabular": None,
        },
        augment=job.plain["augment"] if task.predicts else None,
        tta=config.tta if task.predicts else 0,
        seed=config.seed,
        seen=job.seen,
        trained_on=to_plain(summarise_facts(samples.file_facts(rows))),
    )


def finish_run(run: Run, job: Job, brief: bool = False) -> None:
    """Evaluate the finished model, and show what came out in TensorBoard and in the terminal.

    A job among many prints its one score; their table comes when all are done.
    """
    parts, monitor = ["val", "test"] if job.config.test else ["val"], job.config.monitor
    if job.task.predicts:
        metrics = evaluate_parts(run, load_model(run.model), job.data.ready, parts)
        _draw_history(run, job)
    else:  # it was judged before it was frozen
        metrics = stamp_metrics(files.read_json(run.metrics), job.seen.unknown)
        files.write_json(run.metrics, metrics)
    stepped = run.last_checkpoint.exists()
    step = read_progress(run.last_checkpoint, job.task) if stepped else 0
    show_in_tensorboard(run, job, metrics, step)
    if brief:
        print(f"best {monitor} {show_score(run.record['objective'])}", flush=True)
    else:
        print_scores(metrics)


def _draw_history(run: Run, job: Job) -> None:
    """Draw the learning curves of `history.csv`; what was fitted without steps has none."""
    path = run.folder / "history.csv"
    if path.exists():
        kept = run.record.get("best_epoch")
        figure = draw_learning_curves(pd.read_csv(path), job.config.monitor, kept)
        save_figure(figure, run.folder / "figures" / "learning_curves.png")


def report(run: Run, job: Job, brief: bool = False) -> None:
    """Write the page of a run, and say where it is and what one may type next."""
    print(f"report: {write_report(run.folder)}")
    if brief:
        return
    print(f"curves: tensorboard --logdir {files.runs_folder()}")
    print(f"next:   {job.task.next_step(files.read_json(run.metrics))}")
