"""The one table, for terminal, Markdown and pages; and numbers as all of them write them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box, table
from rich.console import Console
from rich.text import Text

UNITS = ("series", "images", "patients")
PARTS = ("train", "val", "test")
DASH = "\N{EN DASH}"
UNDEFINED = DASH
_ENDLESS = 10_000  # characters of a line

Row = Sequence[Any]
Block = tuple[str, Sequence[Row]]  # a title and the rows below it


@dataclass(frozen=True)
class Table:
    """Rows below a head; a page shows it by the macro `table`.

    Attributes:
        head: names of the columns.
        rows: cells, the first of which names its row.
        blocks: further rows that belong together, below a title; it is "" where each row says
            alone what it is.
        foot: rows of counts, apart from the others.
        notes: what a reader must know of it; whoever prints it says where they stand.
        title: of a table that stands alone in the terminal: it is framed, its numbers on the right.
    """

    head: Sequence[str]
    rows: Sequence[Row] = ()
    blocks: Sequence[Block] = ()
    foot: Sequence[Row] = ()
    notes: Sequence[str] = ()
    title: str = ""

    @property
    def bodies(self) -> list[Block]:
        """All rows above the foot, in blocks."""
        return [("", self.rows)] * bool(self.rows) + list(self.blocks)

    @property
    def lines(self) -> list[Row]:
        """All rows above the foot, titles of blocks among them."""
        return [row for title, rows in self.bodies for row in [[title]] * bool(title) + [*rows]]

    def print(self, console: Console) -> None:
        """Print it whole: cells break where a terminal is narrow, a log's lines are as long."""
        framed = bool(self.title)
        plain: dict[str, Any] = {
            "box": box.SIMPLE_HEAD if console.is_terminal else None,
            "pad_edge": False, "padding": (0, 1, 0, 0), "header_style": "bold",
        }  # fmt: skip
        title = Text(self.title, "table.title") if framed else None
        grid = table.Table(title=title, title_justify="left", **({} if framed else plain))
        for number, name in enumerate(self.head):
            justify: Any = "right" if framed and number else "left"
            grid.add_column(Text(str(name)), justify=justify, overflow="fold")
        for rows, style in ((self.lines, ""), (self.foot, "dim")):
            for row in rows:
                grid.add_row(*(Text(str(cell)) for cell in row), style=style)
        width = console.width
        if not console.is_terminal:
            endless = console.options.update(max_width=_ENDLESS)
            console.width = max(width, console.measure(grid, options=endless).maximum)
        console.print(grid)
        console.width = width

    def markdown(self) -> str:
        """Write it as GitHub reads it."""
        rows = [self.head, ["---"] * len(self.head), *self.lines, *self.foot]
        return "".join(f"| {' | '.join(map(escape, row))} |\n" for row in rows)


def escape(cell: Any) -> str:
    """Make any text one cell of Markdown that means itself."""
    text = " ".join(str(cell).split())
    text = re.sub(r"([\\|*`\[~])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"\b_|_\b", r"\\_", text)  # inside a word it means itself


def write_list(sentences: Iterable[str]) -> str:
    """Write sentences as a Markdown list."""
    return "".join(f"- {escape(sentence)}\n" for sentence in sentences)


def show_score(value: float) -> str:
    """Write a score with three digits and no leading zero: `.971`, `-.120`, `1.000`."""
    text = f"{value:.3f}"
    text = "0.000" if text == "-0.000" else text
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def show_interval(score: Mapping[str, Any] | None) -> str:
    """Write `{value, low, high}` as `.971 (.952-.983)`; a dash where there is none."""
    if not score or score.get("value") is None:
        return UNDEFINED
    low, high = score.get("low"), score.get("high")
    if low is None or high is None:
        return f"{show_score(score['value'])} ({UNDEFINED})"
    between = ", " if low < 0 else DASH
    return f"{show_score(score['value'])} ({show_score(low)}{between}{show_score(high)})"


def show_seconds(seconds: float) -> str:
    """Write `4 s`, `2 min 5 s` or `1 h 3 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def count_words(n: Mapping[str, Any] | None) -> str:
    """Write `{images, patients}` as `624 images, 310 patients`; of series likewise."""
    return ", ".join(f"{n[unit]} {unit}" for unit in UNITS if n and n.get(unit) is not None)
