"""Sets of images to judge by: real ones, and real ones that were spoilt."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from medvision.errors import collect
from medvision.tasks.generation.feature_space import Encode

FEWEST = 50  # training images of a class: below, a generator learns them by heart
_FEWEST_HELD = 20  # held-out images of a class


@dataclass(frozen=True)
class Images:
    """Real images.

    Attributes:
        image: float32 `[N,C,H,W]` in [0,1].
        label: int64 `[N]`.
        patient: of each image.
    """

    image: Tensor
    label: Tensor
    patient: Sequence[str]


def check_images(
    train: Images, held: Images, spaces: Mapping[str, Encode], classes: Sequence[str]
) -> None:
    """Refuse parts that cannot be judged by, with all reasons in one sentence."""
    problems = [] if spaces else ["there is no feature space"]
    for what, part, least in (("train", train, FEWEST), ("held-out part", held, _FEWEST_HELD)):
        wrong = find_problems(what, part.image, part.label, classes)
        problems += wrong or _find_rare(what, part, least, classes)
    if not problems and train.image.shape[1:] != held.image.shape[1:]:
        problems.append(
            f"train is {shape_of(train.image)}, the held-out part {shape_of(held.image)}"
        )
    if not problems and (both := {*map(str, train.patient)} & {*map(str, held.patient)}):
        problems.append(f"{len(both)} patients are in train and in the held-out part")
    if problems:
        raise collect("a generator cannot be judged on these images", problems, "Mend the split")


def _find_rare(what: str, part: Images, least: int, classes: Sequence[str]) -> list[str]:
    way_out = "oversample instead" if what == "train" else "hold out more"
    if len(part.patient) != len(part.image):
        return [f"{what} has {len(part.image)} images and {len(part.patient)} patients"]
    counts = [int((part.label == c).sum()) for c in range(len(classes))]
    return [
        f"{what} has {count} images of class {name}, fewer than {least}: {way_out}"
        for count, name in zip(counts, classes, strict=True)
        if count < least
    ]


def find_problems(what: str, image: Tensor, label: Tensor, classes: Sequence[str]) -> list[str]:
    """Return what is wrong with the shape, the intensities or the labels of one set."""
    if image.ndim != 4 or len(image) != len(label) or not len(image):
        return [f"{what}: {list(image.shape)} and {len(label)} labels are not [N,C,H,W] and N"]
    if not bool(torch.isfinite(image).all()) or float(image.min()) < 0 or float(image.max()) > 1:
        return [f"{what}: intensities are not all between 0 and 1"]
    if int(label.min()) < 0 or int(label.max()) >= len(classes):
        return [
            f"{what}: labels from {int(label.min())} to {int(label.max())}, "
            f"there are {len(classes)} classes"
        ]
    return []


def shape_of(image: Tensor) -> str:
    """Write C×H×W."""
    return "×".join(str(n) for n in image.shape[1:])


FEW = 20  # images a class that a collapsed generator repeats
_NOISE = 0.1  # deviation, of intensities in 0..1
_BLUR = 2.0  # deviation of the Gaussian in pixels at 32 pixels a side


def corrupt(image: Tensor, label: Tensor, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the rungs but those that need other parts: name and images of the same labels.

    Args:
        image: real images `[N,C,H,W]` in [0,1].
        label: `[N]`.
        seed: of the noise.
    """
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randn(image.shape, generator=draw) * _NOISE
    yield "noise", (image + noise).clamp(0, 1)
    yield "blur", blur(image, _BLUR * image.shape[-1] / 32)
    yield "mirrored", image.flip(3)
    if len(set(label.tolist())) > 1:
        yield "one class only", image[_repeat(label, FEW, only=True)]
    yield f"{FEW} images repeated", image[_repeat(label, FEW, only=False)]


def blur(image: Tensor, deviation: float) -> Tensor:
    """Blur with a Gaussian; the border is continued."""
    reach = max(1, min(round(3 * deviation), min(image.shape[-2:]) - 1))
    places = torch.arange(-reach, reach + 1, dtype=image.dtype)
    kernel = torch.exp(-(places**2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).repeat(image.shape[1], 1, 1, 1)
    padded = functional.pad(image, (reach,) * 4, mode="replicate")
    across = functional.conv2d(padded, kernel, groups=image.shape[1])
    return functional.conv2d(across, kernel.transpose(2, 3), groups=image.shape[1])


def _repeat(label: Tensor, few: int, only: bool) -> Tensor:
    """Return rows that stand for all rows: of the commonest class only, or a few of each class."""
    rows = torch.arange(len(label))
    if only:
        own = rows[label == label.mode().values]
        return own[rows % len(own)]
    for number in set(label.tolist()):
        own = rows[label == number]
        rows[label == number] = own[torch.arange(len(own)) % few]
    return rows
