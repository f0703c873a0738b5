"""What a task is told of a run: its samples, its folder, and the classifier that judges."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from medvision.data.batches.samples import Samples, as_image
from medvision.errors import MedvisionError
from medvision.identity import patient_keys
from medvision.model import Model, load_model
from medvision.nets.entries import on_device
from medvision.runs import Run
from medvision.target import Encoded, take
from medvision.tasks.trainable import Batch, Context, Ints
from medvision.training.job import Job

BATCH = 128


class SampleRows:
    """The samples of a run, as tasks see them: see `tasks.trainable.RunRows`."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def of(self, part: str) -> Ints:
        return self.samples.rows(part)

    def images(self, index: Ints) -> Tensor:
        return as_image(torch.from_numpy(self.samples.gather(index)))

    def truth(self, index: Ints) -> Encoded:
        return take(self.samples.targets, index)

    def patients(self, index: Ints) -> list[str]:
        keys: list[str] = patient_keys(self.samples.table.iloc[index]).tolist()
        return keys

    def batches(self, index: Ints) -> Iterator[Batch]:
        return self.samples.batches(index, BATCH)


def open_context(run: Run, job: Job) -> Context:
    """Gather what the task of a run may ask for before there is a trained net."""
    judge = None if job.judge is None else load_model(job.judge.model)
    return Context(
        config=job.config, folder=run.folder, target=job.data.ready.target,
        rows=SampleRows(job.data.ready), answer=_refuse_answer,
        judge=None if judge is None else judge.net,
        classify=None if judge is None else _classify_by(judge), inception=job.inception,
    )  # fmt: skip


def _refuse_answer(_: Ints) -> Encoded:
    """Stand for a trained net where there is none yet."""
    raise MedvisionError("there is no trained net yet; ask for its answers in finish()")


def _classify_by(model: Model) -> Callable[[Tensor], Tensor]:
    """Return image → `[B,K]`, whose largest entry is what a classifier decides for.

    Of two classes that is by its frozen threshold, which its val part chose.
    """
    answer, threshold = on_device(model.net), model.threshold
    if threshold is None or isinstance(threshold, list):
        return answer

    def decide(image: Tensor) -> Tensor:
        positive = (answer(image) / model.temperature).softmax(1)[:, 1]
        return torch.stack([torch.full_like(positive, threshold), positive], dim=1)

    return decide
