"""What follows training: the model is frozen, evaluated and shown.

Imported when training has ended: its libraries for statistics and drawing take a second to load,
for which the first step need not wait.
"""

import pandas as pd

import medvision.files as files
from medvision.commands.board import show_in_tensorboard
from medvision.commands.calibrate import calibrate
from medvision.commands.checks import makes_images
from medvision.commands.compose import Task, read_progress
from medvision.commands.evaluate import evaluate_parts
from medvision.commands.job import Job
from medvision.commands.judging import freeze_generator
from medvision.evaluation.figures import draw_learning_curves, save_figure
from medvision.evaluation.gate_tables import print_fidelity
from medvision.evaluation.judge import Judge
from medvision.evaluation.report import write_report
from medvision.evaluation.samples import draw_progress
from medvision.evaluation.tables import print_table
from medvision.model import load_model, save_model
from medvision.runs import Run
from medvision.tasks.supervised import Supervised


def freeze(run: Run, job: Job, task: Task, judge: Judge | None) -> str:
    """Calibrate a classifier, or judge a generator; write `model.pt` and return its digest."""
    if isinstance(task, Supervised):
        return save_model(calibrate(task, job), run.model)
    assert judge is not None
    return save_model(freeze_generator(run, job, task, judge), run.model)


def conclude(run: Run, job: Job, brief: bool = False) -> None:
    """Evaluate the finished model, and show what came out in TensorBoard and in the terminal.

    A job among many prints its one score; their table comes when all are done.
    """
    parts = ["val", "test"] if job.config.test else ["val"]
    made = makes_images(job.config)  # and was judged before it was frozen
    metrics = (
        files.read_json(run.metrics)
        if made
        else evaluate_parts(run, load_model(run.model), job.data.ready, parts)
    )
    draw_history(run, job.config.monitor)
    step = read_progress(run.last_checkpoint) if made else run.record["epochs"]
    show_in_tensorboard(run, job.plain, metrics, step)
    if brief:
        print(f"best {job.config.monitor} {run.record['objective']:.4f}", flush=True)
    else:
        (print_fidelity if made else print_table)(metrics)


def draw_history(run: Run, monitor: str) -> None:
    """Draw the learning curves of `history.csv`."""
    history = pd.read_csv(run.folder / "history.csv")
    draw = draw_progress if "train/kimg" in history else draw_learning_curves
    figure = draw(history, monitor)
    save_figure(figure, run.folder / "figures" / "learning_curves.png")


def report(run: Run, brief: bool = False) -> None:
    """Write the page of a run, and say where it is and what one may type next."""
    print(f"report: {write_report(run.folder)}")
    if brief:
        return
    made = run.record["kind"] == "generator"
    print(f"curves: tensorboard --logdir {files.runs_folder()}")
    print("next:   " + (
        "medvision generate run=last per_class=500 output=generated"
        if made
        else "medvision predict run=last input=FOLDER output=predictions.csv"
    ))  # fmt: skip
