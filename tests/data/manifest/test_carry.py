import numpy as np
import pandas as pd
import pytest

from medvision.data.audit import shortcuts
from medvision.data.manifest.card import Card
from medvision.data.manifest.carry import choose_carried, letter_readers, note_left_out
from medvision.data.manifest.columns import is_read
from medvision.data.store import facts
from medvision.errors import MedvisionError
from medvision.evaluation import covariates
from medvision.tasks.regression.target import Number


def make(patients=20, **columns):
    """Two rows a patient; a column is a function of the patient's number."""
    number = np.arange(2 * patients) // 2
    table = pd.DataFrame({"path": [f"/in/{n}.png" for n in range(2 * patients)], "dataset": "d"})
    table["patient"] = [f"p{n}" for n in number]
    return table.assign(**{name: [value(n) for n in number] for name, value in columns.items()})


def read(n):
    return f"Quennell{n}"


def test_only_what_a_run_reads_is_carried():
    names = ("x_age", "site", "time", "event", "y_mm", "reader_a", "mask", "boxes", "region")
    table = make(**{name: lambda n: n % 3 for name in names}, remark=read, kV=lambda n: 120)
    kept, unread = choose_carried(table, [])
    assert list(kept) == ["path", "dataset", "patient", *names]
    assert unread == ["remark", "kV"]
    (note,) = note_left_out(unread)
    assert note.startswith("2 columns that no run reads left out")
    assert "remark" not in note
    assert note_left_out([]) == []


def test_what_evaluation_audit_and_facts_read_of_a_table_is_carried():
    needed = {*covariates.TOLD, *covariates.SPACING, *covariates.NEEDED, *facts.TOLD,
              *shortcuts.WORDS, *shortcuts._SPACINGS, *Number.columns}  # fmt: skip
    assert [name for name in sorted(needed) if not is_read(name)] == []


def test_what_is_asked_for_is_carried_too():
    table = make(remark=read, lab_na=lambda n: 140, lab_k=lambda n: 4, kV=lambda n: 120)
    kept, unread = choose_carried(table, ["remark", "lab_"])
    assert {"remark", "lab_na", "lab_k"} <= set(kept)
    assert unread == ["kV"]
    with pytest.raises(MedvisionError, match=r"carry names 'remrak', .* mean 'remark'"):
        choose_carried(table, ["remrak"])


@pytest.mark.parametrize("column", ["x_name", "site", "dataset", "label", "channel", "y_mm",
                                    "series_label", "manufacturer", "reader_a"])  # fmt: skip
def test_words_with_almost_one_value_a_patient_are_refused(column):
    table = make(**{column: lambda n: read(min(n, 18))})  # 19 of 20
    with pytest.raises(MedvisionError, match=f"{column}' has 19 different values for 20 .*carry="):
        choose_carried(table, [])
    assert column in choose_carried(table, [column])[0]


@pytest.mark.parametrize("value", [
    lambda n: str(1_000_000 + n), lambda n: f"{10_000 + n}.0", lambda n: 19_800_101 + n,
    lambda n: f"1980-02-{n:02}", lambda n: read(n) if n < 11 else "",
])  # fmt: skip
def test_numbers_of_an_office_and_dates_are_refused(value):
    with pytest.raises(MedvisionError, match="'x_what' has"):
        choose_carried(make(x_what=value), [])


@pytest.mark.parametrize(("column", "value"), [
    ("x_age", lambda n: 40 + n), ("x_mm", lambda n: f"{12345.25 + n}"),
    ("x_mm", lambda n: f"{n}e6"), ("x_ward", lambda n: f"ward {n % 17}"),
    ("y_cells", lambda n: 10_000 + n), ("site", lambda n: f"p{n:012x}"),
    ("boxes", lambda n: f"{n} 2 30.5 40|1 2 {n + 5} 9 lesion"),
    ("label", lambda n: "|".join(word for bit, word in enumerate("abcde") if n >> bit & 1)),
    ("time", lambda n: 10_000.0 + n), ("series", read),
])  # fmt: skip
def test_what_is_measured_hashed_or_a_file_is_not_refused(column, value):
    assert column in choose_carried(make(**{column: value}), [])[0]


def test_few_patients_prove_nothing():
    assert "x_name" in choose_carried(make(9, x_name=read), [])[0]
    with pytest.raises(MedvisionError, match="x_name' has 10 different values for 10 patients"):
        choose_carried(make(10, x_name=read), [])


def test_a_class_of_boxes_may_be_a_name():
    with pytest.raises(MedvisionError, match="'boxes' has 20"):
        choose_carried(make(boxes=lambda n: f"1 2 3 4 {read(n)}"), [])


def test_readers_have_the_same_letters_in_every_manifest_of_a_user(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "key"))
    table = make(reader_Quennell=read, reader_b=read)
    first = letter_readers(table, Card("d", key="k"))
    assert [*first.columns[:3]] == ["path", "dataset", "patient"]
    letters = [name.removeprefix("reader_") for name in first.columns[3:]]
    assert all(len(word) == 6 and word.isalpha() and word.islower() for word in letters)
    assert len(set(letters)) == 2
    other = letter_readers(make(3, reader_b=read), Card("e"))
    assert other.columns[3] == first.columns[4]
    lettered = Card("d", key="k", facts={"readers": 2})
    assert list(letter_readers(first, lettered)) == list(first)
    monkeypatch.setenv("MEDVISION_KEY", str(tmp_path / "another"))
    assert set(letter_readers(table, Card("d")).columns[3:]).isdisjoint(first.columns[3:])
