from typing import Annotated

import pytest
from omegaconf import OmegaConf

from medvision.errors import MedvisionError
from medvision.ranges import OneOf, Real, Switch, Whole, rules_of
from medvision.training.validate import check_ranges


class Base:
    def __init__(self, width: Annotated[int, Whole(1)], plain: int = 0) -> None: ...


class Derived(Base):
    def __init__(
        self, *, share: Annotated[float | None, Real(0.0, 1.0, null=True)] = None, **others: object
    ) -> None: ...


class Alone(Base):
    def __init__(self, on: Annotated[bool, Switch()] = True) -> None: ...


def test_rules_are_read_from_a_constructor_and_those_it_hands_on_to():
    assert rules_of(Derived) == {"share": Real(0.0, 1.0, null=True), "width": Whole(1)}
    assert rules_of(Alone) == {"on": Switch()}
    assert rules_of(int) == {}


@pytest.mark.parametrize(
    ("rule", "fits", "not_so", "told"),
    [
        (Whole(1), (1, 7), (0, 1.0, True, None, "1"), "a whole number, 1 or more"),
        (Whole(0, null=True), (0, None), (-1,), "a whole number, 0 or more"),
        (Real(0.0), (0, 0.5, 3), (-0.1, None, True, "a"), "a number from 0"),
        (Real(0.0, 1.0, null=True), (1, None), (1.1,), "a number from 0 to 1"),
        (Switch(), (True, False), (1, None, "true"), "true or false"),
        (OneOf(("keep", True, None)), ("keep", True, None), (1, "none"), "keep or true or null"),
    ],
)
def test_a_rule_says_what_a_value_must_be(rule, fits, not_so, told):
    assert [rule.broken(value) for value in fits] == [None] * len(fits)
    assert [rule.broken(value) for value in not_so] == [told] * len(not_so)
    assert OneOf(("system",)).broken("sistem") == "system (did you mean 'system'?)"


def test_all_values_that_cannot_be_are_named_by_their_keys():
    config = OmegaConf.create({
        "seed": -1, "trainer": {"max_epochs": 0}, "data": {"unit": "image"},
        "model": {"_target_": "medvision.tasks.classification.task.Classifier", "mixup": -1,
                  "frozen_epochs": "x", "class_weights": None,
                  "loss": {"_target_": "medvision.losses.focal", "label_smoothing": 2},
                  "net": {"_target_": "nowhere.Net", "mixup": -1}},
    })  # fmt: skip
    with pytest.raises(MedvisionError) as error:
        check_ranges(config)
    for told in (
        "seed=-1 must be a whole number, 0 or more",
        "trainer.max_epochs=0 must be a whole number, 1 or more",
        "model.mixup=-1 must be a number from 0",
        "model.frozen_epochs=x must be a whole number, -1 or more",
        "model.loss.label_smoothing=2 must be a number from 0 to 1",
    ):
        assert told in str(error.value)
    assert str(error.value).count("must be") == 5
