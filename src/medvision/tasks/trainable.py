"""What `medvision train` asks of a task around its steps, and what it tells it of a run."""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningModule
from torch import Tensor, nn

from medvision.errors import MedvisionError
from medvision.evaluation.epochs import TIES, Ways
from medvision.evaluation.evaluator import Evaluator
from medvision.nets.entries import answer_by_name
from medvision.target import Encoded, Target

Batch = dict[str, Tensor]
Ints = NDArray[np.int64]
Curve = tuple[str, NDArray[np.bool_], NDArray[np.float64]]


@dataclass(frozen=True)
class Facts:
    """What a task and its nets must know of the data to be built.

    Attributes:
        target: what is asked, resolved.
        in_channels: C of a batch's images.
        size: H and W of the images.
        slice_labels: slices of series have labels of their own.
        balanced: an epoch draws classes equally often, or by a ratio, already.
        weights: → what the parts of the target weigh in the training part, float32 `[K]`;
            None: all the same.
    """

    target: Any
    in_channels: int
    size: tuple[int, int]
    slice_labels: bool
    balanced: bool
    weights: Callable[[], Tensor | None]


class RunRows(Protocol):
    """The samples of a run, known by their numbers."""

    def of(self, part: str) -> Ints:
        """Return the samples of a part, ascending; of train, real ones."""

    def images(self, index: Ints) -> Tensor:
        """Return the images `[N,C,H,W]` in [0,1]; of series they are none."""

    def truth(self, index: Ints) -> Encoded:
        """Return what the target encodes of each sample; files are in batches alone."""

    def patients(self, index: Ints) -> list[str]:
        """Return the patient of each sample."""

    def batches(self, index: Ints) -> Iterator[Batch]:
        """Yield unaugmented batches, in order, on the host."""


@dataclass(frozen=True)
class Context:
    """What a task is told of its run.

    Attributes:
        config: composed.
        folder: the run's own.
        target: what is asked, resolved.
        rows: the samples of all parts.
        answer: index → what the trained net says of these samples, by name, on the host, as
            `predict` would have it say; once there is one, in `finish`.
        judge: the net of the classifier that `judge.run` names; None where none is named.
        classify: image `[N,C,H,W]` → `[N,K]`, whose largest entry is what it decides for.
        inception: the file of Inception's weights.
    """

    config: DictConfig
    folder: Path
    target: Any
    rows: RunRows
    answer: Callable[[Ints], Encoded]
    judge: nn.Module | None = None
    classify: Callable[[Tensor], Tensor] | None = None
    inception: Path | None = None


