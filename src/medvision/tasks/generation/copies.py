"""Generated images that are copies of training images, and how they are found again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import medvision.files as files
from medvision.tasks.generation.feature_space import Space
from medvision.tasks.generation.fidelity import Features, find_nearest, measure_copying

LIKELY = 0.01  # of unseen real images lie as near to a training image as a near-duplicate does
Ints = NDArray[np.int64]


class Copies:
    """Distances to the training part and to two halves of the held-out part, split by patient.

    Args:
        spaces: by name, fitted to the training part.
        real: name → features of the held-out part `[N,D]`.
        patient: of each held-out image.
        label: of each held-out image; each class counts alike in the null, as it does among
            generated images.
        seed: of the halves, and of the training images that are planted as copies.
    """

    def __init__(
        self, spaces: Mapping[str, Space], real: Mapping[str, Features],
        patient: Sequence[str], label: Ints, seed: int,
    ) -> None:  # fmt: skip
        self.halves = _halve(patient, seed)
        self.balanced = [_balance(label[half]) for half in self.halves]
        self.planted = np.random.default_rng([seed, 4])
        self.train = {name: space.train for name, space in spaces.items()}
        self.held = {name: tuple(own[half] for half in self.halves) for name, own in real.items()}
        self.nulls = {name: self._measure_null(name) for name in spaces}

    def find(self, features: Mapping[str, Features]) -> dict[str, Any]:
        """Return rate, null, excess and share of copies in the space that finds most of them."""
        found = [self._find_in(name, own) | {"space": name} for name, own in features.items()]
        return max(found, key=lambda one: (one["copied"], one["excess"]))

    def find_duplicates(self, features: Mapping[str, Features]) -> float:
        """Return the share that is as near to a training image as 1 % of unseen real images."""
        shares = []
        for name, own in features.items():
            unseen = np.concatenate([near for near, _ in self.nulls[name]])
            near = find_nearest(own, self.train[name])[1]
            shares.append(float((near < np.quantile(unseen, LIKELY)).mean()))
        return max(shares)

    def plant_half(self) -> dict[str, Any]:
        """Score a set of which half are training images and half unseen real ones."""
        found = []
        order = self.planted.permutation(len(next(iter(self.train.values()))))
        for name in self.train:
            both = []
            for number, null in enumerate(self.nulls[name]):
                copied = self.train[name][order[: len(null[0])]]
                fake = self._to_both(name, copied, number)
                few = len(copied)
                half = tuple(np.concatenate([x, y[:few]]) for x, y in zip(fake, null, strict=True))
                both.append(measure_copying((half[0], half[1]), null))
            found.append(_average(both) | {"space": name})
        return max(found, key=lambda one: (one["copied"], one["excess"]))

    def _find_in(self, name: str, fake: Features) -> dict[str, Any]:
        return _average(
            [
                measure_copying(self._to_both(name, fake, number), null)
                for number, null in enumerate(self.nulls[name])
            ]
        )

    def _to_both(self, name: str, images: Features, number: int) -> tuple[Features, Features]:
        """Return the distances to the nearest training image and the nearest of a held-out half."""
        refs = self.train[name], self.held[name][number]
        near, far = (find_nearest(images, ref)[1] for ref in refs)
        return near, far

    def _measure_null(self, name: str) -> list[tuple[Features, Features]]:
        """Put each half in the place of generated images, beside the other one."""
        nulls = []
        for number in (0, 1):
            near, far = self._to_both(name, self.held[name][1 - number], number)
            rows = self.balanced[1 - number]
            nulls.append((near[rows], far[rows]))
        return nulls


def _average(both: list[dict[str, float]]) -> dict[str, Any]:
    mean: dict[str, Any] = {key: float(np.mean([one[key] for one in both])) for key in both[0]}
    return mean | {"excess": mean["rate"] - mean["null"]}


def _balance(label: Ints) -> Ints:
    """Return rows in which each class comes up as often as the commonest."""
    classes, counts = np.unique(label, return_counts=True)
    most = int(counts.max())
    return np.concatenate([np.resize(np.flatnonzero(label == k), most) for k in classes])


def _halve(patient: Sequence[str], seed: int) -> tuple[Ints, Ints]:
    """Split rows by patient into two parts of about as many images."""
    names, owner, counts = np.unique(
        [str(one) for one in patient], return_inverse=True, return_counts=True
    )
    order = np.random.default_rng([seed, 1]).permutation(len(names))
    before = np.cumsum(counts[order]) - counts[order]
    first = np.isin(owner, order[before < counts.sum() / 2])
    return np.flatnonzero(first), np.flatnonzero(~first)


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
