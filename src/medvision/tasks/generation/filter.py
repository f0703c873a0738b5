"""Which generated images are kept: no near copies, and none that shows another class for sure."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

import medvision.files as files
from medvision.data.batches.samples import as_image
from medvision.errors import MedvisionError
from medvision.inference.predictor import run_net
from medvision.model import Model, load_model
from medvision.nets.encoder import untrained_encoder
from medvision.runs import Run, find_run
from medvision.tasks.classification.calibration import apply_temperature
from medvision.tasks.generation.copies import Reference, load_reference
from medvision.tasks.generation.feature_space import encode_images
from medvision.tasks.generation.sampling import GeneratedImages

AGREED = 0.1
"""A classifier that gives the label less has seen another class; no more than that is asked, since
the images it is sure of teach least."""


@dataclass(frozen=True)
class Checks:
    """What looks at generated images before they are written; None = it is not at hand.

    Attributes:
        reference: of the generator's training images.
        classifier: the one that judged the generator.
    """

    reference: Reference | None = None
    classifier: Model | None = None


def open_checks(run: Run) -> Checks:
    """Find what a generator's run has left for this, and the classifier that judged it.

    Raises:
        MedvisionError: that classifier is not there any more, or was trained anew.
    """
    path = run.folder / "fidelity" / "reference.pt"
    reference = load_reference(path) if path.exists() else None
    judge = run.record.get("judge")
    if judge is None:
        return Checks(reference)
    try:
        model = find_run(judge["run"]).model
        same = files.digest_file(model) == judge["model"]
    except (MedvisionError, OSError):
        same = False
    if not same:
        raise MedvisionError(
            f"the classifier that judged {run.title} ({judge['run']}) is gone or was trained anew, "
            "so nobody can look at the labels of its images; bring it back, or train both again"
        )
    return Checks(reference, load_model(model))


def filter_images(made: GeneratedImages, eyes: Checks) -> pd.DataFrame:
    """Return `near`, `agreed`, `keep` and `reason` of each image.

    `near` is the distance to the nearest training image, 1 = usual for unseen real images; `agreed`
    the probability that the classifier gives the label. Both are "" where nobody looked.
    """
    count = len(made.images)
    table = pd.DataFrame({"near": [""] * count, "agreed": "", "keep": "true", "reason": ""})
    image = as_image(torch.from_numpy(made.images))
    if eyes.reference is not None:
        seen = encode_images(untrained_encoder(image.shape[1]), image, "the untrained net")
        near = eyes.reference.measure(seen)
        told = "nearer to a training image than 1 % of unseen real images"
        table["near"] = [f"{value:.4f}" for value in near]
        table.loc[near < eyes.reference.near, ["keep", "reason"]] = ["false", told]
    if eyes.classifier is not None:
        agreed = label_probabilities(eyes.classifier, image, made.label)
        table["agreed"] = [f"{value:.4f}" for value in agreed]
        told = f"the classifier gives its label less than {AGREED:.0%}"
        table.loc[agreed < AGREED, ["keep", "reason"]] = ["false", told]
    return table


def label_probabilities(classifier: Model, image: torch.Tensor, label: np.ndarray) -> np.ndarray:
    """Return the calibrated probability `[N]` of each image's label."""
    batches = ({"image": some} for some in torch.split(image, 256))
    said = run_net(classifier, batches, np.arange(len(image)), "asking the classifier")
    probs = apply_temperature(said.logits.numpy(), classifier.temperature, classifier.question)
    return np.asarray(probs[np.arange(len(label)), label])
