from dataclasses import replace

import pytest

from medvision.seen import Seen, Shown
from medvision.trust.user_key import fingerprint, user_key

KEY, OTHER = "0a1b2c3d", "ffffffff"


@pytest.fixture(autouse=True)
def key(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "key"))


def shown(patients, images=(), key=KEY):
    return Shown(dict(patients), frozenset(images), key)


TRAIN, VAL = shown({"p1": "w1"}, ["i1", "i2"]), shown({"p2": "w2"}, ["i3"])


def test_patients_and_images_of_train_and_val_were_seen():
    seen, rows = (
        Seen.of(TRAIN, VAL),
        shown({"p0": "w0", "p1": "w1", "p2": "w2"}, ["i0", "i2", "i3"]),
    )
    met = seen.meet(rows)
    assert (met.patients, met.images, met.namesakes) == ({"p1", "p2"}, {"i2", "i3"}, set())
    assert met.unchecked == []
    trained = seen.meet(rows, train=True)
    assert (trained.patients, trained.images) == ({"p1"}, {"i2"})


def test_nobody_without_the_key_can_ask_whether_an_image_was_seen(tmp_path, monkeypatch):
    seen = Seen.of(TRAIN, VAL)
    assert not {"i1", "i2", "i3"} & {*seen.train_images, *seen.val_images}
    assert seen.image_key == fingerprint(user_key())
    assert seen.knows(["i1", "i4", ""]) == [True, False, False]
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "another"))
    assert seen.knows(["i1"]) == [False]
    met = seen.meet(shown({"p1": "w1"}, ["i1"], OTHER))
    assert (met.patients, met.images) == (set(), set())
    (sentence,) = met.unchecked
    assert sentence.startswith("patients and images not checked: ")


def test_plain_digests_of_before_are_still_compared_and_keyed_when_they_are_inherited():
    before = Seen.from_plain({"train_patients": ["p1"], "train_images": ["i1"],
                              "val_patients": [], "val_images": [], "key": KEY})  # fmt: skip
    met = before.meet(shown({"p1": "w1"}, ["i1"]))
    assert (met.patients, met.images) == ({"p1"}, {"i1"})
    assert "under other dataset names not checked" in met.unchecked[0]
    joined = Seen.of(shown({"p9": "w9"}, ["i9"]), VAL).join(before)
    assert "i1" not in joined.train_images
    assert joined.knows(["i1", "i9"]) == [True, True]


def test_a_person_under_another_dataset_name_is_found():
    seen = Seen.of(TRAIN, VAL)
    met = seen.meet(shown({"q1": "w1", "q3": "w3"}))
    assert (met.patients, met.namesakes) == (set(), {"q1"})
    assert seen.meet(shown({"q1": "w1"}, key=OTHER)).namesakes == set()


def test_ids_without_a_key_are_compared_as_text():
    plain = Seen.of(shown({"a\x1f1": "1"}, key=None), shown({}, key=None))
    assert plain.meet(shown({"a\x1f1": "1"}, key=None)).patients == {"a\x1f1"}
    elsewhere = plain.meet(shown({"b\x1f1": "1"}, key=None))
    assert (elsewhere.patients, elsewhere.namesakes) == (set(), {"b\x1f1"})
    before = Seen.from_plain({"train_patients": ["1"], "train_images": [], "val_patients": [],
                              "val_images": [], "key": None})  # fmt: skip
    assert before.meet(shown({"b\x1f1": "1"}, key=None)).namesakes == {"b\x1f1"}
    assert plain.meet(shown({"p1": "w1"})).unchecked[0].startswith("patients not checked: ")


def test_what_an_earlier_model_has_seen_is_added_and_what_cannot_be_is_told():
    earlier = Seen.of(shown({"p5": "w5"}, ["i5"]), VAL).stamped(["nobody knows"])
    joined = Seen.of(TRAIN, VAL).join(earlier)
    assert joined.train_patients == ["p1", "p5"]
    assert joined.train_people == ["w1", "w5"]
    assert joined.knows(["i1", "i5"]) == [True, True]
    assert joined.unknown == ["nobody knows"]
    foreign = replace(earlier, key=OTHER, image_key=OTHER)
    lost = Seen.of(TRAIN, VAL).join(foreign)
    assert lost.train_patients == ["p1"]
    assert lost.knows(["i5"]) == [False]
    told = "patients and images not checked against what it learned from: another key"
    assert lost.unknown == ["nobody knows", told]


def test_a_record_holds_what_a_model_has_seen():
    seen = Seen.of(TRAIN, VAL).stamped(["nobody knows"])
    record = {"seen": seen.to_record(), "key": KEY}
    assert Seen.from_record(record) == seen
    assert Seen.from_record({}) is None
