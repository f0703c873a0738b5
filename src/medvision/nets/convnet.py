"""ConvNet: the compact residual net that is the default."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from medvision.errors import MedvisionError
from medvision.nets.initialise import activate


class ConvNet(nn.Module):
    """Stem, one stage of residual blocks a width, global average pooling, dropout, linear head.

    Each stage after the first halves the image. 0.31 M parameters at the defaults. Any image size
    works, but the cost lies in the first stage: on one core, training takes 4 ms an image at 28x28
    and the defaults; at 160x160, 42 ms with `stem_stride=2`, 15 ms with half the widths and one
    stage more (16, 32, 64, 128), 13 ms with `stem_stride=4`.

    Args:
        num_classes: K.
        in_channels: C.
        widths: channels of each stage.
        blocks: residual blocks a stage, one number for all or one for each.
        dropout: probability, 0 to 1, of dropping a pooled feature in training.
        activation: a name of `initialise.ACTIVATIONS`.
        norm: `batch`, or `group` where batches are small or mix sites.
        stem_stride: 1 for images near 28², 2 or 4 for 160² and more; a power of two.

    Raises:
        MedvisionError: an argument is out of range.

    Reference:
        He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016,
        arXiv:1512.03385. As in ResNet-D (He et al.: Bag of Tricks, CVPR 2019, arXiv:1812.01187)
        shortcuts are pooled before their 1x1 convolution and the last norm of a block starts at
        zero; unlike both, the stem has no max-pooling.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int | Sequence[int] = 1,
        dropout: float = 0.3,
        activation: str = "relu",
        norm: str = "batch",
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        depths = [blocks] * len(widths) if isinstance(blocks, int) else list(blocks)
        _check(num_classes, in_channels, widths, depths, dropout, norm, stem_stride)
        self.activation = activation
        self.stem = _stem(in_channels, widths[0], stem_stride, activation, norm)
        self.stages = nn.Sequential()
        width_in = widths[0]
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            strides = [1 if number == 0 else 2] + [1] * (depth - 1)
            ins = [width_in] + [width] * (depth - 1)
            self.stages.extend(
                ResidualBlock(i, width, stride, activation, norm)
                for i, stride in zip(ins, strides, strict=True)
            )
            width_in = width
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width_in, num_classes)
        self._start()

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Map images in [0, 1] to logits."""
        features = self.stages(self.stem(image))
        logits: Tensor = self.head(self.dropout(features.mean((2, 3))))
        return logits

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                last_norm = module.body[-1]
                assert isinstance(last_norm.weight, Tensor)
                nn.init.zeros_(last_norm.weight)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the first one carries the stride (1 or 2)."""

    def __init__(
        self, in_channels: int, width: int, stride: int, activation: str, norm: str
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolve(in_channels, width, stride, norm),
            activate(activation),
            *_convolve(width, width, 1, norm),
        )
        self.shortcut = nn.Sequential()
        if stride > 1:
            # Rounding up keeps odd sizes equal to those of the padded convolution beside it.
            self.shortcut.append(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False))
        if stride > 1 or in_channels != width:
            self.shortcut.extend(_convolve(in_channels, width, 1, norm, kernel=1))
        self.activate = activate(activation)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Halve H and W, rounding up, where the stride is 2."""
        activated: Tensor = self.activate(self.body(features) + self.shortcut(features))
        return activated


def _stem(in_channels: int, width: int, stride: int, activation: str, norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(max(1, int(math.log2(stride)))):
        layers += [*_convolve(in_channels, width, min(stride, 2), norm), activate(activation)]
        in_channels = width
    return nn.Sequential(*layers)


def _convolve(
    in_channels: int, width: int, stride: int, norm: str, kernel: int = 3
) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, width, kernel, stride, kernel // 2, bias=False)
    # Group norm as in Wu, He 2018 (arXiv:1803.08494), with at most 8 groups.
    layer = nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(math.gcd(8, width), width)
    return [convolution, layer]


def _check(
    num_classes: int,
    in_channels: int,
    widths: Sequence[int],
    depths: list[int],
    dropout: float,
    norm: str,
    stem_stride: int,
) -> None:
    wrong = {
        f"num_classes={num_classes} (at least 1)": num_classes < 1,
        f"in_channels={in_channels} (at least 1)": in_channels < 1,
        f"widths={list(widths)} (one or more positive numbers)": min(widths, default=0) < 1,
        f"blocks={depths} (a positive number for each of the {len(widths)} widths)": (
            len(depths) != len(widths) or min(depths, default=1) < 1
        ),
        f"dropout={dropout} (from 0 to below 1)": not 0 <= dropout < 1,
        f"norm={norm} (batch or group)": norm not in ("batch", "group"),
        f"stem_stride={stem_stride} (1, 2, 4 or 8)": stem_stride not in (1, 2, 4, 8),
    }
    problems = [problem for problem, is_wrong in wrong.items() if is_wrong]
    if problems:
        raise MedvisionError(f"ConvNet cannot be built: {'; '.join(problems)}; change these keys")
