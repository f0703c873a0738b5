"""Feature spaces: what an encoder makes of images, on the scale of the real training part."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medvision.errors import MedvisionError
from medvision.tasks.generation.fidelity import Features

Encode = Callable[[Tensor], Tensor]
_BATCH_PIXELS = 2**18  # of the images encoded at once, whose maps take a hundred times as much
FAINT = 0.1  # of the typical deviation; a feature that hardly varies must not decide alone
MOST = 600  # images the directions are found from
_COMPACT = 64  # directions for FD and KID, whose covariances need more images than features


def encode_images(encode: Encode, image: Tensor, name: str) -> Features:
    """Run `[N,C,H,W]` through the encoder, batch by batch: `[N,D]`.

    Raises:
        MedvisionError: a feature is not finite.
    """
    with torch.no_grad():
        size = max(1, _BATCH_PIXELS // image[0, 0].numel())
        parts = [encode(part).flatten(1).double().cpu() for part in torch.split(image, size)]
    features: Features = torch.cat(parts).numpy()
    if not np.isfinite(features).all():
        raise MedvisionError(
            f"the features seen by {name} hold nan or infinite numbers; the images or the net are "
            "broken: train again, or judge with another run"
        )
    return features


class Space:
    """An encoder with the scale of its features, fitted to the real training images.

    Args:
        name: what the reports call it.
        encode: `[B,C,H,W]` in [0,1] → `[B,D]`, in evaluation mode.
        image: the real training images.
    """

    def __init__(self, name: str, encode: Encode, image: Tensor) -> None:
        self.name, self.encode = name, encode
        features = encode_images(encode, image, name)
        self.mean, deviation = features.mean(0), features.std(0)
        typical = float(np.median(deviation[deviation > 0])) if deviation.any() else 1.0
        self.deviation = np.maximum(deviation, FAINT * typical)
        self.train = self._scale(features)
        self.directions = _find_directions(self.train)

    def describe(self, image: Tensor) -> Features:
        """Return standardised features `[N,D]`."""
        return self._scale(encode_images(self.encode, image, self.name))

    def compact(self, features: Features) -> Features:
        """Return the coordinates along the directions in which training images differ most."""
        return np.asarray(features @ self.directions)

    def _scale(self, features: Features) -> NDArray[np.float64]:
        # By the root of D, so that distances of spaces of any width are of the order of 1.
        return np.asarray((features - self.mean) / self.deviation / np.sqrt(features.shape[1]))


def _find_directions(features: Features) -> Features:
    """Return the main directions `[D,<=64]`, by the products of images, which are the fewer."""
    some = features[:: -(-len(features) // MOST)]
    values, vectors = np.linalg.eigh(some @ some.T)
    values, vectors = values[-_COMPACT:], vectors[:, -_COMPACT:]
    kept = values > values[-1] * 1e-9
    return np.asarray(some.T @ vectors[:, kept] / np.sqrt(values[kept]))
