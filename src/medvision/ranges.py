"""What an option may be, said where it is taken: `mixup: Annotated[float, Real(0)] = 0.0`.

`medvision train` reads the rules from the constructors that a configuration names, and refuses all
values that cannot be before anything is built.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, Protocol, get_args, runtime_checkable

from medvision.errors import did_you_mean

WORDS: dict[str | bool | None, str] = {None: "null", True: "true", False: "false"}


@runtime_checkable
class Rule(Protocol):
    """What the value of an option may be."""

    def broken(self, value: Any) -> str | None:
        """Return what the value must be, where it is not."""


@dataclass(frozen=True)
class Whole:
    """A whole number, `low` or more; with `null` also none."""

    low: int
    null: bool = False

    def broken(self, value: Any) -> str | None:
        fits = type(value) is int and value >= self.low
        return None if fits or _is_none(self, value) else f"a whole number, {self.low} or more"


@dataclass(frozen=True)
class Real:
    """A number from `low` to `high`; with `null` also none."""

    low: float
    high: float = inf
    null: bool = False

    def broken(self, value: Any) -> str | None:
        fits = type(value) in (int, float) and self.low <= value <= self.high
        if fits or _is_none(self, value):
            return None
        return f"a number from {self.low:g}" + ("" if self.high == inf else f" to {self.high:g}")


@dataclass(frozen=True)
class OneOf:
    """One of a few values; 1 is no true."""

    choices: tuple[str | bool | None, ...]

    def broken(self, value: Any) -> str | None:
        if any(value == choice and type(value) is type(choice) for choice in self.choices):
            return None
        shown = [WORDS.get(choice, str(choice)) for choice in self.choices]
        return f"{' or '.join(shown)}{did_you_mean(str(value), shown)}"


@dataclass(frozen=True)
class Switch:
    """True or false."""

    def broken(self, value: Any) -> str | None:
        return None if isinstance(value, bool) else "true or false"


def rules_of(constructor: Callable[..., Any]) -> dict[str, Rule]:
    """Return the rules of a function's or class's arguments, those of base classes included."""
    chain = [c for c in constructor.__mro__ if "__init__" in vars(c)] if (
        inspect.isclass(constructor)
    ) else [constructor]  # fmt: skip
    found: dict[str, Rule] = {}
    for step in chain:
        parameters = inspect.signature(step).parameters.values()
        for parameter in parameters:
            for said in get_args(parameter.annotation):
                if isinstance(said, Rule) and not isinstance(said, type):
                    found.setdefault(parameter.name, said)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def _is_none(rule: Whole | Real, value: Any) -> bool:
    return rule.null and value is None
