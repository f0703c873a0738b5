"""FID and KID as papers report them: for comparison alone, and only with weights that lie here."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import NoTrainInceptionV3

from medvision.errors import MedvisionError
from medvision.evaluation.fidelity import Features, measure_frechet, measure_kernel

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
