"""Search spaces: from Hydra's grammar of sweeps to Optuna's distributions, and back to words.

interval(0, 0.5)                   any number between
tag(log, interval(1e-5, 1e-2))     the same, even on a logarithmic scale
int(interval(1, 8)), tag(int, …)   whole numbers, both ends among them
range(1, 10, 3)                    1, 4, 7
choice(a, b) or a,b                one of these, as Hydra would hear it
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from medvision.errors import MedvisionError, collect
from medvision.training.config import quote

Space = dict[str, BaseDistribution]
FORMS = (
    "Use interval(low,high), tag(log,interval(low,high)), int(interval(low,high)), "
    "range(start,stop,step) or choice(a,b)"
)


def part_sweeps(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Part words that give one value from those that give several: key → text in the grammar.

    Raises:
        MedvisionError: a word that is not key=value.
    """
    parser = OverridesParser.create()
    fixed: list[str] = []
    swept: dict[str, str] = {}
    for word in map(quote, words):
        if "=" not in word and not word.startswith("~"):
            raise MedvisionError(f"{word!r} is not key=value; see medvision tune --help")
        override = parser.parse_override(word)
        if override.is_sweep_override():
            swept[override.get_key_element()] = word.partition("=")[2]
        else:
            fixed.append(word)
    return fixed, swept


def read_space(swept: Mapping[str, str]) -> Space:
    """Turn each key's text into a distribution.

    Raises:
        MedvisionError: naming every text that cannot be searched.
    """
    parser = OverridesParser.create()
    space: Space = {}
    problems: list[str] = []
    for key, text in swept.items():
        try:
            space[key] = _read_distribution(parser.parse_override(f"{key}={text}"))
        except (ValueError, HydraException) as error:
            problems.append(f"{key}={text} {str(error).splitlines()[0]}")
    if problems:
        raise collect("spaces that cannot be searched", problems, FORMS)
    return space


def _read_distribution(override: Override) -> BaseDistribution:
    """Turn one parsed sweep into a distribution.

    Raises:
        ValueError: the end of a sentence that begins with the word.
    """
    sweep = override.value()
    tags = set(getattr(sweep, "tags", ()))
    if unknown := tags - {"log", "int"}:
        raise ValueError(f"has the tag {min(unknown)!r}, and only log and int mean something")
    if isinstance(sweep, IntervalSweep):
        return _read_interval(sweep, tags)
    if tags:
        raise ValueError(f"has the tag {min(tags)!r}, which only an interval takes")
    if isinstance(sweep, RangeSweep):
        return _read_range(sweep)
    if isinstance(sweep, ChoiceSweep):
        sweep.shuffle = False  # every process must hear the same list
        return CategoricalDistribution(list(dict.fromkeys(override.sweep_string_iterator())))
    raise ValueError("is a pattern; name what to choose from with choice(a,b)")


def _read_interval(sweep: IntervalSweep, tags: set[str]) -> BaseDistribution:
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    log, whole = "log" in tags, "int" in tags or (isinstance(low, int) and isinstance(high, int))
    if not (isfinite(low) and isfinite(high)):
        raise ValueError("has no finite end")
    if low > high:
        raise ValueError("ends below its start")
    if log and low <= 0:
        raise ValueError("starts at 0 or below, where there is no logarithm")
    if not whole:
        return FloatDistribution(low, high, log=log)
    if low != int(low) or high != int(high):
        raise ValueError("is to be whole numbers, and an end of it is not")
    return IntDistribution(int(low), int(high), log=log)


def _read_range(sweep: RangeSweep) -> BaseDistribution:
    values = list(sweep.range())
    if not values:
        raise ValueError("holds no value")
    low, high, step = min(values), max(values), abs(sweep.step)
    if all(isinstance(value, int) for value in values):
        return IntDistribution(int(low), int(high), step=int(step))
    return FloatDistribution(low, high, step=step)


def write_words(values: Mapping[str, object]) -> list[str]:
    """Write drawn values as Hydra's words; numbers come back bit for bit."""
    return [f"{key}={value}" for key, value in values.items()]


def corners(space: Space) -> Iterator[dict[str, object]]:
    """Yield few points that hold both ends of every interval and every single choice."""
    choices = [len(d.choices) for d in space.values() if isinstance(d, CategoricalDistribution)]
    for n in range(max([2, *choices])):
        yield {key: _pick(distribution, n) for key, distribution in space.items()}


def _pick(distribution: BaseDistribution, n: int) -> object:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[n % len(distribution.choices)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.high if n % 2 else distribution.low
