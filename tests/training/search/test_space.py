import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from medvision.errors import MedvisionError
from medvision.training.search.space import corners, part_sweeps, read_space, write_words

PARSER = OverridesParser.create()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("interval(0, 0.5)", FloatDistribution(0, 0.5)),
        ("interval(1, 100)", FloatDistribution(1, 100)),
        ("tag(log, interval(1e-5, 1e-2))", FloatDistribution(1e-5, 1e-2, log=True)),
        ("int(interval(1, 4))", IntDistribution(1, 4)),
        ("tag(int, interval(1, 4))", IntDistribution(1, 4)),
        ("tag(int, log, interval(1, 64))", IntDistribution(1, 64, log=True)),
        ("tag(log, int(interval(1, 64)))", IntDistribution(1, 64, log=True)),
        ("range(1, 10, 3)", IntDistribution(1, 7, step=3)),
        ("range(10, 1, -3)", IntDistribution(4, 10, step=3)),
        ("range(3)", IntDistribution(0, 2)),
        ("range(0, 1, 0.25)", FloatDistribution(0, 0.75, step=0.25)),
        ("relu,gelu", CategoricalDistribution(["relu", "gelu"])),
        ("16,32,16", CategoricalDistribution(["16", "32"])),
        ("a,null,true,1e-3", CategoricalDistribution(["a", "null", "True", "0.001"])),
        ("choice([16,32],[8])", CategoricalDistribution(["[16,32]", "[8]"])),
        ("choice({a:1},{a:2})", CategoricalDistribution(["{a:1}", "{a:2}"])),
        ("shuffle(a,b,c,d,e)", CategoricalDistribution(list("abcde"))),
    ],
)
def test_each_form_of_the_grammar_is_a_distribution(text, expected):
    assert read_space({"k.x": text}) == {"k.x": expected}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("interval(3,1)", "ends below its start"),
        ("tag(log,interval(0,1))", "starts at 0 or below, where there is no logarithm"),
        ("interval(0,inf)", "has no finite end"),
        ("tag(int,interval(0.5,3))", "is to be whole numbers, and an end of it is not"),
        ("tag(lgo,interval(1,2))", "has the tag 'lgo', and only log and int mean something"),
        ("tag(log,choice(1,2))", "has the tag 'log', which only an interval takes"),
        ("tag(log,range(1,5))", "has the tag 'log', which only an interval takes"),
        ("range(5,1)", "holds no value"),
        ("range(1,5,0)", "must not be zero"),
        ("glob(*)", "is a pattern; name what to choose from with choice(a,b)"),
    ],
)
def test_what_cannot_be_searched_is_named_with_the_way_out(text, problem):
    with pytest.raises(MedvisionError) as caught:
        read_space({"k.x": text, "k.good": "interval(0,1)", "k.y": "interval(2,1)"})
    assert f"k.x={text} " in str(caught.value)
    assert problem in str(caught.value)
    assert "k.y=interval(2,1) ends below its start" in str(caught.value)
    assert "k.good" not in str(caught.value)
    assert "Use interval(low,high), tag(log,interval(low,high))" in str(caught.value)


def test_words_are_parted_from_spaces():
    words = ["a=1", "b=1,2", "c=[1,2]", "+d.e=interval(0,1)", "data.manifest=my (1).csv", "~f"]
    fixed, swept = part_sweeps(words)
    assert fixed == ["a=1", "c=[1,2]", "data.manifest='my (1).csv'", "~f"]
    assert swept == {"b": "1,2", "+d.e": "interval(0,1)"}


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("'a b','c,d'", ["a b", "c,d"]),
        ("[16,32],[8]", [[16, 32], [8]]),
        ("1,1.5,null,true,x", [1, 1.5, None, True, "x"]),
    ],
)
def test_hydra_hears_a_choice_as_it_would_in_a_sweep(text, heard):
    choices = read_space({"k": text})["k"].choices
    words = [word for choice in choices for word in write_words({"k": choice})]
    assert [PARSER.parse_override(word).value() for word in words] == heard


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**6), 10**6))
def test_drawn_numbers_come_back_bit_for_bit(number, whole):
    back = [PARSER.parse_override(word).value() for word in write_words({"x": number, "n": whole})]
    assert back == [number, whole]
    assert [type(value) for value in back] == [float, int]


def test_the_corners_hold_both_ends_and_every_choice():
    space = read_space(
        {"lr": "interval(0.1,0.9)", "n": "range(1,9,2)", "act": "a,b,c", "one": "1,2"}
    )
    points = list(corners(space))
    assert len(points) == 3
    found = {key: {point[key] for point in points} for key in space}
    assert found == {"lr": {0.1, 0.9}, "n": {1, 7}, "act": {"a", "b", "c"}, "one": {"1", "2"}}
    assert len(list(corners(read_space({"lr": "interval(0,1)"})))) == 2
