"""Cuts a step of training into disjoint parts, at the marks that Lightning sets."""

import time
from collections.abc import Callable
from typing import Any

from pytorch_lightning.profilers import Profiler
from torch.autograd.profiler import record_function

GATHER, TRANSFER = "gather + host augmentation", "transfer + device augmentation"
FORWARD, BACKWARD = "forward + loss", "backward"
CLIPPING, OPTIMISER = "clipping", "optimiser"
REST = "Lightning, callbacks, logging"
PARTS = (GATHER, TRANSFER, FORWARD, BACKWARD, CLIPPING, OPTIMISER, REST)

# Which part begins where an action starts, and which where it stops.
AT_START = {
    "train_dataloader_next": GATHER, "batch_to_device": TRANSFER, "training_step": FORWARD,
    "on_after_backward": REST, "configure_gradient_clipping": CLIPPING,
    "optimizer_step": OPTIMISER, "optimizer_zero_grad": OPTIMISER,
}  # fmt: skip
AT_STOP = {
    "batch_to_device": REST, "training_step": REST, "on_before_backward": BACKWARD,
    "configure_gradient_clipping": OPTIMISER, "optimizer_step": REST, "optimizer_zero_grad": REST,
}  # fmt: skip
# A task that steps its optimisers itself does so, and clips before, inside of `training_step`.
AT_STOP_BY_HAND = AT_STOP | {"on_after_backward": CLIPPING, "optimizer_step": FORWARD}


class Stopwatch(Profiler):
    """Times the parts of every training step, and names them in a trace.

    Args:
        by_hand: the task steps its optimisers itself.
        settle: called before each reading, with whether the step ends: a device may have to finish.
        between: called after each step, in no step's time.

    Attributes:
        steps: part → seconds, of each step: from the call for its batch to the last of its hooks.
    """

    def __init__(
        self, by_hand: bool, settle: Callable[[bool], None], between: Callable[[], object]
    ) -> None:
        super().__init__()
        self.steps: list[dict[str, float]] = []
        self.at_stop = AT_STOP_BY_HAND if by_hand else AT_STOP
        self.settle, self.between = settle, between
        self.part: str | None = None  # None: outside of steps, in validation for one
        self.named: Any = None
        self.since, self.over = 0.0, False

    def start(self, action_name: str) -> None:
        if self.over:  # what Lightning logs after the last hook still belongs to the step
            self.over = False
            self._turn(None)
            self.between()
        hook = action_name.rpartition(".")[2]
        if hook == "train_dataloader_next":
            self.steps.append(dict.fromkeys(PARTS, 0.0))
        if hook in AT_START and (self.part or AT_START[hook] == GATHER):
            self._turn(AT_START[hook])

    def stop(self, action_name: str) -> None:
        hook = action_name.rpartition(".")[2]
        if self.part and hook in self.at_stop:
            self._turn(self.at_stop[hook])
        self.over |= hook == "on_train_batch_end" and action_name.startswith("[LightningModule]")

    def _turn(self, part: str | None) -> None:
        """Book the time since the last reading; what comes now is `part`."""
        if self.part:
            self.settle(part is None)
        now = time.perf_counter()
        if self.part:
            self.steps[-1][self.part] += now - self.since
            self.named.__exit__(None, None, None)
        self.part, self.since = part, now
        if part:
            self.named = record_function(part)
            self.named.__enter__()
