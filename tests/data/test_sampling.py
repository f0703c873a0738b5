from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from medvision.data.sampling import Indexes, OrderedBatches, TrainingBatches, count_repeats

ROWS = np.array([3, 4, 9, 11, 12, 20, 21, 22, 30, 31])


def drawn(sampler, key="index"):
    return [batch[key].tolist() for batch in sampler]


def at(epoch, seed=0, **options):
    sampler = TrainingBatches(ROWS, 3, seed, **options)
    sampler.set_epoch(epoch)
    return drawn(sampler)


def test_the_order_is_a_pure_function_of_seed_and_epoch():
    assert at(4) == at(4)
    assert at(4) != at(5)
    assert at(4) != at(4, seed=1)
    sampler = TrainingBatches(ROWS, 3, 0)
    first = drawn(sampler)
    assert drawn(sampler) == first  # the epoch decides, not how often it was asked


def test_an_epoch_takes_no_row_twice_and_drops_only_the_smaller_last_batch():
    batches = at(0)
    assert [len(batch) for batch in batches] == [3, 3, 3]
    rows = [row for batch in batches for row in batch]
    assert len(set(rows)) == 9
    assert set(rows) < set(ROWS.tolist())
    assert {row for epoch in range(20) for batch in at(epoch) for row in batch} == {*ROWS}


def test_fewer_rows_than_a_batch_are_one_smaller_batch():
    sampler = TrainingBatches(ROWS[:2], 8, 0)
    assert len(sampler) == len(list(sampler)) == 1
    assert sorted(drawn(sampler)[0]) == [3, 4]


def test_the_ranks_together_are_the_order_of_one():
    rows, alone = np.arange(24), drawn(TrainingBatches(np.arange(24), 3, 7))
    ranks = [drawn(TrainingBatches(rows, 3, 7, rank=r, world=2)) for r in range(2)]
    assert [batch for pair in zip(*ranks, strict=True) for batch in pair] == alone
    ranks = [drawn(OrderedBatches(rows, 3, rank=r, world=2)) for r in range(2)]
    assert [b for pair in zip(*ranks, strict=True) for b in pair] == drawn(OrderedBatches(rows, 3))


def test_ranks_of_an_uneven_epoch_take_equally_many_batches():
    ranks = [list(TrainingBatches(np.arange(15), 3, 0, rank=r, world=2)) for r in range(2)]
    assert [len(batches) for batches in ranks] == [2, 2]  # the fifth batch is left out


def test_weights_draw_in_proportion():
    label = np.repeat([0, 1], [90, 10])
    weights = np.where(label == 1, 9.0, 1.0)
    counts = np.zeros(2)
    for seed in range(30):
        sampler = TrainingBatches(np.arange(100), 10, seed, weights=weights)
        counts += np.bincount(label[np.concatenate(drawn(sampler))], minlength=2)
    assert counts.sum() == 3000
    assert abs(counts[1] / 3000 - 0.5) < 0.05


def test_repeats_of_a_row_have_draws_of_their_own():
    weights = np.where(ROWS == 9, 50.0, 1.0)
    sampler = TrainingBatches(ROWS, 3, 0, weights=weights)
    index, draw = (np.concatenate(drawn(sampler, key)).tolist() for key in ("index", "draw"))
    assert Counter(index)[9] > 3
    assert len(set(draw)) == len(draw)
    by_row = {row: [d for i, d in zip(index, draw, strict=True) if i == row] for row in index}
    assert all(draws[0] == row for row, draws in by_row.items())  # the first draw is the row's own


def test_without_weights_the_draw_is_the_row():
    sampler = TrainingBatches(ROWS, 3, 0)
    assert drawn(sampler) == drawn(sampler, "draw")


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ordered_batches_hold_every_row_once(world):
    parts = [OrderedBatches(ROWS, 4, rank=r, world=world) for r in range(world)]
    assert sorted(row for part in parts for batch in drawn(part) for row in batch) == [*ROWS]
    assert all(len(part) == len(drawn(part)) for part in parts)


def test_no_rows_are_no_batches():
    assert drawn(OrderedBatches(ROWS[:0], 4)) == []


def test_a_loader_hands_the_batches_through():
    loader = DataLoader(Indexes(), sampler=OrderedBatches(ROWS, 4), batch_size=None)
    assert [batch["index"].tolist() for batch in loader] == drawn(OrderedBatches(ROWS, 4))


@pytest.mark.parametrize(
    ("order", "repeats"),
    [([7, 3, 7, 7], [0, 0, 1, 2]), ([5], [0]), ([1, 1, 2, 2], [0, 1, 0, 1])],
)
def test_repeats_are_counted_along_the_order(order, repeats):
    assert count_repeats(np.array(order)).tolist() == repeats


LENGTHS = np.random.default_rng(0).integers(1, 60, 203)
SERIES = 7 * np.arange(203)


def bucketed(epoch=0, seed=0, size=8, **options):
    sampler = TrainingBatches(SERIES, size, seed, lengths=LENGTHS, **options)
    sampler.set_epoch(epoch)
    batches = drawn(sampler)
    assert len(batches) == len(sampler)
    return batches


def padding(batches):
    """Padded places over slices."""
    length = dict(zip(SERIES.tolist(), LENGTHS.tolist(), strict=True))
    padded = sum(len(batch) * max(length[row] for row in batch) for batch in batches)
    return padded / LENGTHS.sum()


@pytest.mark.parametrize("size", [1, 8, 100, 500])
def test_every_series_comes_once_an_epoch_in_batches_of_like_size(size):
    batches = bucketed(size=size)
    assert sorted(row for batch in batches for row in batch) == SERIES.tolist()
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_series_of_like_length_come_together_yet_shuffled():
    assert padding(bucketed()) < 1.25 < 1.6 < padding(drawn(TrainingBatches(SERIES, 8, 0)))
    assert bucketed(3) == bucketed(3)
    assert bucketed(3) != bucketed(4)
    assert bucketed(3) != bucketed(3, seed=1)
    partners = {row for epoch in range(40) for b in bucketed(epoch) if SERIES[5] in b for row in b}
    assert len(partners) > 40  # not always the same few
    longest = SERIES[LENGTHS.argmax()]
    places = {next(n for n, b in enumerate(bucketed(e)) if longest in b) for e in range(40)}
    assert len(places) > 10


@pytest.mark.parametrize(("size", "world"), [(8, 2), (8, 3), (1, 2), (100, 2)])
def test_ranks_share_all_series_in_equally_many_batches(size, world):
    ranks = [bucketed(5, size=size, rank=r, world=world) for r in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    assert sorted(row for batches in ranks for b in batches for row in b) == SERIES.tolist()


def test_series_of_few_more_than_ranks_still_go_round():
    few = [TrainingBatches(np.arange(3), 1, 0, lengths=np.ones(3), rank=r, world=2) for r in (0, 1)]
    assert sorted(row for each in few for batch in drawn(each) for row in batch) == [0, 1, 2]


def test_oversampled_series_have_draws_of_their_own():
    sampler = TrainingBatches(SERIES, 8, 0, lengths=LENGTHS, weights=LENGTHS.astype(float))
    draws = np.concatenate(drawn(sampler, "draw"))
    assert len(draws) == len(set(draws.tolist())) == 203
    assert len(set(np.concatenate(drawn(sampler)).tolist())) < 203
