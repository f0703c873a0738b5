"""Pure functions of what a net says and what is true."""

from medvision.losses.adversarial import (
    GanLoss,
    gradient_penalty,
    hinge,
    least_squares,
    non_saturating,
    relativistic,
    wasserstein,
    zero_centred_penalty,
)
from medvision.losses.classification import brier, cross_entropy, focal, slice_loss

__all__ = [
    "GanLoss", "brier", "cross_entropy", "focal", "gradient_penalty", "hinge", "least_squares",
    "non_saturating", "relativistic", "slice_loss", "wasserstein", "zero_centred_penalty",
]  # fmt: skip
