import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvision.errors import MedvisionError
from medvision.tasks.classes import Classes, choose_classes


def test_given_before_card_before_sorted_labels():
    labels = ["b", "a", "", "b"]
    assert choose_classes(labels).names == ["a", "b"]
    assert choose_classes(labels, card=["b", "a"]).names == ["b", "a"]
    assert choose_classes(labels, ["a", "b"], ["b", "a"]).names == ["a", "b"]


def test_of_two_classes_the_last_is_positive():
    classes = choose_classes(["well", "sick"], ["well", "sick"])
    assert classes.kind == "binary"
    codes = classes.encode_labels(["sick", "well", ""])
    assert codes.tolist() == [1, 0, -1]
    assert codes.dtype == np.int64


def test_more_classes_and_numbers_in_their_order():
    classes = choose_classes([str(number) for number in range(11)])
    assert classes.kind == "multiclass"
    assert classes.names[-2:] == ["9", "10"]


@given(st.lists(st.sampled_from(["", "x", "y", "z"])))
def test_encoding_can_be_read_back(labels):
    codes = Classes(["z", "x", "y"], "multiclass").encode_labels(labels)
    assert [["z", "x", "y", ""][code] for code in codes] == labels


def test_several_labels_a_row():
    classes = choose_classes(["a|b", "c", "", "No Finding", "b | a"], negative="No Finding")
    assert classes.kind == "multilabel"
    assert classes.names == ["a", "b", "c"]
    encoded = classes.encode_labels(["a|b", "c", "", "No Finding", "b | a"])
    expected = [[1, 1, 0], [0, 0, 1], [np.nan] * 3, [0, 0, 0], [1, 1, 0]]
    np.testing.assert_array_equal(encoded, np.array(expected, dtype=np.float32))
    assert encoded.dtype == np.float32


def test_multilabel_may_be_said_aloud():
    classes = choose_classes(["a", "b"], multilabel=True)
    assert classes.kind == "multilabel"
    assert classes.encode_labels(["b"]).tolist() == [[0, 1]]
    assert classes.encode_labels([]).shape == (0, 2)


def test_nothing_found_is_dropped_from_the_card_too():
    assert choose_classes(["a|b"], card=["none", "a", "b"], negative="none").names == ["a", "b"]


def test_unknown_labels_are_named_with_count_hint_and_way_out():
    with pytest.raises(MedvisionError) as caught:
        choose_classes(["pneumona", "normal", "pneumona", "7"], ["normal", "pneumonia"])
    assert str(caught.value) == (
        "labels that do not fit the classes normal, pneumonia: 'pneumona' (2 rows) (did you mean "
        "'pneumonia'?); '7' (1 rows). Map a label with data.rename, or list all classes in "
        "data.classes"
    )


def test_an_unknown_label_of_another_manifest_is_refused():
    with pytest.raises(MedvisionError, match="'c' \\(1 rows\\)"):
        Classes(["a", "b"], "binary").encode_labels(["a", "c"])


def test_rename_maps_labels_and_card_but_not_the_given_classes():
    rename = {"covid": "sick", "cap": "sick", "healthy": "well", "unsure": None}
    labels = ["covid", "cap", "healthy", "unsure"]
    classes = choose_classes(labels, card=["healthy", "covid", "cap"], rename=rename)
    assert classes.names == ["well", "sick"]
    assert classes.encode_labels(labels).tolist() == [1, 1, 0, -1]
    assert choose_classes(["a", "b"], rename={"a": "b", "b": "a"}).encode_labels(
        ["a"]
    ).tolist() == [1]
    both = choose_classes(["a|b", "c"], rename={"b": "c"})
    assert both.encode_labels(["a|b", "c"]).tolist() == [[1, 1], [0, 1]]


def test_contradictions_are_refused():
    with pytest.raises(MedvisionError, match=r"'none\|a' \(1 rows\) says two things at once"):
        choose_classes(["none|a", "b"], negative="none")
    with pytest.raises(MedvisionError, match=r"'a\|b' \(1 rows\) says two things at once"):
        Classes(["a", "b"], "binary").encode_labels(["a|b"])


