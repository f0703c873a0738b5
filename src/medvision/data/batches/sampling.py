"""Which rows make the batches of an epoch: a pure function of (seed, epoch)."""

from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from medvision.data.batches.mixing import Pool
from medvision.errors import MedvisionError

Indices = dict[str, Tensor]
_POOL = 8
"""Batches that series of like length are looked for in: more are more alike, and less shuffled."""


class Indexes(Dataset[Indices], Sized):
    """Answers a batch of indices with what is served for it.

    Args:
        serve: the indices themselves, or all that is gathered by them.
    """

    def __init__(self, serve: Callable[[Indices], Indices]) -> None:
        self.serve = serve

    def __len__(self) -> int:
        return 0

    def __getitem__(self, batch: Indices) -> Indices:
        return self.serve(batch)


class TrainingBatches(Sampler[Indices]):
    """Shuffled batches of `index`, `draw` and `epoch`, the same for the same seed and epoch.

    Each pass is the next epoch, from 0, unless `set_epoch` says which one.

    `draw` tells repeats of a row within one epoch apart, so that an oversampled image is augmented
    anew each time. The last, smaller batch is dropped (its rows come up in other epochs) unless it
    is the only one.

    Args:
        rows: the indices to draw from.
        weights: None takes every row once; otherwise as many rows are drawn with replacement, in
            proportion to these weights.
        lengths: of the samples the rows stand for: batches then hold samples of like length, and
            none is dropped: batches are made a little smaller instead.
        draws: rows drawn an epoch; None, and where there are `lengths`: as many as there are. More
            than that come in shuffled rounds, each row once a round.
        least: batches of an epoch where `draws` says nothing; fewer rows come in as many rounds as
            it takes, whole ones where there are `lengths`.
        pools: what an epoch takes instead of `rows`, which then only say how many steps it has;
            together `count_served` of `count_drawn` rows, of which none is dropped.
        rank, world: rank r takes every world-th batch of one global order.
    """

    def __init__(
        self, rows: np.ndarray, size: int, seed: int, *, weights: np.ndarray | None = None,
        lengths: np.ndarray | None = None, draws: int | None = None, least: int = 1,
        pools: Sequence[Pool] = (), rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        size = size if lengths is None else min(size, max(len(rows) // world, 1))
        if world > 1 and len(rows) < world * size:
            raise MedvisionError(
                f"{len(rows)} training rows do not give each of {world} devices a batch of {size}; "
                "lower data.batch_size or trainer.devices"
            )
        self.rows, self.size, self.seed, self.weights = rows, size, seed, weights
        self.lengths, self.rank, self.world = lengths, rank, world
        self.pools, self.epoch, self.rounds = pools, 0, 1
        if lengths is None:
            self.draws = draws or count_drawn(len(rows), size, least, world)
        else:
            self.rounds = -(-least // len(self))
            self.draws = self.rounds * len(rows)

    def set_epoch(self, epoch: int) -> None:
        """Choose the next pass's epoch; Lightning and Fabric call this before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.lengths is None:
            return _count_steps(self.draws, self.size, self.world)
        needed = -(-len(self.rows) // (self.size * self.world))
        return self.rounds * max(min(needed, len(self.rows) // self.world), 1)

    def __iter__(self) -> Iterator[Indices]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        random = np.random.default_rng([self.seed, epoch])
        rows = self.rows if not self.pools else self._mix(epoch)
        if self.weights is None:
            rounds = range(-(-self.draws // len(rows)))
            order = np.concatenate([random.permutation(len(rows)) for _ in rounds])[: self.draws]
        else:
            share = self.weights / self.weights.sum()
            order = random.choice(len(rows), size=self.draws, p=share)
        index = rows[order]
        draw = index + (self._highest() + 1) * count_repeats(index)
        batches = self._cut(order, random)[self.rank :: self.world]
        for chosen in batches[: len(self)]:
            yield {"index": torch.from_numpy(index[chosen]), "draw": torch.from_numpy(draw[chosen]),
                   "epoch": torch.tensor(epoch)}  # fmt: skip

    def _mix(self, epoch: int) -> np.ndarray:
        """Return what an epoch takes of each pool."""
        drawn = [p.draw(self.seed, n, epoch=epoch) for n, p in enumerate(self.pools)]
        return np.concatenate(drawn)

    def _highest(self) -> int:
        held = (self.rows, *(pool.rows for pool in self.pools))
        return max(int(rows.max()) for rows in held if len(rows))

    def _cut(self, order: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
        """Return the places in `order` of the batches of all ranks."""
        places, steps = np.arange(len(order)), len(self)
        if self.lengths is None:
            return [places[start : start + self.size] for start in range(0, len(order), self.size)]
        ends = np.linspace(0, len(order), steps * self.world + 1).astype(int)
        # Rounds stay apart, so that no series is twice in a batch.
        parts = self.rounds * -(-steps // (self.rounds * _POOL))
        pools = np.linspace(0, steps, parts + 1).astype(int) * self.world
        for low, high in pairwise(ends[pools]):
            places[low:high] = low + self.lengths[order[low:high]].argsort(kind="stable")
        batches = [places[low:high] for low, high in pairwise(ends)]
        # What the ranks take at one step stays together: batches of like length.
        first = self.world * random.permutation(steps)
        return [batches[start + rank] for start in first for rank in range(self.world)]


class OrderedBatches(Sampler[Indices]):
    """Every row once, in table order; nothing is dropped and nothing repeated.

    Batches are as small as it takes for every rank to have one.
    """

    def __init__(self, rows: np.ndarray, size: int, *, rank: int = 0, world: int = 1) -> None:
        if world > 1 and len(rows) < world:
            raise MedvisionError(
                f"{len(rows)} rows cannot be shared by {world} devices; lower trainer.devices"
            )
        size = min(size, len(rows) // world) if world > 1 else size
        starts = range(rank * size, len(rows), world * size)
        self.parts = [rows[start : start + size] for start in starts]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Indices]:
        for part in self.parts:
            yield {"index": torch.from_numpy(part)}


def _count_steps(rows: int, size: int, world: int = 1) -> int:
    """Return how many batches a rank takes of an epoch of images."""
    return max(rows // size // world, 1)


def count_drawn(rows: int, size: int, least: int, world: int = 1) -> int:
    """Return how many images an epoch draws: each once, or more where that makes too few steps."""
    return rows if _count_steps(rows, size, world) >= least else least * size * world


def count_served(rows: int, size: int, world: int = 1) -> int:
    """Return how many images an epoch takes: the last, smaller batch is dropped."""
    return min(rows, _count_steps(rows, size, world) * size * world)


def count_repeats(order: np.ndarray) -> np.ndarray:
    """Number the occurrences of each value along `order`: [7,3,7,7] → [0,0,1,2]."""
    by_value = np.argsort(order, kind="stable")
    ordered = order[by_value]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(order)])
    repeats = np.empty(len(order), dtype=np.int64)
    repeats[by_value] = np.arange(len(order)) - np.repeat(starts, lengths)
    return repeats
