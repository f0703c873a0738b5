from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from medvision.commands.arguments import parse, read_value
from medvision.errors import MedvisionError


def command(
    run: str,
    data: dict[str, Any] | None = None,
    columns: Mapping[str, str | None] | None = None,
    allow_overlap: bool = False,
    on_unreadable: Literal["stop", "exclude"] = "stop",
    output: Path | None = None,
) -> None:
    pass


def open_ended(source: str, **options: Any) -> None:
    pass


def told(*words, function=command):
    return parse(words, function, "evaluate")


def test_words_become_typed_arguments():
    assert told(
        "run=007", "allow_overlap=true", "on_unreadable=exclude", "output=a=b, [c]/肺 1.csv",
        "data.manifest=x y.csv", "data.rename.NCP=COVID", "columns.frame=null",
    ) == {
        "run": "007", "allow_overlap": True, "on_unreadable": "exclude",
        "output": "a=b, [c]/肺 1.csv",
        "data": {"manifest": "x y.csv", "rename.NCP": "COVID"}, "columns": {"frame": None},
    }  # fmt: skip


def test_other_words_go_to_a_function_that_takes_them():
    assert told("source=phantom", "patients=20", "difficulty=0.5", function=open_ended) == {
        "source": "phantom", "patients": 20, "difficulty": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "medvision evaluate needs run=…"),
        (["last"], "'last' is not key=value; medvision evaluate takes run, data, columns, "),
        (["rum=last"], r"no argument 'rum' \(did you mean 'run'\?\); it takes run, data"),
        (["run=last", "data=x.csv"], r"data= takes a key of its own, as in data\.KEY=x\.csv"),
        (["run.x=last"], r"run\.x= is too long a key; say run=last"),
        (["run=a", "allow_overlap=no"], "allow_overlap=no is neither true nor false"),
        (["run=a", "allow_overlap=1"], "allow_overlap=1 is neither true nor false"),
        (["run=a", "on_unreadable=exlude"], r"did you mean 'exclude'\?\); choose stop or exclude"),
    ],
)
def test_mistakes_are_sentences(words, sentence):
    with pytest.raises(MedvisionError, match=sentence):
        told(*words)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("False", False), ("null", None), ("3", 3), ("-2", -2), ("1e-3", 0.001),
        ("[1, b ,true]", [1, "b", True]), ("[]", []), ("a,b", "a,b"), ("", ""), ("3 mm", "3 mm"),
    ],
)  # fmt: skip
def test_values_read_as_expected(text, value):
    read = read_value(text)
    assert read == value
    assert type(read) is type(value)


def test_a_run_in_a_list_may_look_like_a_number():
    def ensemble(runs: list[str] | None = None, sizes: list[int] | None = None) -> None:
        pass

    words = ('runs=[12e45678, 007,"a,b"]', "sizes=[1,2]")
    assert parse(words, ensemble, "predict") == {
        "runs": ["12e45678", "007", "a,b"],
        "sizes": [1, 2],
    }
