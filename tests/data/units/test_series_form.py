import re

import numpy as np
import pandas as pd
import pytest
import torch

from medvision.data.units.series import add_difference, drop_difference, pad_series
from medvision.data.units.series_form import (
    SeriesForm,
    check_series,
    note_sizes,
    refuse_torn,
)
from medvision.data.units.slices import index_slices
from medvision.data.units.unit import join_channels
from medvision.errors import MedvisionError


def make(lengths, channels=("",), **columns):
    """A series a patient, slices in order; `p0` has `lengths[0]` slices, and so on."""
    rows = [
        {"patient": f"p{n}", "series": f"s{n}", "position": at, "channel": channel}
        for n, length in enumerate(lengths)
        for at in range(length)
        for channel in channels
    ]
    table = pd.DataFrame(rows).assign(dataset="toy", label="a", split="", **columns)
    return table.astype({"position": "Int64"})


def shuffled(table, seed=0):
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def refused(table, form=SeriesForm(), **options):  # noqa: B008
    with pytest.raises(MedvisionError) as told:
        check_series(table, form, **options)
    return str(told.value)


def indexed(table, **options):
    kept, form, _ = check_series(table, SeriesForm(**options))
    return index_slices(kept.reset_index(drop=True), form)


def orders(table, slices):
    """`(patient, positions)` of each series as it is served."""
    strips = [slices.lay_out(np.array([first])) for first in slices.first]
    return {
        table["patient"][s.rows[0, 0]]: table["position"][s.rows[:, 0]].tolist() for s in strips
    }


def test_slices_come_by_position_wherever_their_rows_stand():
    table = shuffled(make([4, 1, 3]))
    slices = indexed(table)
    assert orders(table, slices) == {"p0": [0, 1, 2, 3], "p1": [0], "p2": [0, 1, 2]}
    assert slices.first.tolist() == sorted(slices.first)  # samples in the order of their rows
    assert slices.lengths(slices.first).sum() == len(table)
    assert sorted(slices.own.tolist()) == list(range(8))


def test_series_of_two_datasets_may_share_a_name():
    table = pd.concat([make([2]), make([3]).assign(dataset="other")], ignore_index=True)
    assert indexed(table).lengths(indexed(table).first).tolist() == [2, 3]


def test_channels_come_in_the_order_asked_for():
    table = shuffled(make([3, 2], channels=("ES", "ED")))
    slices = indexed(table, channels=["ED", "ES"])
    for rows in slices.rows[:, 0]:
        assert table["channel"][rows].tolist() == ["ED", "ES"]
        assert table["position"][rows].nunique() == 1
        assert table["series"][rows].nunique() == 1
    assert slices.form.width(colours=1) == 2


def test_without_a_wish_channels_come_as_they_first_appear_and_that_is_said():
    _, form, notes = check_series(make([2], channels=("t2", "flair")), SeriesForm())
    assert form.channels == ("t2", "flair")
    assert "channels are t2, flair, as they first appear" in notes[0]


def test_rows_of_other_channels_are_left_out_and_counted():
    kept, form, notes = check_series(make([3], ("a", "b", "c")), SeriesForm(channels=("c", "a")))
    assert kept["channel"].unique().tolist() == ["a", "c"]
    assert form.channels == ("c", "a")
    assert "3 rows of other channels" in notes[0]


def test_neighbours_are_channels_and_the_edge_is_repeated():
    slices = indexed(make([4, 1]), neighbours=2)
    around = slices.rows[:, :, 0]
    assert around[:4].tolist() == [
        [0, 0, 0, 1, 2],
        [0, 0, 1, 2, 3],
        [0, 1, 2, 3, 3],
        [1, 2, 3, 3, 3],
    ]
    assert around[4].tolist() == [4] * 5  # never a slice of another series
    assert slices.own.tolist() == list(range(5))
    assert slices.form.width(colours=3) == 15


def test_reading_backwards_turns_neighbours_too():
    slices = indexed(make([4]), neighbours=1)
    strips = slices.lay_out(np.array([0]), [np.array([3, 1])])
    assert strips.rows.tolist() == [[3, 3, 2], [2, 1, 0]]


@pytest.mark.parametrize(("column", "unit"), [("position_mm", "mm"), ("time_s", "s")])
def test_steps_are_distances_and_the_first_is_their_median(column, unit):
    table = make([4, 3]).assign(**{column: [0, 2, 5, 9, 30.0, 25.0, 20.0]})
    slices = indexed(shuffled(table))
    assert slices.measure == [unit] * 2
    steps = {
        len(s): s for s in (slices.lay_out(np.array([f])).entries["step"][0] for f in slices.first)
    }
    assert steps[4].tolist() == [3, 2, 3, 4]
    assert steps[3].tolist() == [5, 5, 5]  # descending is a direction, not a distance
    assert f"steps of series are in {unit} for 2" in slices.describe()


