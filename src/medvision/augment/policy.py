"""One change for real and generated images alike, through which gradients pass."""

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from medvision.augment.device import augment
from medvision.augment.draw import Augment
from medvision.errors import MedvisionError


@dataclass(frozen=True)
class DiffAugment:
    """Shows a critic changed images only, so that a few hundred cannot be learned by heart.

    A change that is the same in distribution for both sides, and leaves some images as they are,
    is not learned by the generator.

    Args:
        change: what may happen to an image; its `probability` is reached at full strength.

    Raises:
        MedvisionError: it changes gamma.

    Reference:
        Zhao, Liu, Lin, Zhu, Han: Differentiable Augmentation for Data-Efficient GAN Training,
        NeurIPS 2020, arXiv:2006.10738. Probability instead of policy words as in Karras et al.,
        NeurIPS 2020, arXiv:2006.06676.
    """

    change: Augment

    def __post_init__(self) -> None:
        if self.change.gamma:
            raise MedvisionError(
                "model.policy.change.gamma has no finite slope at black, through which gradients "
                "must pass; set it to 0 and use contrast or brightness"
            )

    def __call__(self, image: Tensor, strength: float, seed: int, step: int, side: int) -> Tensor:
        """Return `image` `[B,C,H,W]` in [-1,1], changed.

        Args:
            image: real or generated.
            strength: 0 to 1; the share of `change.probability` that is in force.
            seed: with step, side and the place in the batch it decides what is drawn.
            step: counted by the caller.
            side: 0 or 1, for real or generated.
        """
        if strength <= 0:
            return image
        change = replace(self.change, probability=self.change.probability * min(strength, 1.0))
        places = np.arange(len(image)) + side * len(image)
        draws = change.draw(seed, step, places, (image.shape[2], image.shape[3]))
        return augment((image + 1) / 2, draws) * 2 - 1
