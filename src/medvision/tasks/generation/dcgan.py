"""A DCGAN for scripts: both nets and the task around them, with the settings of 2015."""

from functools import partial
from typing import Any

from torch.optim import Adam

from medvision.losses import non_saturating
from medvision.nets.dcgan import Critic, Generator
from medvision.tasks.generation.task import Adversarial


def DCGAN(  # noqa: N802 -- named as what it returns
    size: int, in_channels: int = 1, num_classes: int = 2, *, width: int = 32, **settings: Any
) -> Adversarial:
    """Return the generator and critic of `conf/model/dcgan_classic.yaml`, ready for a Trainer.

    Batches hold `image` `[B,C,H,W]` in [0,1] and `label` `[B]`; `.sample(noise, label)` answers.

    Args:
        size: of the square images: 32, 64, 128 or 256.
        in_channels: C.
        num_classes: of the images.
        width: channels at half the size.
        settings: of `Adversarial`, in place of those of the file.

    Reference:
        Radford, Metz, Chintala: Unsupervised Representation Learning with Deep Convolutional
        Generative Adversarial Networks, 2016, arXiv:1511.06434.
    """
    adam = partial(Adam, lr=0.0002, betas=(0.5, 0.999))
    given: dict[str, Any] = {
        "loss": non_saturating, "optimizer": adam, "critic_optimizer": adam, "kimg": 100,
    }  # fmt: skip
    return Adversarial(
        Generator(size, in_channels, num_classes, width=width, embedding=32),
        Critic(size, in_channels, num_classes, width=width),
        **given | settings,
    )