class Trainable(LightningModule):
    """A task: what is optimised, and what a run has to know of it.

    Attributes:
        target: what the annotations of its data mean; None: what those of classification do.
        evaluator: what tabulates and scores its answers; those of ours are opened by their folder.
        monitor: the logged score that picks the best epoch where none is named.
        ties: logged scores that decide, one after the other, between epochs that are equal by the
            monitor, and whether low or high is better.
        keeps_last: the last epoch is kept, and no other ends training, as val is too small to tell
            them apart; its run says so.
        averages_views: the mean of what is answered to augmented views is an answer; where it is
            none, as of outlines, `tta` is refused.
        predicts: it answers for rows; their predictions are stored, scored and reported. One that
            does not is judged by what `finish` writes, and never opens the test part.
        graphs_fail: why CUDA graphs cannot run its nets; "" where they can.
        next_command: what may be typed once it has been trained.
    """

    target: ClassVar[type[Target] | None] = None
    evaluator: ClassVar[type[Evaluator] | None] = None
    monitor: str = "val/loss"
    ties: ClassVar[Ways] = TIES
    keeps_last: bool = False
    averages_views: ClassVar[bool] = True
    predicts: ClassVar[bool] = True
    graphs_fail: ClassVar[str] = ""
    next_command: ClassVar[str] = "medvision predict run=last input=FOLDER output=predictions.csv"

    @classmethod
    def next_step(cls, metrics: Mapping[str, Any]) -> str:
        """Say what may be typed now, by the scores of the run."""
        return cls.next_command

    @classmethod
    @abstractmethod
    def watched(cls) -> Sequence[str]:
        """Name the scores that may pick the best epoch, without `val/`."""

    @classmethod
    @abstractmethod
    def build(cls, node: DictConfig, facts: Facts, *, seed: int, **given: Any) -> Self:
        """Build the task of a composed configuration for the data.

        Args:
            node: `model` of the configuration.
            facts: what is known of the data.
            seed: of the run.
            given: `weights`, the file to start from, and `monitor`.
        """

    @classmethod
    @abstractmethod
    def describe_net(cls, node: DictConfig, facts: Facts) -> dict[str, Any]:
        """Describe the trained net as text that rebuilds it, without weights to start from."""

    @classmethod
    def check(cls, config: DictConfig) -> Iterator[str]:
        """Yield a sentence for all that cannot work, before anything is read."""
        yield from ()

    @classmethod
    def accept(cls, target: Any) -> None:
        """Refuse a target that cannot be asked.

        Raises:
            MedvisionError: with the way out.
        """

    @classmethod
    def undefined(cls, target: Any, truth: Encoded) -> dict[str, str]:
        """Name the scores that these truths of the val part cannot define, with the reason."""
        return {}

    @classmethod
    def describe_target(cls, target: Any) -> dict[str, Any]:
        """Return what `record.json` says of the target."""
        return {}

    @classmethod
    def curves(cls, target: Any, table: pd.DataFrame) -> Iterator[Curve]:
        """Yield name, truth and score of each precision-recall curve of stored predictions."""
        yield from ()

    @staticmethod
    def infer(net: nn.Module, batch: Batch, decision: Mapping[str, Any]) -> Batch:  # noqa: ARG004 -- a hook
        """Return what a trained net answers for B samples, by name.

        The place for tiles, where an image is too large for a net, and for the grid of the file.
        Entries are of one row a sample or, where these have different numbers of it, end to end:
        beside `<name>` `[M,…]` stands `<name>_row` `[M]`, the sample of each, from 0 to B − 1.

        Args:
            net: in evaluation mode.
            batch: on its device; what the target encodes is among it where that is known.
            decision: as `finish` made it; {} before.
        """
        return answer_by_name(net, batch)

    @staticmethod
    def read_progress(checkpoint: Mapping[str, Any]) -> int:
        """Return where the curves of a resumed run go on: the epochs behind a checkpoint."""
        return int(checkpoint["epoch"]) + 1

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **given: Any) -> Self:
        """Load the weights of a checkpoint into a task of the nets that are given.

        Raises:
            MedvisionError: there is nothing to load them into.
        """
        takes = [
            p for p in inspect.signature(cls).parameters.values() if p.kind is not p.VAR_KEYWORD
        ]
        if lacking := [
            f"{p.name}=…" for p in takes if p.default is p.empty and p.name not in given
        ]:
            way = "medvision.load" if cls.predicts else "medvision.model.load_generator"
            raise MedvisionError(
                f"{checkpoint_path} holds weights alone, not what they belong to; load the run's "
                f"model.pt with {way}, or give {', '.join(lacking)} as well"
            )
        loaded: Self = super().load_from_checkpoint(checkpoint_path, *args, **given)
        return loaded

    @property
    @abstractmethod
    def trained(self) -> nn.Module:
        """The net that answers once training is over, and is frozen."""

    @abstractmethod
    def compiled(self) -> Iterator[tuple[nn.Module, bool | None]]:
        """Yield what is compiled, and whether for all sizes at once; None: as they come."""

    def example(self, batch: Batch) -> Batch:
        """Return what `trained` is given of a batch, for its graph."""
        return batch

    def limits(self, batches: int, batch_size: int, max_steps: int) -> dict[str, int]:
        """Return settings of the Trainer that follow from a budget of the task's own.

        Args:
            batches: of an epoch.
            batch_size: images of one.
            max_steps: as configured; −1 = no limit.
        """
        return {}

    def prepare(self, context: Context) -> Sequence[Callback]:
        """Make ready before training; return callbacks that belong to it."""
        return ()

    def fit(self, context: Context) -> bool:
        """Fit without steps, as a forest is; return whether that was done: no epoch follows."""
        return False

    def finish(self, context: Context) -> dict[str, Any]:
        """Decide on the val part what is frozen beside the net, as plain values."""
        return {}