@pytest.mark.parametrize(
    ("labels", "given", "text"),
    [
        (["a", "a", ""], None, "only one class, 'a', in the labels: there is nothing to tell"),
        (["a"], ["a"], r"only one class, 'a', in data\.classes"),
        (["", ""], None, r"no row has a label; say where it is with columns\.label=NAME"),
        (["a", "b"], ["a", "b", "a"], r"data\.classes names 'a' twice"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(labels, given, text):
    with pytest.raises(MedvisionError, match=text):
        choose_classes(labels, given)


def test_unlabelled_rows_alone_will_do_where_the_classes_are_known():
    assert choose_classes(["", ""], ["a", "b"]).encode_labels(["", ""]).tolist() == [-1, -1]


def rows(labels, series, **columns):
    return pd.DataFrame({"label": labels, **columns}), pd.Series(list(series))


def test_a_series_has_its_label_or_that_of_its_rows():
    table, keys = rows(["", "b", "a", "a", ""], "xxyyz")
    assert Classes.of_unit(table, keys)["label"].tolist() == ["b", "b", "a", "a", ""]
    table["series_label"] = ["c", "", "", "", "d"]
    assert Classes.of_unit(table, keys)["label"].tolist() == ["c", "c", "", "", "d"]


def test_slices_have_labels_only_where_they_say_more_than_their_series():
    classes, (table, keys) = Classes(["a", "b"], "binary"), rows(["b", "b", "a", "a"], "xxyy")
    assert classes.encode_rows(table, keys) == {}
    table["series_label"] = table["label"]
    assert classes.encode_rows(table, keys) == {}
    some = classes.encode_rows(table.assign(label=["a", "b", "", "a"]), keys)
    assert some["label"].tolist() == [0, 1, -1, 0]
    with pytest.raises(MedvisionError, match=r"'odd' .*labels of slices.*columns\.label=null"):
        classes.encode_rows(table.assign(label="odd"), keys)


def test_classes_come_back_from_plain_values():
    classes = choose_classes(["a|c", "b"], rename={"c": "a"}, negative="no")
    assert Classes.from_plain(classes.plain()) == classes


def test_samples_and_patients_of_a_class_are_counted():
    classes = choose_classes(["a|b", "no", "b", ""], negative="no")
    encoded = classes.encode(pd.DataFrame({"label": ["a|b", "b", "no", "", "b"]}))
    assert classes.count(encoded, ["p", "p", "p", "q", "r"]) == {
        "unlabelled": 1, "per_class": {"a": 1, "b": 3}, "patients_per_class": {"a": 1, "b": 2},
        "nothing": 1,
    }  # fmt: skip
    assert classes.known(encoded).tolist() == [True, True, True, False, True]


def test_the_class_that_is_named_as_negative_comes_first_and_why_is_noted():
    classes = choose_classes(["normal", "haemorrhage"])
    assert classes.names == ["normal", "haemorrhage"]
    assert classes.notes() == [
        "the positive class is 'haemorrhage', for 'normal' is named as the negative one, and "
        "stands first though the alphabet has it last (data.classes orders them)"
    ]
    assert choose_classes(["benign", "malignant"]).notes() == [
        "the positive class is 'malignant', for 'benign' is named as the negative one "
        "(data.classes orders them)"
    ]


def test_where_no_word_tells_the_positive_class_it_is_asked_for():
    (note,) = choose_classes(["left", "right"]).notes()
    assert note.startswith("nothing tells which of 'left' and 'right' is the negative class")
    assert "say data.classes=[NEGATIVE,POSITIVE]" in note


@pytest.mark.parametrize("given", ["data.classes", "the card"])
def test_an_order_that_was_given_is_never_turned_but_doubted(given):
    where = {"given": ["sick", "normal"]} if given == "data.classes" else {
        "card": ["sick", "normal"]}  # fmt: skip
    classes = choose_classes(["normal", "sick"], **where)
    assert classes.names == ["sick", "normal"]
    assert classes.notes() == [
        f"the positive class is 'normal' ({given} orders them), though it is named as the negative "
        "one; data.classes=[normal,sick] turns them round"
    ]
    assert choose_classes(["a", "b"], ["b", "a"]).notes() == [
        "the positive class is 'a' (data.classes orders them)"
    ]


def test_the_order_of_several_classes_is_no_matter_of_words():
    classes = choose_classes(["normal", "a", "b"])
    assert (classes.names, classes.notes()) == (["a", "b", "normal"], [])
