import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvision.data.splits.groups import connect, fold_by_patient, split_by_patient
from medvision.data.splits.leaks import find_shared
from medvision.data.splits.splits import assign_splits as assign
from medvision.errors import MedvisionError
from medvision.files import digest
from medvision.identity import patient_keys

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def make_table(patients, labels=None, split="", **columns):
    n = len(patients)
    return pd.DataFrame(
        {
            "path": [f"{row:05d}.png" for row in range(n)],
            "frame": 0,
            "dataset": "made",
            "patient": list(patients),
            "label": list(labels) if labels is not None else ["ab"[row % 2] for row in range(n)],
            "split": split,
            "origin": "real",
            **columns,
        }
    )


def assign_splits(table, digests, **asked):
    """Parts that are alike in the label."""
    return assign(table, digests, table["label"], **asked)


def unique_digests(table):
    return [f"d{row}" for row in range(len(table))]


def assert_apart(table, digests):
    assert find_shared(patient_keys(table), table["split"]) == []
    assert find_shared(np.asarray(digests, dtype=object)[table.index], table["split"]) == []


rows = st.lists(
    st.tuples(
        st.sampled_from([f"p{number}" for number in range(25)]),
        st.sampled_from([f"d{number}" for number in range(60)]),
        st.sampled_from(["", "a", "b", "a|b"]),
        st.sampled_from(["train", "val", "test"]),
        st.sampled_from(["", "g1", "g2"]),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=120, deadline=None)
@given(rows, st.sampled_from(["patient", "given", "fold"]), st.integers(0, 3))
def test_no_patient_and_no_copy_lies_in_two_parts(rows, mode, seed):
    patients, digests, labels, split, groups = zip(*rows, strict=True)
    table = make_table(patients, labels, list(split), group=list(groups))
    asked = {"mode": "given", "on_leak": "drop"} if mode == "given" else {"mode": "patient"}
    asked |= {"fold": 1, "folds": 3} if mode == "fold" else {}
    try:
        result, audit = assign_splits(table, digests, split_seed=seed, **asked)
    except MedvisionError as refusal:
        refused = str(refusal)
    else:
        refused = ""
    if refused:
        assert re.search("cannot (fill|make)|leaves (train|val) empty", refused)
        return
    assert_apart(result, digests)
    assert audit.remaining == {"patients": 0, "images": 0}
    assert len(result) + sum(audit.dropped.values()) == len(table)
    if mode == "given":
        assert (split.count("test")) == (result["split"] == "test").sum()
    else:
        assert len(result) == len(table)
        assert result.groupby("group")["split"].nunique().max() == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([None, 2]))
def test_the_order_of_the_rows_does_not_matter(seed, fold):
    rng = np.random.default_rng(seed)
    table = make_table(rng.integers(0, 60, 300).astype(str), rng.choice(["", "a", "b", "a|b"], 300))
    digests = rng.integers(0, 4000, 300).astype(str)
    shuffled = rng.permutation(300)
    straight, _ = assign_splits(table, digests, fold=fold)
    mixed, _ = assign_splits(table.iloc[shuffled], digests[shuffled], fold=fold)
    pd.testing.assert_frame_equal(mixed.loc[straight.index], straight)


