"""Random change of the order of a training series: which of its slices are served, and how."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medvision.errors import MedvisionError, collect

Ints = NDArray[np.int64]
_STREAM = 5  # apart from the streams of order and of images


@dataclass(frozen=True)
class SequenceAugment:
    """Random change of training series; null, 0 or false = off.

    Args:
        crop: Slices kept of a longer series: a run that starts anywhere.
        drop: Probability of each slice to be left out; one always stays.
        reverse: Half of the series are read from their end: only where direction has no meaning.

    Raises:
        MedvisionError: A value is out of its range or not of its kind; all are named at once.
    """

    crop: int | None = None
    drop: float = 0.0
    reverse: bool = False

    def __post_init__(self) -> None:
        crop, drop, reverse = (vars(self)[key] for key in ("crop", "drop", "reverse"))
        problems = []
        if crop is not None and (type(crop) is not int or crop < 1):
            problems.append(f"crop={crop!r} is no whole number from 1, nor null")
        if type(drop) not in (int, float) or not 0 <= drop < 1:
            problems.append(f"drop={drop!r} is no number from 0 to below 1")
        if type(reverse) is not bool:
            problems.append(f"reverse={reverse!r} is neither true nor false")
        if problems:
            raise collect("data.sequence", problems, "Mend these keys.")

    @property
    def changes(self) -> bool:
        """Whether any change is on."""
        return self.crop is not None or self.drop > 0 or self.reverse

    def shorten(self, lengths: Ints) -> Ints:
        """Return how long series will be at most, before slices are dropped."""
        return lengths if self.crop is None else np.minimum(lengths, self.crop)

    def draw(
        self, seed: int, epoch: int, indices: Ints, lengths: Sequence[int] | Ints
    ) -> list[Ints]:
        """Draw the slices of each series, a pure function of (seed, epoch, index).

        Args:
            seed: Of the run, ≥ 0.
            epoch: ≥ 0.
            indices: `[B]` ≥ 0.
            lengths: `[B]` ≥ 1.

        Returns:
            Of each series the numbers of its slices to serve, at least one, ascending, or
            descending where it is reversed.

        Raises:
            MedvisionError: A series without slices.
        """
        if min(lengths, default=1) < 1:
            raise MedvisionError("A series without slices cannot be augmented.")
        pairs = zip(np.asarray(indices).tolist(), np.asarray(lengths).tolist(), strict=True)
        return [self._draw_one([_STREAM, seed, epoch, index], length) for index, length in pairs]

    def _draw_one(self, key: list[int], length: int) -> Ints:
        # One place in the stream for each quantity: turning one on never changes another's.
        unit = np.random.default_rng(key).random(3 + length)
        size = min(length, self.crop or length)
        begin = int(unit[0] * (length - size + 1))
        run = np.arange(begin, begin + size)
        stays = unit[3 + run] >= self.drop
        stays[int(unit[1] * size)] |= not stays.any()
        kept = run[stays]
        return kept[::-1] if self.reverse and unit[2] < 0.5 else kept
