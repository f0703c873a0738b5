import io

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from medvision.evaluation.report.table import Table, escape, show_score, show_seconds

TABLE = Table(
    ["", "train", "test"],
    rows=[["patients", 80, 20]],
    blocks=[("site", [["A", 30, 12], ["[b]*|<i>", 50, 8]]), ("", [["age", "63", "61"]])],
    foot=[["n", 80, 20]],
)


def printed(table, *, terminal=False, width=60):
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    table.print(console)
    return console.file.getvalue().splitlines()


def test_every_row_is_printed_in_order_and_nothing_of_a_cell_is_markup():
    lines = [line.split() for line in printed(TABLE)]
    assert lines == [
        ["train", "test"], ["patients", "80", "20"], ["site"], ["A", "30", "12"],
        ["[b]*|<i>", "50", "8"], ["age", "63", "61"], ["n", "80", "20"],
    ]  # fmt: skip
    assert any("─" in line for line in printed(TABLE, terminal=True))


def test_a_titled_table_is_framed_with_its_numbers_on_the_right():
    lines = printed(Table(["class", "images"], [["a", 5], ["b", 1200]], title="data card: [x]"))
    assert lines[0].strip() == "data card: [x]"
    assert lines[1].startswith("┏")
    assert [line for line in lines if "a" in line][-1] == "│ a     │      5 │"


def test_cells_break_where_a_terminal_is_narrow_and_a_log_keeps_them_whole():
    score = "one two three four five six .971 (.952–.983)"
    table = Table(["", "x"], [["a", score]])
    broken, logged = printed(table, terminal=True, width=20), printed(table, width=20)
    assert len(logged) == 2
    assert logged[1].split(maxsplit=1) == ["a", score]
    assert max(map(len, broken)) <= 20
    assert [word for line in broken for word in line.split() if "─" not in word] == [
        "x", "a", *score.split(),
    ]  # fmt: skip


def test_markdown_shows_every_cell_as_itself():
    html = MarkdownIt("commonmark").enable("table").render(TABLE.markdown())
    assert html.count("<tr>") == 7
    assert "<td>[b]*|&lt;i&gt;</td>" in html
    assert "<th>train</th>" in html


@pytest.mark.parametrize(
    "text", ["a|b", "*a*", "`x`", "_x_", "<b>", "a_b", "[a](b)", "R&D", "~~x~~"]
)
def test_escaped_text_means_itself(text):
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(escape(text))
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert html.strip() == f"<p>{plain}</p>"


def test_scores_are_written_without_a_leading_zero():
    said = [show_score(x) for x in (0.9714, 1, 0, -0.12, -0.0001)]
    assert said == [".971", "1.000", ".000", "-.120", ".000"]


def test_seconds_are_told_as_people_do():
    assert [show_seconds(s) for s in (4, 125, 3780)] == ["4 s", "2 min 5 s", "1 h 3 min"]