@pytest.mark.parametrize("place", [[0, 2, np.nan, 6], [0, 2, 2, 4], [0, 2, 1, 4]])
def test_steps_that_are_not_known_throughout_are_1_and_that_is_said(place):
    slices = indexed(make([4], position_mm=np.array(place, float)))
    assert slices.lay_out(np.array([0])).entries["step"].tolist() == [[1, 1, 1, 1]]
    assert "steps of series are 1 a slice for 1" in slices.describe()[-1]


def test_a_dropped_slice_adds_its_distance_to_the_next():
    slices = indexed(make([5], position_mm=np.array([0, 1, 3, 6, 10.0])))
    strips = slices.lay_out(np.array([0]), [np.array([0, 2, 4])])
    assert strips.entries["step"].tolist() == [[5, 3, 7]]
    assert indexed(make([5])).lay_out(np.array([0]), [np.array([4, 1])]).entries[
        "step"
    ].tolist() == [[3, 3]]
    assert slices.lay_out(np.array([0]), [np.array([1])]).entries["step"].tolist() == [[2.5]]


def test_sampling_every_third_frame_is_no_gap():
    table = make([4])
    slices = indexed(table.assign(position=table["position"] * 3))
    assert slices.lay_out(np.array([0])).entries["step"].tolist() == [[1, 1, 1, 1]]


def test_a_batch_is_padded_to_its_longest_series():
    slices = indexed(make([2, 4, 1]))
    strips = slices.lay_out(slices.first)
    assert strips.entries["length"].tolist() == [2, 4, 1]
    assert strips.slots["slot"].tolist() == [0, 1, 4, 5, 6, 7, 8]
    assert strips.entries["step"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    image = torch.arange(1.0, 8)[:, None, None, None].expand(7, 2, 3, 3)
    padded = pad_series(image, torch.from_numpy(strips.slots["slot"]), strips.entries["step"].shape)
    assert padded.shape == (3, 4, 2, 3, 3)
    assert padded[:, :, 1, 2, 2].tolist() == [[1, 2, 0, 0], [3, 4, 5, 6], [7, 0, 0, 0]]


def test_long_series_are_thinned_evenly_and_that_is_said():
    table = make([1000, 3], position_mm=np.r_[np.arange(1000.0), 0, 1, 2])
    kept, form, notes = check_series(table, SeriesForm(max_slices=10, neighbours=1))
    slices = index_slices(kept, form)
    assert slices.position[:10].tolist() == [0, 111, 222, 333, 444, 555, 666, 777, 888, 999]
    assert slices.rows[1, :, 0].tolist() == [110, 111, 112]  # neighbours as they were scanned
    assert slices.lay_out(slices.first).entries["step"][:, :3].tolist() == [[111] * 3, [1] * 3]
    assert notes == ["1 series of up to 1000 slices were thinned evenly to 10 (data.max_slices)"]


def test_one_slice_and_a_thousand_are_series():
    slices = indexed(make([1, 1000]).assign(position=lambda t: t["position"].mask(t.index == 0)))
    assert slices.describe()[:2] == [
        "2 series of 1 to 1000 slices (median 500.5)",
        "1 of them have one slice, whose step is 1",
    ]
    assert indexed(make([4, 4])).describe()[0] == "2 series of 4 slices"


def gap(table):
    return table.drop(index=2).reset_index(drop=True)


def no_channel(table):
    return table[~((table["position"] == 1) & (table["channel"] == "y"))].reset_index(drop=True)


@pytest.mark.parametrize(
    ("break_it", "channels", "told"),
    [
        (gap, ("",), r"series 's0' has none between 1 and 3\).*data\.on_gap=exclude"),
        (no_channel, ("x", "y"), r"series 's0' has no y at 1, 's1' has no y at 1\)"),
        (lambda t: t.assign(patient=[*"qr", *t["patient"][2:]]), ("",),
         r"belongs to one patient \(series 's0' of 3 patients\): mend `patient`"),
        (lambda t: t.assign(position=t["position"].replace(3, 2)), ("",),
         r"position is there twice \(series 's0' at 2\): tell them apart with columns\.channel"),
        (lambda t: t.assign(position=t["position"].mask(t["position"] == 1)), ("",),
         r"no `position` \(series 's0' in 1 rows, 's1' in 1 rows\): say columns\.position=NAME"),
        (lambda t: t.drop(columns="position"), ("",), r"series 's0' in 4 rows, 's1' in 2 rows"),
        (lambda t: t.assign(label=[*"aba", *t["label"][3:]]), ("",),
         r"must agree on `label` \(series 's0' says a and b\).*a `series_label` column"),
        (lambda t: t.assign(series_label=[*"abb", *"a" * (len(t) - 3)]), ("",),
         r"must agree on `series_label` \(series 's0' says a and b\)"),
        (lambda t: t.assign(series_label="a", label=[*"ab", *"a" * (len(t) - 2)]), ("x", "y"),
         r"channels of a slice must agree on `label` \(series 's0' says a and b\)"),
        (lambda t: t.assign(series=["", *t["series"][1:]]), ("",), r"1 of 6 rows have no `series`"),
        (lambda t: t.assign(series=""), ("",), r"say columns\.series=NAME"),
    ],
)  # fmt: skip
def test_each_fault_is_a_sentence_with_the_series(break_it, channels, told):
    message = refused(break_it(make([4, 2], channels)))
    assert re.search(told, message), message


def test_all_faults_are_told_at_once():
    table = make([4, 2, 4, 2])
    table.loc[0, "patient"] = "other"
    table.loc[4, "position"] = 1
    message = refused(table.drop(index=7))
    for told in ("belongs to one patient", "there twice (series 's1' at 1)", "'s2' has none"):
        assert told in message
    assert "data.unit=image" in message


def test_many_faults_are_counted():
    table = make([4] * 40)  # of which the second slice is gone
    assert "'s12' has none between 0 and 2 and 35 more)" in refused(table[table["position"] != 1])


def test_a_gap_can_be_left_out_or_served():
    table = gap(make([4, 2]))
    kept, _, notes = check_series(table, SeriesForm(on_gap="exclude"))
    assert kept["series"].unique().tolist() == ["s1"]
    assert "'s0' has none between 1 and 3): 1 series were left out" in notes[0]
    kept, form, notes = check_series(table, SeriesForm(on_gap="keep"))
    assert len(kept) == 5
    assert "1 series serve what is there" in notes[0]
    assert index_slices(kept, form).lay_out(np.array([0])).entries["step"].tolist() == [[1.5, 1, 2]]
    assert "no series is left of 1" in refused(gap(make([4])), SeriesForm(on_gap="exclude"))


def test_a_slice_that_lacks_a_channel_can_go():
    table = no_channel(make([3, 2], ("x", "y")))
    kept, form, _ = check_series(table, SeriesForm(on_gap="keep"))
    slices = index_slices(kept.reset_index(drop=True), form)
    assert slices.lengths(slices.first).tolist() == [2, 1]


def test_unreadable_slices_are_a_gap_even_at_the_end():
    whole = make([4, 2])
    told = refused(whole.drop(index=3), whole=whole)
    assert "'s0' lost 1 unreadable" in told
    kept = check_series(whole.drop(index=3), SeriesForm(on_gap="exclude"), whole).table
    assert kept.index.tolist() == [4, 5]


def test_a_series_without_any_wanted_channel_is_no_silent_loss():
    table = make([2, 2], ("x",))
    table.loc[table["series"] == "s1", "channel"] = "y"
    assert "'s1' has none of x" in refused(table, SeriesForm(channels=("x",)))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"channels": ["ED", "ESS"]}, r"knows no 'ESS' \(did you mean 'ES'\?\).*there are ED, ES"),
        ({"difference": True, "channels": ["ED"]}, r"needs two channels, not ED; name two"),
    ],
)
def test_channels_that_cannot_be_are_refused(options, told):
    with pytest.raises(MedvisionError, match=told):
        check_series(make([2], ("ED", "ES")), SeriesForm(**options))


