from collections import Counter

import numpy as np
import pytest

from medvision.augment.sequence import SequenceAugment
from medvision.errors import MedvisionError

ALL = SequenceAugment(crop=6, drop=0.3, reverse=True)
LENGTHS = np.array([1, 5, 6, 9, 40])


def drawn(augment, epoch=0, seed=0, indices=range(5), lengths=LENGTHS):
    return [each.tolist() for each in augment.draw(seed, epoch, np.array(indices), lengths)]


def test_a_series_draws_the_same_in_any_batch():
    together = drawn(ALL, epoch=3)
    for number, length in enumerate(LENGTHS):
        assert drawn(ALL, 3, indices=[number], lengths=[length]) == [together[number]]


def test_seed_epoch_and_index_each_draw_anew():
    first = drawn(ALL)
    assert first == drawn(ALL)
    assert first != drawn(ALL, epoch=1)
    assert first != drawn(ALL, seed=1)
    assert first != drawn(ALL, indices=range(5, 10))


def test_off_is_every_slice_in_order():
    none = SequenceAugment()
    assert not none.changes
    assert drawn(none) == [list(range(length)) for length in LENGTHS]


def test_a_crop_is_a_run_that_starts_anywhere():
    crop, starts = SequenceAugment(crop=4), Counter()
    for epoch in range(300):
        (run,) = drawn(crop, epoch, indices=[7], lengths=[6])
        assert run == list(range(run[0], run[0] + 4))
        starts[run[0]] += 1
    assert sorted(starts) == [0, 1, 2]
    assert min(starts.values()) > 60
    assert drawn(crop, indices=[7], lengths=[3]) == [[0, 1, 2]]
    assert crop.shorten(LENGTHS).tolist() == [1, 4, 4, 4, 4]


def test_slices_are_dropped_in_proportion_and_one_stays():
    kept = [
        len(drawn(SequenceAugment(drop=0.3), e, indices=[1], lengths=[40])[0]) for e in range(50)
    ]
    assert abs(np.mean(kept) / 40 - 0.7) < 0.03
    last = Counter(drawn(SequenceAugment(drop=0.999), e, indices=[1], lengths=[3])[0][0]
                   for e in range(90))  # fmt: skip
    assert sorted(last) == [0, 1, 2]


def test_half_of_the_series_are_reversed():
    turned = [run[0] > run[-1] for e in range(200) for run in drawn(ALL, e)[3:]]
    assert 0.4 < np.mean(turned) < 0.6
    for run in drawn(ALL):
        assert run in (sorted(run), sorted(run, reverse=True))


def test_turning_one_change_on_leaves_the_others_their_draws():
    without = drawn(SequenceAugment(crop=6, drop=0.3))
    assert [sorted(run) for run in drawn(ALL)] == without


def test_values_that_cannot_be_are_told_together():
    with pytest.raises(MedvisionError) as told:
        SequenceAugment(crop=0, drop=1.0, reverse="no")
    for key in ("crop=0", "drop=1.0", "reverse='no'"):
        assert key in str(told.value)