def test_hashing_patients_with_another_key_keeps_the_split():
    table = make_table((np.arange(300) // 3).astype(str))
    renamed = table.assign(patient=[digest(name)[:12] for name in table["patient"]])
    one, _ = assign_splits(table, unique_digests(table))
    other, _ = assign_splits(renamed, unique_digests(table))
    assert one["split"].tolist() == other["split"].tolist()


def test_connect_follows_chains_and_numbers_by_first_appearance():
    assert connect(["a", "b", "", "c", ""], ["x", "y", "y", "x", ""]).tolist() == [0, 1, 1, 0, 2]
    assert connect(["a", "b"], ["b", "a"]).tolist() == [0, 1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef "), st.sampled_from("uvwxyz ")), max_size=25))
def test_connect_agrees_with_a_plain_search(pairs):
    keys = [tuple(key.strip() for key in pair) for pair in pairs]
    found = list(range(len(keys)))
    for _ in keys:
        for i, one in enumerate(keys):
            for j, other in enumerate(keys):
                if any(a == b != "" for a, b in zip(one, other, strict=True)):
                    found[i] = found[j] = min(found[i], found[j])
    expected = pd.factorize(np.array(found))[0].tolist()
    assert connect([one for one, _ in keys], [other for _, other in keys]).tolist() == expected


def test_shares_and_labels_are_balanced():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 600, 6000)
    often = rng.random(600) < 0.3
    strata = np.where(often[groups] & (rng.random(6000) < 0.8), "sick", "well")
    parts = split_by_patient(groups, strata, SHARES, 0)
    for part, share in SHARES.items():
        assert len(set(groups[parts == part])) == pytest.approx(share * 600, rel=0.05)
        assert abs((parts == part).mean() - share) < 0.02
        assert abs((strata[parts == part] == "sick").mean() - (strata == "sick").mean()) < 0.02


@pytest.mark.parametrize("seed", range(5))
def test_patients_are_dealt_not_images(seed):
    """One patient of many images is not a whole part: 11 became 9, 1 and 1."""
    sizes = [40, 3, 3, 2, 3, 3, 2, 3, 30, 3, 2]
    groups = np.repeat(np.arange(11), sizes)
    parts = split_by_patient(groups, ["a"] * sum(sizes), SHARES, seed)
    held = {part: set(groups[parts == part]) for part in SHARES}
    assert len(held["train"]) >= 6
    assert min(len(held["val"]), len(held["test"])) >= 2
    assert {0, 8} <= held["train"]


def test_images_without_patients_are_split_exactly():
    strata = ["a"] * 60 + ["b"] * 40
    parts = split_by_patient(np.arange(100), strata, SHARES, 3)
    assert pd.Series(parts).value_counts().to_dict() == {"train": 70, "val": 15, "test": 15}
    assert 8 <= (parts[:60] == "test").sum() <= 10


def test_patients_with_a_few_sick_slices_are_spread_although_the_healthy_ones_outnumber_them():
    groups = np.repeat(np.arange(100), 20)
    sick = (groups < 20) & (np.tile(np.arange(20), 100) < 3)
    for seed in range(5):
        folds = fold_by_patient(groups, np.where(sick, "sick", "well"), 5, seed)
        assert np.bincount(folds[sick]).tolist() == [12] * 5


def test_a_hundred_tiny_strata_do_not_all_land_in_train():
    groups = np.arange(200)
    strata = [f"a|{number // 2}" for number in groups]
    parts = split_by_patient(groups, strata, SHARES, 0)
    assert (parts == "test").sum() == 30
    landed = [split_by_patient(groups, strata, SHARES, seed)[:2] == "test" for seed in range(60)]
    assert 0.08 < np.mean(landed) < 0.25


@pytest.mark.parametrize("k", [2, 5, 10])
def test_folds_are_balanced(k):
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 300, 3000)
    strata = rng.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1])[groups]
    folds = fold_by_patient(groups, strata, k, 0)
    assert sorted(set(folds)) == list(range(k))
    held = [len(set(groups[folds == fold])) for fold in range(k)]
    assert max(held) - min(held) <= 4
    assert np.ptp(np.bincount(folds)) < 0.11 * len(folds) / k
    for label in "abc":
        held = np.bincount(folds[strata == label], minlength=k)
        assert held.max() - held.min() <= 30
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))


