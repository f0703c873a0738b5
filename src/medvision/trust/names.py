"""What files may name: tasks and units of ours, and what this user made or trusts."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from medvision.errors import MedvisionError
from medvision.target import find_folder

WAY_OUT = (
    "if you trust whoever made it, say trust=true: it may then run any code that is installed here"
)
_trusted: ContextVar[bool] = ContextVar("trusted", default=False)


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Let what files name run inside this context, as `trust=true` does for a command."""
    token = _trusted.set(trust or _trusted.get())
    try:
        yield
    finally:
        _trusted.reset(token)


def is_trusted() -> bool:
    """Tell whether the user said `trust=true`."""
    return _trusted.get()


def refuse_foreign_name(name: str, what: Literal["task", "unit"], place: object) -> None:
    """Refuse to import what a file names, unless it is one of ours or trusted.

    Args:
        name: a task or a unit: ours by its short name, a foreign one by its dotted path.
        what: it is.
        place: the file, for the sentence.

    Raises:
        MedvisionError: it is a foreign one.
    """
    ours = bool(find_folder(name)) if what == "task" else "." not in name
    if ours or is_trusted():
        return
    raise MedvisionError(
        f"{place} names the {what} {name}, which is none of medvision's, and the file was not made "
        f"with your key; {WAY_OUT}"
    )
