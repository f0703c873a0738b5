from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medvision.data.audit.scan import ImageFacts, scan_images
from medvision.data.audit.shortcuts import find_shortcuts
from medvision.data.sources.phantom.source import find as make_phantom
from medvision.data.store.fill import Images

PLAIN = ImageFacts("d", 100, 120, ".png uint8 grey", 0.1, 0.2, 5.0, None)


def probe_phantom(place, **settings):
    found = make_phantom(output=place, slices=1, size=32, workers=2, **settings)
    seen, problems = scan_images(Images.find(found.table["path"], found.table["frame"]), {})
    assert not problems
    table = found.table.assign(dataset="phantom", group=found.table["patient"])
    table["group"] = pd.factorize(table["group"])[0]
    return find_shortcuts(table, [one.look for one in seen.values()], found.classes)


def test_a_planted_site_shortcut_is_flagged(tmp_path):
    (found,) = probe_phantom(tmp_path, patients=40, shortcut=0.9)
    assert (found.label, found.fact, found.patients) == ("lesion", "the column site", 40)
    assert found.low > 0.65
    assert "red flag: the label 'lesion' can be told from the column site alone" in str(found)


def test_a_clean_phantom_is_not(tmp_path):
    flagged = [
        bool(probe_phantom(tmp_path / str(seed), patients=20, seed=seed)) for seed in range(20)
    ]
    assert sum(flagged) <= 1


def make(patients, seed=0, rows=3, **columns):
    random = np.random.default_rng(seed)
    names = np.repeat([f"p{n}" for n in range(patients)], rows)
    label = np.repeat(np.where(np.arange(patients) % 2, "ill", "well"), rows)
    table = pd.DataFrame({"dataset": "x", "patient": names, "label": label})
    table["group"] = pd.factorize(names)[0]
    noise = pd.Series(np.repeat(random.choice(["A", "B", "C"], patients), rows))
    return table.assign(site=noise, **columns), [PLAIN] * len(table)


def test_noise_is_not_flagged_however_many_columns_there_are():
    flagged = 0
    for seed in range(20):
        table, looks = make(30, seed)
        random = np.random.default_rng(seed)
        for name in ("manufacturer", "view", "modality", "spacing_x_mm"):
            table[name] = np.repeat(random.integers(1, 4, 30), 3).astype(str)
        flagged += bool(find_shortcuts(table, looks))
    assert flagged <= 1


PLANTED = {
    "the column manufacturer": lambda ill: {"manufacturer": np.where(ill, "GE", "SIEMENS")},
    "the spacing": lambda ill: {"spacing_y_mm": np.where(ill, "0.7", "")},
}


@pytest.mark.parametrize("fact", PLANTED)
def test_a_column_that_tells_the_label_is_named(fact):
    table, looks = make(40)
    table = table.assign(**PLANTED[fact](table["label"] == "ill"))
    assert [one.fact for one in find_shortcuts(table, looks)] == [fact]


def test_a_format_or_a_size_that_tells_the_label_is_named():
    table, _ = make(40)
    ill = (table["label"] == "ill").tolist()
    sized = [replace(PLAIN, width=100 if one else 120) for one in ill]
    assert [one.fact for one in find_shortcuts(table, sized)] == ["the image size"]
    kinds = [replace(PLAIN, kind=".jpg" if one else ".png") for one in ill]
    assert [one.fact for one in find_shortcuts(table, kinds)] == ["the kind of file"]


def test_a_shortcut_within_patients_is_seen():
    table, _ = make(40)
    table["label"] = np.where((table["label"] == "ill") & (table.index % 3 == 0), "ill", "well")
    looks = [replace(PLAIN, kind=".jpg" if label == "ill" else ".png") for label in table["label"]]
    assert [one.label for one in find_shortcuts(table, looks, ["well", "ill"])] == ["ill"]


def test_too_few_patients_are_not_asked():
    table, looks = make(18)
    table["site"] = table["label"]
    assert find_shortcuts(table, looks) == []
    table, looks = make(60)
    table["site"] = table["label"]
    # Copies tie them to four persons a class, so that there are too few to ask.
    assert find_shortcuts(table.assign(group=table["group"] % 8), looks) == []


def test_a_given_test_part_stays_unseen():
    table, looks = make(60)
    table["split"] = np.where(table["group"] < 30, "train", "test")
    table["site"] = np.where(table["split"] == "test", table["label"], table["site"])
    assert find_shortcuts(table, looks) == []


def test_each_class_of_several_is_asked_for():
    table, looks = make(60)
    table["label"] = np.repeat(np.resize(["a", "b", "c|d"], 60), 3)
    table["site"] = np.where(table["label"] == "b", "North", "South")
    assert [(one.label, one.fact) for one in find_shortcuts(table, looks)] == [
        ("b", "the column site")
    ]


def test_unlabelled_sets_are_silent():
    table, looks = make(40)
    assert find_shortcuts(table.drop(columns="label"), looks) == []
    assert find_shortcuts(table.assign(label=""), looks) == []


def test_neither_the_names_of_patients_nor_the_order_of_rows_move_the_interval():
    table, looks = make(60)
    random = np.random.default_rng(5)
    ill = (table["label"] == "ill").to_numpy()
    often = np.repeat(random.uniform(size=60) < 0.1, 3)
    table["manufacturer"] = np.where(ill ^ often, "GE", "SIEMENS")
    (found,) = find_shortcuts(table, looks)
    names = dict(zip(table["patient"].unique(), random.permutation(60).astype(str), strict=True))
    other = table.assign(patient=table["patient"].map(names)).sample(frac=1, random_state=1)
    other = other.reset_index(drop=True)
    other["group"] = pd.factorize(other["patient"])[0]
    assert find_shortcuts(other, looks) == [found]
