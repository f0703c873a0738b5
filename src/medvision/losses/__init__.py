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
from medvision.losses.ordinal import cumulative
from medvision.losses.regression import absolute_error, gaussian, quantile, squared_error

__all__ = [
    "GanLoss", "absolute_error", "brier", "cross_entropy", "cumulative", "focal", "gaussian",
    "gradient_penalty", "hinge", "least_squares", "non_saturating", "quantile", "relativistic",
    "slice_loss", "squared_error", "wasserstein", "zero_centred_penalty",
]  # fmt: skip
