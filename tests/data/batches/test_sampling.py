from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader

from medvision.data.batches.mixing import mix
from medvision.data.batches.sampling import (
    Indexes,
    OrderedBatches,
    TrainingBatches,
    count_repeats,
    count_served,
)
from medvision.errors import MedvisionError

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


def test_each_pass_is_the_next_epoch_unless_one_is_chosen():
    sampler = TrainingBatches(ROWS, 3, 0)
    assert [drawn(sampler) for _ in range(3)] == [at(0), at(1), at(2)]
    sampler.set_epoch(7)
    assert [drawn(sampler), drawn(sampler)] == [at(7), at(8)]
    side_by_side = [(a["epoch"], b["epoch"]) for a, b in zip(sampler, sampler, strict=True)]
    assert {(int(a), int(b)) for a, b in side_by_side} == {(9, 10)}


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


def test_few_rows_come_in_rounds_until_an_epoch_has_its_least_steps():
    sampler = TrainingBatches(ROWS, 3, 0, least=8)
    batches = drawn(sampler)
    assert [len(batch) for batch in batches] == [3] * len(sampler) == [3] * 8
    assert set(Counter(row for batch in batches for row in batch).values()) == {2, 3}
    draws = [draw for batch in drawn(sampler, "draw") for draw in batch]
    assert len(set(draws)) == 24  # each is changed anew
    assert len(TrainingBatches(ROWS, 3, 0, least=3)) == len(TrainingBatches(ROWS, 3, 0)) == 3
    assert len(TrainingBatches(ROWS, 3, 0, least=8, draws=9)) == 3
    assert len(TrainingBatches(ROWS[:2], 8, 0, least=4)) == 4


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
    batches = list(sampler)
    index, draw = (np.concatenate(drawn(batches, key)).tolist() for key in ("index", "draw"))
    assert Counter(index)[9] > 3
    assert len(set(draw)) == len(draw)
    by_row = {row: [d for i, d in zip(index, draw, strict=True) if i == row] for row in index}
    assert all(draws[0] == row for row, draws in by_row.items())  # the first draw is the row's own


def test_without_weights_the_draw_is_the_row():
    sampler = TrainingBatches(ROWS, 3, 0)
    batches = list(sampler)
    assert drawn(batches) == drawn(batches, "draw")


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ordered_batches_hold_every_row_once(world):
    parts = [OrderedBatches(ROWS, 4, rank=r, world=world) for r in range(world)]
    assert sorted(row for part in parts for batch in drawn(part) for row in batch) == [*ROWS]
    assert all(len(part) == len(drawn(part)) for part in parts)


def test_no_rows_are_no_batches():
    assert drawn(OrderedBatches(ROWS[:0], 4)) == []


def test_a_loader_hands_the_batches_through():
    loader = DataLoader(Indexes(dict), sampler=OrderedBatches(ROWS, 4), batch_size=None)
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


def test_few_series_come_in_whole_rounds_and_never_twice_in_a_batch():
    batches = bucketed(size=32, least=16)
    assert len(batches) == 21  # three rounds of seven
    assert set(Counter(row for batch in batches for row in batch).values()) == {3}
    assert all(len(batch) == len(set(batch)) for batch in batches)
    assert len(TrainingBatches(SERIES[:5], 16, 0, lengths=LENGTHS[:5], least=16)) == 16


REAL, MADE = np.arange(100), 1000 + np.arange(37)
LABEL = np.zeros(1037, dtype=int)


def mixed(ratio, epoch=0, size=16, seed=0, label=LABEL, made=MADE, **ranks):
    """The batches of an epoch of real rows, below 1000, and generated ones."""
    total = count_served(len(REAL), size, ranks.get("world", 1))
    pools = mix(ratio, REAL, made, total, None if label is None else (label, ["a", "b"]))
    sampler = TrainingBatches(REAL, size, seed, pools=pools, **ranks)
    sampler.set_epoch(epoch)
    return sampler


@pytest.mark.parametrize(
    ("ratio", "made"), [(0.25, 19), (0.5, 32), (1, 48), (3.0, 72), ("only", 96), (0, 0)]
)
def test_an_epoch_holds_exactly_the_ratio_in_the_steps_of_the_real_rows(ratio, made):
    alone = TrainingBatches(REAL, 16, 0)
    for epoch in range(4):
        batches = drawn(mixed(ratio, epoch))
        assert len(batches) == len(alone) == 6
        rows = np.concatenate(batches)
        assert (rows >= 1000).sum() == made
        assert len(rows) == 96
        assert max(Counter(rows[rows < 1000].tolist()).values(), default=1) == 1
    assert drawn(mixed(ratio, 3)) == drawn(mixed(ratio, 3))
    assert drawn(mixed(ratio, 3)) != drawn(mixed(ratio, 3, seed=1))
    assert drawn(mixed(ratio, 3)) != drawn(mixed(ratio, 2))


def test_real_and_generated_rows_come_mixed():
    shares = [np.mean(np.array(batch) >= 1000) for e in range(20) for batch in drawn(mixed(1, e))]
    assert 0.4 < np.mean([share > 0.5 for share in shares]) + np.mean(np.array(shares) == 0.5) < 1
    assert max(shares) < 1 > min(shares) > 0


def test_all_generated_rows_come_up_equally_often():
    counts = Counter()
    for epoch in range(37):
        counts.update(row for batch in drawn(mixed(0.25, epoch)) for row in batch if row >= 1000)
        assert max(counts.values()) - min(counts.get(row, 0) for row in MADE.tolist()) <= 1
    assert set(counts.values()) == {19}


def test_generated_rows_that_repeat_have_draws_of_their_own():
    draws = np.concatenate(drawn(mixed(1), "draw"))
    assert len(set(draws.tolist())) == 96
    assert len(set(np.concatenate(drawn(mixed(1))).tolist())) == 48 + 37


def test_the_ranks_share_one_mixed_epoch():
    alone = [batch for batch in drawn(mixed(0.5, 2, size=8)) if batch]
    ranks = [drawn(mixed(0.5, 2, size=8, rank=r, world=3)) for r in range(3)]
    assert [batch for step in zip(*ranks, strict=True) for batch in step] == alone
    assert {len(batches) for batches in ranks} == {4}


def test_balance_fills_the_rarer_class_up_with_generated_rows():
    label = LABEL.copy()
    label[:10] = 1  # ten real rows of b, ninety of a
    label[1000:1030] = 1
    for epoch in range(5):
        rows = np.concatenate(drawn(mixed("balance", epoch, label=label)))
        found = Counter((int(label[row]), bool(row >= 1000)) for row in rows)
        assert found == {(0, False): 48, (1, False): 5, (1, True): 43}
        assert max(Counter(rows[rows < 1000].tolist()).values()) == 1


def test_balance_without_generated_rows_of_the_rarer_class_is_refused():
    label = LABEL.copy()
    label[:10] = 1
    told = r"extra_ratio=balance fills b up with generated images, and data\.extra has none"
    with pytest.raises(MedvisionError, match=told):
        mixed("balance", label=label)
    with pytest.raises(MedvisionError, match="images of one label each"):
        mixed("balance", label=None)


def test_fewer_real_rows_than_a_batch_are_mixed_too():
    (batch,) = drawn(mixed(1, size=500))
    assert Counter(row >= 1000 for row in batch) == {False: 50, True: 50}
