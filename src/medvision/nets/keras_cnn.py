"""KerasCNN: the plain network of the seed article, kept as a faithful baseline."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvision.errors import MedvisionError
from medvision.nets.initialise import activate, initialise

_WIDTHS = (32, 64, 128)
SMALLEST = 22


class LogisticHead(nn.Linear):
    """One output, the logit of the last of two classes; the first column is fixed at 0.

    The softmax of the two columns is then the sigmoid of the one output.
    """

    def __init__(self, in_features: int) -> None:
        super().__init__(in_features, 1)

    def forward(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B 2"]:
        """Put the column of zeros before the output."""
        logit = super().forward(features)
        return torch.cat((torch.zeros_like(logit), logit), 1)


class KerasCNN(nn.Module):
    """Three 3x3 convolutions, each with max-pooling, then Flatten, Dense 512 and Dense 1 or K.

    44 396 609 parameters for two classes of 224x224 images with 3 channels, 44.3 M of them in the
    first dense layer. Convolutions are unpadded and weights start as Keras starts them (Glorot
    uniform, zero biases).

    Args:
        num_classes: K; two classes give one output, as the article's sigmoid (`LogisticHead`).
        in_channels: C.
        size: height and width in pixels, or one number for both; at least 22. The net takes images
            of this size only.
        activation: a name of `initialise.ACTIVATIONS`.

    Raises:
        MedvisionError: an argument is out of range, or (`forward`) an image has another size.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        size: int | Sequence[int] = 224,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < SMALLEST or num_classes < 2:
            raise MedvisionError(
                f"KerasCNN cannot be built for size={height}x{width} and {num_classes} classes; "
                f"it needs images of at least {SMALLEST}x{SMALLEST} pixels and two classes"
            )
        self.size = (int(height), int(width))
        self.activation = activation
        self.features = nn.Sequential()
        for number, channels in enumerate(_WIDTHS):
            before = _WIDTHS[number - 1] if number else in_channels
            layers = (nn.Conv2d(before, channels, 3), activate(activation), nn.MaxPool2d(2))
            self.features.extend(layers)
        positions = _pooled(height) * _pooled(width)
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Linear(_WIDTHS[-1] * positions, 512), activate(activation)
        )
        self.head = LogisticHead(512) if num_classes == 2 else nn.Linear(512, num_classes)
        initialise(self, "xavier")

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Map images in [0, 1] to logits."""
        if tuple(image.shape[-2:]) != self.size:
            shown, built = ("x".join(map(str, pair)) for pair in (image.shape[-2:], self.size))
            raise MedvisionError(
                f"KerasCNN was built for images of {built} pixels but got {shown}; "
                "set its size to that of the images"
            )
        logits: Tensor = self.head(self.dense(self.features(image)))
        return logits


def _pooled(side: int) -> int:
    for _ in _WIDTHS:
        side = (side - 2) // 2
    return side
