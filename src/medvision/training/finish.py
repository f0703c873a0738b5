"""What follows training: the model is frozen, evaluated and shown.

Imported when training has ended: its libraries for statistics and drawing take a second to load,
for which the first step need not wait.
"""

import copy

import pandas as pd

import medvision.files as files
from medvision.commands.evaluate import evaluate_parts
from medvision.data.batches.samples import facts_of
from medvision.data.inputs.profile import summarise_facts, to_plain
from medvision.evaluation.figures.common import draw_learning_curves
from medvision.evaluation.figures.style import save_figure
from medvision.evaluation.report.run_report import write_report
from medvision.evaluation.report.scores import print_scores
from medvision.inference.predictor import predict_samples
from medvision.model import Model, Seen, load_model, save_model
from medvision.runs import Run
from medvision.tasks.classification.calibration import (
    apply_temperature,
    choose_thresholds,
    fit_temperature,
)
from medvision.tasks.generation.evaluator import FidelityEvaluator
from medvision.tasks.generation.figures import draw_progress
from medvision.tasks.generation.setup import freeze_generator
from medvision.tasks.generation.tables import print_fidelity
from medvision.tasks.task import Supervised
from medvision.training.build import Task, net_config, read_progress
from medvision.training.job import Job
from medvision.training.tensorboard import show_in_tensorboard
from medvision.training.validate import makes_images


def freeze_model(run: Run, job: Job, task: Task, judge: FidelityEvaluator | None) -> str:
    """Calibrate a classifier, or judge a generator; write `model.pt` and return its digest."""
    if isinstance(task, Supervised):
        return save_model(calibrate(task, job), run.model)
    assert judge is not None
    return save_model(freeze_generator(run, job, task, judge), run.model)


def finish_run(run: Run, job: Job, brief: bool = False) -> None:
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
        (print_fidelity if made else print_scores)(metrics)


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


def calibrate(task: Supervised, job: Job) -> Model:
    """Freeze temperature and operating point on the val part; return the finished model."""
    config, data, samples, card = job.config, job.data, job.data.ready, job.data.card
    assert card is not None
    seen = Seen(*samples.seen("train"), *samples.seen("val"), key=card.key)
    for earlier in job.earlier:
        seen = seen.join(earlier)
    model = Model(
        net=copy.deepcopy(task.net).eval(),  # as it will be loaded: copies are not compiled
        config=net_config(config, data, trained=True),
        classes=samples.classes.names,
        kind=samples.classes.kind,
        contract=data.reader.contract(),
        rename=dict(samples.classes.rename),
        negative=samples.classes.negative,
        rule=config.operating_point,
        augment=job.plain["augment"],
        tta=config.tta,
        seed=config.seed,
        seen=seen,
        trained_on=to_plain(
            summarise_facts(facts_of(samples, samples.spread(samples.rows("train"))))
        ),
        series=samples.slices.form.contract() if samples.slices else None,
    )
    rows = samples.rows("val")
    logits, label = predict_samples(model, samples, rows).logits.numpy(), samples.label[rows]
    model.temperature = fit_temperature(logits, label, model.question)
    probs = apply_temperature(logits, model.temperature, model.question)
    model.threshold = choose_thresholds(probs, label, model.question, model.rule)
    return model
