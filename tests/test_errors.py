import pytest

from medvision.errors import collect, did_you_mean


def test_all_problems_are_one_error_with_the_way_out_last():
    told = str(collect("table.csv", ["line 2", "line 3"], "Mend them"))
    assert told == "table.csv: line 2; line 3. Mend them"


@pytest.mark.parametrize(("number", "end"), [(5, "line 4. Mend"), (7, "line 4; and 2 more. Mend")])
def test_the_first_are_shown_and_the_rest_counted(number, end):
    told = str(collect("t", [f"line {n}" for n in range(number)], "Mend"))
    assert told.endswith(end)
    assert "line 5" not in told


def test_show_chooses_how_many():
    assert str(collect("t", ["a", "b", "c"], "Mend", show=1)) == "t: a; and 2 more. Mend"


def test_the_nearest_word_is_suggested_and_a_far_one_is_not():
    assert did_you_mean("pateint", ["path", "patient"]) == " (did you mean 'patient'?)"
    assert did_you_mean("xyz", ["path", "patient"]) == ""
    assert did_you_mean("xyz", iter(())) == ""
