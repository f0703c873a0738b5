"""CLAIM 2024, TRIPOD+AI and the model card, answered where the run folder knows, else left open."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from medvision.evaluation.report.page import read_template
from medvision.evaluation.report.summary import Sentences
from medvision.evaluation.report.table import Table

UNKNOWN = "the run folder does not say"


@dataclass(frozen=True)
class Answer:
    """What the run knows, and what an author has to add; either may be ""."""

    text: str
    fill: str = ""


@dataclass(frozen=True)
class Item:
    """One item of a list: its number, where it belongs, what it asks, and the answer."""

    n: str
    section: str
    asked: str
    answer: Answer


@dataclass(frozen=True)
class Checklist:
    """A list with its answers."""

    name: str
    title: str
    reference: str
    items: Sequence[Item]

    @property
    def table(self) -> Table:
        """Its items; the page writes each cell."""
        return Table(["item", "asked", "answer"], [[one.n, one, one.answer] for one in self.items])

    @property
    def count(self) -> str:
        """How much is left to do."""
        known = [item.answer for item in self.items if item.answer.text]
        done = sum(not answer.fill for answer in known)
        return (
            f"Of {len(self.items)} items the run answers {done}, {len(known) - done} more in "
            f"part; {len(self.items) - len(known)} are the author's alone."
        )


@dataclass(frozen=True)
class CardSection:
    """A heading of the model card and what stands below it."""

    title: str
    answers: Sequence[Answer]


def fill_checklists(sentences: Sentences) -> list[Checklist]:
    """Answer both lists; none of a run without scores, or of a task that opens no test."""
    run = sentences.run
    if not (run.config and run.metrics and run.evaluator.opens_test):
        return []
    return [
        Checklist(
            each["name"], each["title"], each["reference"],
            [Item(i["n"], i["section"], i["text"], _answer(i, sentences)) for i in each["items"]],
        )
        for each in read_forms()["lists"]
    ]  # fmt: skip


def _answer(item: dict[str, Any], sentences: Sentences) -> Answer:
    """Join the answers; an item that lacks one of them is not done."""
    texts = [sentences.text(name) for name in item.get("answer", ())]
    fill = item.get("fill", "") or ("" if all(texts) and texts else UNKNOWN)
    return Answer(" ".join(text for text in texts if text), fill)


def write_card(sentences: Sentences) -> list[CardSection]:
    """Return the model card: what the model is for, what it was made of, what it can do.

    There is none of a run without a model or its configuration.
    """
    run = sentences.run
    if not run.record.get("model") or not run.config or not run.metrics:
        return []
    return [CardSection(one["title"], list(_say(one, sentences))) for one in read_forms()["card"]]


def _say(section: dict[str, Any], sentences: Sentences) -> Iterator[Answer]:
    for name in section.get("answer", ()):
        yield from map(Answer, sentences.lines(name))
    if "fill" in section:
        yield Answer("", section["fill"])


@cache
def read_forms() -> dict[str, Any]:
    """Read the sections of the card and the items of the lists."""
    return tomllib.loads(read_template("checklist.toml"))
