"""The one error a user meets, and the few ways it is phrased."""

import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


class MedvisionError(Exception):
    """A mistake the user can mend: one sentence saying what, where and the way out.

    The command line prints its text and ends with exit status 2, without a traceback.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class Stopped(MedvisionError):  # noqa: N818 -- not an error
    """Training was ended on purpose before its end: the run is interrupted, not failed."""


def printable(text: str) -> str:
    """Return text of a user's files without what moves the cursor of a terminal or hides letters.

    Control characters other than line ends, and those that turn the direction of writing, are
    written as Python escapes them.
    """
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in _UNSEEN else ascii(c)[1:-1] for c in text
    )


def collect(what: str, problems: Sequence[str], way_out: str, show: int = 5) -> MedvisionError:
    """Put all problems of one input into one error: the first `show` in full, the rest counted."""
    shown = "; ".join(problems[:show])
    more = f"; and {len(problems) - show} more" if len(problems) > show else ""
    return MedvisionError(f"{what}: {shown}{more}. {way_out}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the nearest known word, or an empty string."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