def test_only_the_seed_changes_what_is_drawn():
    groups, strata = np.arange(200), ["a", "b"] * 100
    first, again, other = (split_by_patient(groups, strata, SHARES, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_given_split_is_kept():
    table = make_table("abcd", split=["train", "train", "val", "test"])
    result, audit = assign_splits(table, unique_digests(table))
    assert result["split"].tolist() == table["split"].tolist()
    assert audit.mode == "given"
    assert audit.overlaps == audit.remaining == {"patients": 0, "images": 0}


@pytest.mark.parametrize("split", [["test"] * 4, ["train", "train", "val", "val"]])
def test_given_split_may_lack_parts(split):
    table = make_table("abcd", split=split)
    result, _ = assign_splits(table, unique_digests(table))
    assert result["split"].tolist() == split


def test_val_is_cut_from_train_by_patient_where_none_is_given():
    table = make_table(
        np.repeat(np.arange(100), 2).astype(str), split=["train"] * 160 + ["test"] * 40
    )
    result, audit = assign_splits(table, unique_digests(table), val_share=0.25)
    assert result["split"].value_counts().to_dict() == {"train": 120, "val": 40, "test": 40}
    assert (result["split"][160:] == "test").all()
    assert_apart(result, unique_digests(table))
    assert "val is 0.25 of the patients that do not test" in audit.notes
    kept, _ = assign_splits(table, unique_digests(table), val_share=0)
    assert set(kept["split"]) == {"train", "test"}


def test_leak_is_an_error_naming_patients_and_images():
    table = make_table("aabc", split=["train", "test", "val", "train"])
    with pytest.raises(MedvisionError) as caught:
        assign_splits(table, ["w", "x", "y", "y"])
    assert str(caught.value) == (
        "the given split leaks, with 1 patient and 1 image in more than one part: "
        "patient 'a' of 'made' is in train and test; "
        "00002.png in val is the same image as 00003.png in train. Mend the manifest, or say "
        "data.on_leak=drop: such rows then leave train, and val where it meets test, "
        "and are counted"
    )


def test_drop_protects_test_before_val_before_train():
    #                  0  1  2  3  4  5  6  7  8
    table = make_table(
        ["a", "a", "b", "c", "d", "e", "f", "g", "h"],
        split=["train", "test", "val", "train", "val", "test", "train", "val", "train"],
    )
    digests = ["0", "1", "2", "2", "4", "4", "6", "7", "8"]
    result, audit = assign_splits(table, digests, on_leak="drop")
    assert result.index.tolist() == [1, 2, 5, 6, 7, 8]
    assert audit.overlaps == {"patients": 1, "images": 2}
    assert audit.dropped == {"patients_rows": 1, "copies_rows": 2}
    assert "2 rows left train (data.on_leak=drop)" in audit.notes
    assert "1 row left val (data.on_leak=drop)" in audit.notes


def test_drop_follows_a_copied_patient_to_its_other_images():
    table = make_table(["a", "a", "b", "c"], split=["train", "train", "test", "train"])
    result, audit = assign_splits(table, ["x", "y", "x", "z"], on_leak="drop", val_share=0)
    assert result.index.tolist() == [2, 3]
    assert audit.dropped == {"patients_rows": 0, "copies_rows": 2}


def test_drop_that_empties_a_part_is_an_error():
    table = make_table("aa", split=["train", "test"])
    with pytest.raises(MedvisionError, match="drop leaves train empty: every row of it shares"):
        assign_splits(table, unique_digests(table), on_leak="drop")


def test_near_copies_join_computed_groups_and_are_only_reported_in_given_ones():
    table = make_table("abcd", split=["train", "test", "train", "val"], group=["g", "g", "", None])
    result, audit = assign_splits(table, unique_digests(table))
    assert len(result) == 4
    (told,) = (note for note in audit.notes if "1 group of the manifest" in note)
    assert "near copies" in told
    assert told.endswith("such as that of its lines 2 (train) and 3 (test)")
    table = make_table([str(row) for row in range(60)], group=["g", "g"] + [""] * 58)
    parts = [assign_splits(table, unique_digests(table), split_seed=seed)[0] for seed in range(20)]
    assert all(part["split"][0] == part["split"][1] for part in parts)


def test_fold_is_test_and_the_given_split_is_ignored():
    table = make_table([str(row) for row in range(100)], split="train")
    tests = []
    for fold in range(4):
        result, audit = assign_splits(table, unique_digests(table), fold=fold, folds=4)
        assert result["split"].value_counts().to_dict()["test"] == 25
        assert 10 <= result["split"].value_counts().to_dict()["val"] <= 12
        assert audit.mode == "fold"
        assert f"fold {fold} of 4 computed folds is test" in audit.notes
        assert "the given split is ignored" in audit.notes
        tests += result.index[result["split"] == "test"].tolist()
    assert sorted(tests) == list(range(100))


def test_given_folds_are_used_and_named():
    folds = pd.array([row % 3 + 1 for row in range(60)], dtype="Int64")
    table = make_table([str(row) for row in range(60)], fold=folds)
    result, audit = assign_splits(table, unique_digests(table), fold=3)
    assert result.index[result["split"] == "test"].tolist() == list(range(2, 60, 3))
    assert "fold 3 of 3 given folds is test" in audit.notes
    with pytest.raises(MedvisionError, match=r"data\.fold=0 does not exist; the folds are 1, 2, 3"):
        assign_splits(table, unique_digests(table), fold=0)
    computed, _ = assign_splits(table, unique_digests(table), fold=0, mode="patient")
    assert (computed["split"] == "test").sum() == 12


def test_given_folds_that_leak_are_refused_or_thinned():
    table = make_table(["a", "a", *"bcdefghijk"], fold=pd.array([0, 1] * 6, dtype="Int64"))
    with pytest.raises(
        MedvisionError, match=r"folds leak, with 1 patient.*is in fold 0 and fold 1"
    ):
        assign_splits(table, unique_digests(table), fold=0)
    result, audit = assign_splits(table, unique_digests(table), fold=0, on_leak="drop")
    assert audit.dropped == {"patients_rows": 1, "copies_rows": 0}
    assert (result["split"] == "test").sum() == 6


def test_whole_sites_are_tested():
    rng = np.random.default_rng(0)
    sites = np.repeat(["north", "south", "east"], [100, 60, 40])
    table = make_table(np.arange(200).astype(str), rng.choice(["a", "b"], 200), site=sites)
    result, audit = assign_splits(table, unique_digests(table), mode="site")
    assert set(result.loc[result["split"] == "test", "site"]) == {"east"}
    assert "test is the site east" in audit.notes
    assert set(result["split"]) == {"train", "val", "test"}
    shares = {"train": 0.6, "test": 0.4}
    result, _ = assign_splits(table, unique_digests(table), mode="site", shares=shares)
    assert set(result.loc[result["split"] == "test", "site"]) == {"east", "south"}
    assert set(result["split"]) == {"train", "test"}


def test_a_patient_of_two_sites_is_tested_whole():
    sites = ["big"] * 20 + ["small"] * 5
    table = make_table([str(row) for row in range(24)] + ["0"], site=sites)
    result, audit = assign_splits(table, unique_digests(table), mode="site")
    assert result["split"][0] == result["split"][24] == "test"
    assert "1 rows of other sites are test with their patients" in audit.notes


def test_sites_that_cannot_be_told_apart_are_refused():
    table = make_table("abcd", site=["x", "x", "x", "x"])
    with pytest.raises(MedvisionError, match=r"cannot part x: there is only one; take data\.mode="):
        assign_splits(table, unique_digests(table), mode="site")
    with pytest.raises(MedvisionError, match="4 of 4 rows have no site"):
        assign_splits(make_table("abcd"), list("1234"), mode="site")


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"mode": "patients"}, r"data\.mode knows .*not 'patients' \(did you mean 'patient'\?\)"),
        ({"on_leak": "ignore"}, r"data\.on_leak knows error, drop, not 'ignore'"),
        ({"shares": {"train": 0.5, "valid": 0.5}}, r"data\.shares knows .*did you mean 'val'"),
        ({"shares": {"train": 0.5, "val": 0.2}}, "must add up to 1, not train 0.5, val 0.2"),
        ({"shares": {"val": 1.0}}, r"data\.shares gives train nothing"),
        ({"val_share": 1.0}, r"data\.val_share=1 must be at least 0 and below 1"),
        ({"mode": "site", "fold": 0}, "exclude each other"),
        ({"mode": "given"}, "3 of 3 rows have no split, such as 00000.png; fill the column split"),
        ({"fold": 5, "folds": 3}, r"data\.fold=5 does not exist; the folds are 0, 1, 2"),
        ({"fold": 0, "folds": 4}, r"cannot make 4 folds: there are only 3 patients"),
        ({"fold": 0, "folds": 1}, r"cannot make 1 fold: two are the fewest"),
        ({}, r"3 patients .* cannot fill train, val, test: nothing is left for test"),
    ],
)
def test_refusals_say_the_way_out(asked, text):
    with pytest.raises(MedvisionError, match=text):
        assign_splits(make_table("abc"), list("123"), **asked)


def test_a_half_filled_split_is_refused():
    table = make_table("abc", split=["train", "", "test"])
    with pytest.raises(MedvisionError, match=r"1 of 3 rows have no split, such as 00001\.png"):
        assign_splits(table, list("123"))


def test_generated_images_never_test():
    table = make_table("abcd", split=["train", "train", "val", "test"], origin="generated")
    with pytest.raises(MedvisionError, match=r"2 generated images would be outside .*data\.extra"):
        assign_splits(table, unique_digests(table))


def test_the_given_table_is_not_changed():
    table = make_table([str(row) for row in range(40)])
    before = table.copy()
    assign_splits(table, unique_digests(table))
    pd.testing.assert_frame_equal(table, before)


def test_a_hundred_thousand_rows_take_seconds():
    import time

    rng = np.random.default_rng(0)
    table = make_table(rng.integers(0, 30_000, 100_000).astype(str))
    start = time.perf_counter()
    assign_splits(table, unique_digests(table))
    assert time.perf_counter() - start < 20
