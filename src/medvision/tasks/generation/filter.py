"""Which generated images are kept: no near copies, and none that shows another class for sure."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from medvision.nets.encoder import untrained_encoder
from medvision.tasks.generation.copies import Reference
from medvision.tasks.generation.feature_space import encode_images
from medvision.tasks.generation.sampling import GeneratedImages

_AGREED = 0.1
"""A classifier that gives the label less has seen another class; no more than that is asked, since
the images it is sure of teach least."""


@dataclass(frozen=True)
class Checks:
    """What looks at generated images before they are written; None = it is not at hand.

    Attributes:
        reference: of the generator's training images.
        classify: image `[N,C,H,W]` in [0,1] → calibrated probabilities `[N,K]` of the classifier
            that judged the generator.
    """

    reference: Reference | None = None
    classify: Callable[[Tensor], NDArray[np.float64]] | None = None


def filter_images(made: GeneratedImages, checks: Checks) -> pd.DataFrame:
    """Return `near`, `agreed`, `keep` and `reason` of each image.

    `near` is the distance to the nearest training image, 1 = usual for unseen real images; `agreed`
    the probability that the classifier gives the label. Both are "" where nobody looked.
    """
    count = len(made.images)
    table = pd.DataFrame({"near": [""] * count, "agreed": "", "keep": "true", "reason": ""})
    image = made.as_tensor()
    if checks.reference is not None:
        seen = encode_images(untrained_encoder(image.shape[1]), image, "the untrained net")
        near = checks.reference.measure(seen)
        told = "nearer to a training image than 1 % of unseen real images"
        table["near"] = [f"{value:.4f}" for value in near]
        table.loc[near < checks.reference.near, ["keep", "reason"]] = ["false", told]
    if checks.classify is not None:
        agreed = checks.classify(image)[np.arange(count), made.label]
        table["agreed"] = [f"{value:.4f}" for value in agreed]
        told = f"the classifier gives its label less than {_AGREED:.0%}"
        table.loc[agreed < _AGREED, ["keep", "reason"]] = ["false", told]
    return table
