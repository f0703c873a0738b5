"""How near generated images come to real ones, as numbers."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
from torchmetrics.image.kid import KernelInceptionDistance

from medvision.errors import MedvisionError
from medvision.stats.ranking import measure_areas

Features = NDArray[np.float64]
_CHUNK = 256  # rows whose distances to all others are held at once
RARE = 0.05  # of unseen real images, called a copy by chance
TINY = 1e-6  # equal features differ by rounding alone


class _AsGiven(nn.Module):
    """Stands where torchmetrics expects a feature net; the features are there already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def measure_distances(one: Features, other: Features) -> Features:
    """Return Euclidean distances `[N,M]`; equal rows are 0 apart but for rounding."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return np.asarray(np.sqrt(np.clip(squares, 0, None)))


def find_nearest(one: Features, other: Features) -> tuple[NDArray[np.int64], Features]:
    """Return for each row of `one` the nearest row of `other` and its distance, piece by piece."""
    pieces = [one[start : start + _CHUNK] for start in range(0, len(one), _CHUNK)]
    rows, apart = [], []
    for piece in pieces:
        distances = measure_distances(piece, other)
        rows.append(distances.argmin(axis=1))
        apart.append(distances.min(axis=1))
    return np.concatenate(rows), np.concatenate(apart)


def measure_radii(real: Features, owners: Sequence[Hashable], k: int) -> Features:
    """Return the distance of each real image to its k-th nearest of other owners, `[N]`.

    Raises:
        MedvisionError: an image has fewer than k images of other owners beside it.
    """
    apart = measure_distances(real, real)
    owner = np.unique(np.array([str(one) for one in owners]), return_inverse=True)[1]
    apart[owner[:, None] == owner] = np.inf
    if (
        len(real) <= k
        or not np.isfinite(radii := np.partition(apart, k - 1, axis=1)[:, k - 1]).all()
    ):
        raise MedvisionError(
            f"{len(real)} images of {len(set(owner.tolist()))} patients are too few to measure "
            f"neighbourhoods of {k} images of other patients; use more patients or a smaller k"
        )
    return np.asarray(radii)


def cover(
    apart: Features, radii: Features, fake_radii: Features | None, k: int
) -> dict[str, float]:
    """Return coverage and density and, where the fake radii are given, precision and recall.

    Args:
        apart: distances `[N,M]` of N real to M generated images.
        radii: of the real images, `[N]`.
        fake_radii: of the generated images, `[M]`.
        k: the neighbours the radii were measured with.

    Reference:
        Kynkäänniemi et al.: Improved Precision and Recall Metric, NeurIPS 2019, arXiv:1904.06991.
        Naeem et al.: Reliable Fidelity and Diversity Metrics, ICML 2020, arXiv:2002.09797.
    """
    inside = apart <= radii[:, None]
    scores = {
        "coverage": float(inside.any(axis=1).mean()),
        "density": float(inside.sum(axis=0).mean() / k),
    }
    if fake_radii is not None:
        scores["precision"] = float(inside.any(axis=0).mean())
        scores["recall"] = float((apart <= fake_radii).any(axis=1).mean())
    return scores


def measure_frechet(real: Features, fake: Features) -> float:
    """Return the Fréchet distance of the two normal distributions fitted to the features."""
    metric = FrechetInceptionDistance(feature=_AsGiven(real.shape[1])).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(fake), real=False)
    return max(0.0, float(metric.compute()))


def measure_kernel(real: Features, fake: Features) -> float:
    """Return the unbiased squared distance under the cubic kernel; about 0, or below, if alike."""
    few = min(len(real), len(fake))
    metric = KernelInceptionDistance(
        feature=_AsGiven(real.shape[1]), subsets=1, subset_size=few
    ).set_dtype(torch.float64)
    with torch.random.fork_rng(devices=[]):  # it shuffles by the global generator
        torch.manual_seed(0)
        metric.update(torch.from_numpy(real), real=True)
        metric.update(torch.from_numpy(fake), real=False)
        return float(metric.compute()[0])


def measure_spread(features: Features) -> float:
    """Return the mean distance between two different images (nan for one image)."""
    n = len(features)
    return float(measure_distances(features, features).sum() / (n * (n - 1))) if n > 1 else np.nan


def measure_distinctness(features: Features) -> float:
    """Return the median distance of an image to its nearest other one (nan for one image)."""
    apart = measure_distances(features, features)
    np.fill_diagonal(apart, np.inf)
    return float(np.median(apart.min(axis=1))) if len(features) > 1 else np.nan


def measure_copying(
    fake: tuple[Features, Features], null: tuple[Features, Features]
) -> dict[str, float]:
    """Ask whether generated images lie nearer to training images than unseen real ones do.

    The classical rate, how many are nearer to the training part than to the held-out one, depends
    on the sizes of both parts, so it stands beside its null: that of real held-out images. Yet a
    copy lies not merely nearer, but far nearer. So `copied` counts the images whose ratio of the
    two distances is below what 5 % of the unseen real images reach, and takes those 5 % off.
    Noise drowns that ratio where real images are all but free of it; the rate still tells, so the
    share that explains it, less two standard errors, is taken where it is the larger.

    Args:
        fake: distance of each generated image to its nearest training image, and to its nearest
            held-out image.
        null: the same of real images that are in neither.

    Returns:
        `rate`, `null` and `copied`: the share of copies, 0 where there is none.
    """
    ratios = [np.log(near + TINY) - np.log(far + TINY) for near, far in (fake, null)]
    low = float(np.quantile(ratios[1], RARE))
    by_ratio = (float((ratios[0] < low).mean()) - RARE) / (1 - RARE)
    rate, by_chance = (float((near < far).mean()) for near, far in (fake, null))
    variance = by_chance * (1 - by_chance) * (1 / len(fake[0]) + 1 / len(null[0]))
    excess = rate - by_chance - 2 * np.sqrt(variance)
    by_rate = excess / (1 - by_chance) if by_chance < 1 else 0.0
    return {"rate": rate, "null": by_chance, "copied": float(max(0.0, by_ratio, by_rate))}


def measure_membership(
    critic_train: Sequence[float], critic_held: Sequence[float], critic_fake: Sequence[float]
) -> dict[str, float | None]:
    """Ask whether the critic tells images it was trained on from others by its score.

    Returns:
        `auc`: 0.5 = it cannot. `overfit_ratio`: 0 = held-out images score as training images do,
        1 = as generated ones do; None where training and generated images score alike.

    Raises:
        MedvisionError: a set is empty or a score is not finite.
    """
    train, held, fake = (np.asarray(x, np.float64).ravel() for x in
                         (critic_train, critic_held, critic_fake))  # fmt: skip
    if not all(len(x) and np.isfinite(x).all() for x in (train, held, fake)):
        raise MedvisionError(
            "the membership test needs finite critic scores of training, held-out and generated "
            "images; one set is empty or holds nan: the critic has diverged, train it again"
        )
    trained = np.arange(len(train) + len(held)) < len(train)
    auc, _ = measure_areas(np.concatenate([train, held]), trained)
    gap = train.mean() - fake.mean()
    ratio = (train.mean() - held.mean()) / gap if abs(gap) > 1e-12 else None
    return {"auc": auc, "overfit_ratio": None if ratio is None else float(ratio)}


BATCH = 64


def measure_inception(weights: Path, train: Tensor, held: Tensor, made: Tensor) -> dict[str, Any]:
    """Measure generated against held-out images in the features of Inception, and their floor.

    Of a few hundred images FID is far above that of the 50 000 of papers, so it is read beside its
    floor: training images in the place of generated ones.

    Args:
        weights: the file of torch-fidelity, `weights-inception-2015-12-05-6726825d.pth`.
        train: `[N,C,H,W]` in [0,1].
        held: as `train`.
        made: as `train`.

    Returns:
        `fid`, `kid`, `floor_fid`, `floor_kid` and `n`, the number of images on each side.

    Raises:
        MedvisionError: torch-fidelity is not installed, or the file does not hold these weights.

    Reference:
        Heusel et al., NIPS 2017, arXiv:1706.08500; Binkowski et al., ICLR 2018, arXiv:1801.01401.
    """
    net = _open(weights)
    n = min(len(train), len(held), len(made))
    draw = torch.Generator().manual_seed(0)
    real, own, fake = (
        _encode(net, side[torch.randperm(len(side), generator=draw)[:n]])
        for side in (held, train, made)
    )
    return {
        "fid": measure_frechet(real, fake), "kid": measure_kernel(real, fake),
        "floor_fid": measure_frechet(real, own), "floor_kid": measure_kernel(real, own), "n": n,
    }  # fmt: skip


def _encode(net: nn.Module, image: Tensor) -> Features:
    """Return `[N,2048]` of images as 8 bits would keep them, grey ones in three channels."""
    pixels = (image.expand(-1, 3, -1, -1) * 255).round().to(torch.uint8)
    with torch.inference_mode():
        parts = [net(some) for some in torch.split(pixels, BATCH)]
    return torch.cat(parts).double().numpy()


def _open(weights: Path) -> nn.Module:
    try:
        return NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights))
    except Exception as error:  # whatever torch makes of a file that is something else
        raise MedvisionError(
            f"judge.inception={weights} holds no Inception weights ({type(error).__name__}); give "
            "torch-fidelity's weights-inception-2015-12-05-6726825d.pth, or null"
        ) from error