def test_settings_that_cannot_be_are_told_together():
    with pytest.raises(MedvisionError) as told:
        SeriesForm(channels=["a", "a"], neighbours=-1, max_slices=0, on_gap="ask")
    for key in ("channels=[a, a]", "neighbours=-1", "max_slices=0", "on_gap=ask"):
        assert key in str(told.value)


def test_the_form_comes_back_from_plain_types():
    form = SeriesForm(channels=["ED", "ES"], neighbours=1, difference=True, max_slices=40)
    assert SeriesForm(**form.contract()) == form
    assert form.contract()["channels"] == ["ED", "ES"]


def test_a_split_that_tears_a_series_is_refused():
    table = make([4, 3])
    refuse_torn(table, table[table["series"] == "s1"])
    with pytest.raises(MedvisionError, match=r"tear \(series 's0'\): give all slices"):
        refuse_torn(table, table.drop(index=0))


def test_two_sizes_in_a_series_are_noted():
    sizes = [(8, 8), (8, 8), (8, 8), (9, 8), None]
    (note,) = note_sizes(make([2, 3]), sizes)
    assert note == "slices of a series differ in size (series 's1' of 8x8 and 9x8): " + (
        "data.reader made them alike"
    )


def test_rows_become_channels_and_their_difference_follows_them():
    pixels = torch.randint(0, 255, (2 * 6, 4, 5, 1), dtype=torch.uint8)
    image = join_channels(pixels, 6)  # three neighbours of two channels
    assert image.shape == (2, 4, 5, 6)
    assert torch.equal(image[1, :, :, 3], pixels[9, :, :, 0])
    form = SeriesForm(channels=("a", "b"), neighbours=1, difference=True)
    planes = image.permute(0, 3, 1, 2).float()
    joined = add_difference(planes, form)
    assert joined.shape[1] == form.width(colours=1) == 9
    for n in range(3):
        a, b, apart = joined[:, 3 * n : 3 * n + 3].unbind(1)
        assert torch.equal(a, planes[:, 2 * n])
        assert torch.equal(apart, (a - b).abs())
    assert torch.equal(drop_difference(joined, form), planes)
    assert drop_difference(planes, SeriesForm()) is planes
