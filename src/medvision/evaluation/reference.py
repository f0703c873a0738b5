"""What is remembered of a generator's training images: enough to find copies of them later."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

import medvision.files as files
from medvision.evaluation.copies import LIKELY
from medvision.evaluation.fidelity import Features, find_nearest
from medvision.evaluation.judge import Judge


@dataclass(frozen=True)
class Reference:
    """Training images as the first feature space of a judge sees them; pixels are not kept.

    Attributes:
        features: `[N,D]`, standardised.
        mean, deviation: `[D]`, of that.
        usual: the median distance of unseen real images to the nearest training image.
        near: the distance below which 1 % of them lie, as a share of that.
    """

    features: Features
    mean: Features
    deviation: Features
    usual: float
    near: float

    def measure(self, features: Features) -> Features:
        """Return for features `[M,D]` the distance to the nearest training image, 1 = usual."""
        scaled = (features - self.mean) / self.deviation / np.sqrt(features.shape[1])
        return np.asarray(find_nearest(scaled, self.features)[1] / self.usual)


def remember(judge: Judge) -> Reference:
    """Take from a judge what finds copies without it."""
    space = next(iter(judge.spaces.values()))
    usual = max(float(np.median(judge.unseen)), 1e-12)
    near = float(np.quantile(judge.unseen, LIKELY)) / usual
    return Reference(space.train, space.mean, space.deviation, usual, near)


def save_reference(reference: Reference, path: Path) -> None:
    """Write plain tensors, the features in half precision."""
    content = {k: torch.as_tensor(v) for k, v in asdict(reference).items()}
    content["features"] = content["features"].half()
    with files.written_aside(path) as aside, aside.open("wb") as stream:
        torch.save(content, stream)


def load_reference(path: Path) -> Reference:
    """Read what `save_reference` wrote."""
    held = torch.load(path, map_location="cpu", weights_only=True)
    arrays = {k: v.double().numpy() for k, v in held.items() if v.ndim}
    return Reference(**arrays, usual=float(held["usual"]), near=float(held["near"]))
