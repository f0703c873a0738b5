"""CLAIM 2024 and TRIPOD+AI, answered where the run folder knows, left to the author elsewhere."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from medvision.evaluation import answers_data, answers_model, answers_results
from medvision.evaluation.report.run_files import RunFiles

ANSWERS = answers_data.ANSWERS | answers_model.ANSWERS | answers_results.ANSWERS
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
    def count(self) -> str:
        """How much is left to do."""
        known = [item.answer for item in self.items if item.answer.text]
        whole = sum(not answer.fill for answer in known)
        return (
            f"Of {len(self.items)} items the run answers {whole}, {len(known) - whole} more in "
            f"part; {len(self.items) - len(known)} are the author's alone."
        )


def fill_checklists(found: RunFiles) -> list[Checklist]:
    """Answer both lists; none of a run without scores, or of a generator, which they do not fit."""
    if found.makes_images or not found.config or not found.metrics:
        return []
    told = {name: tell(found) for name, tell in ANSWERS.items()}
    return [
        Checklist(
            each["name"], each["title"], each["reference"],
            [Item(i["n"], i["section"], i["text"], _answer(i, told)) for i in each["items"]],
        )
        for each in read_lists()
    ]  # fmt: skip


def _answer(item: dict[str, Any], told: dict[str, str]) -> Answer:
    """Join the answers; an item that lacks one of them is not done."""
    texts = [told[name] for name in item.get("answer", ())]
    fill = item.get("fill", "") or ("" if all(texts) and texts else UNKNOWN)
    return Answer(" ".join(text for text in texts if text), fill)


@cache
def read_lists() -> list[dict[str, Any]]:
    """Read the items as they are stored beside this file."""
    text = (resources.files("medvision.evaluation") / "checklist.toml").read_text(encoding="utf-8")
    lists: list[dict[str, Any]] = tomllib.loads(text)["lists"]
    return lists
