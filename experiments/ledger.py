"""Write the ledger of all studies, and the results of the project's READMEs, from their pages.

    python experiments/ledger.py

A study's page says which cells of its tables the project's READMEs show, in comments:

    <!-- headline: DATA | METRIC | BLOCK | pattern of the rows | COLUMN -->
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from medvision.files import write_text

HERE = Path(__file__).parent
HEADLINE = re.compile(r"<!-- headline: (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) -->")
ORIGIN = re.compile(r"folders, ([\d-]+), commit ([0-9a-f]{10}(?:, [0-9a-f]{10})*)")
COUNT = re.compile(r"\d+ (?:[\w-]+ )?(?:images|patients|series|X-rays)(?:, \d+ [a-z]+(?: each)?)?")


def fill(page: Path, block: str, lines: list[str]) -> None:
    """Replace what stands between two markers of a page."""
    start, end = f"<!-- {block} -->", f"<!-- /{block} -->"
    before, _, rest = page.read_text().partition(start)
    after = rest.partition(end)[2]
    write_text(page, f"{before}{start}\n\n" + "\n".join(lines) + f"\n\n{end}{after}")


def fill_ledgers() -> None:
    """Write the ledger of all studies, and the results the project's front pages show."""
    fill(HERE / "README.md", "ledger", list(write_ledger()))
    for page in ("README.md", "README.zh-CN.md"):
        fill(HERE.parent / page, "ledger", list(write_results()))


def write_ledger() -> Iterator[str]:
    """Yield a row a study, read from the studies' own pages."""
    yield "| study | date | question | command | answer | commit |"
    yield "|---|---|---|---|---|---|"
    for page in sorted(HERE.glob("*/README.md")):
        text, name = page.read_text(), page.parent.name
        question = re.search(r"\*\*Question\.\*\* (.+?)\n\n", text, re.S)
        command = re.search(r"^Run: (`.+?`)", text, re.M)
        answer = re.search(r"\*\*Answer\.\*\* (.+)", text)
        origin = ORIGIN.search(text)
        cells = [
            f"[{name}]({name}/README.md)", origin[1] if origin else "",
            " ".join(question[1].split()) if question else "", command[1] if command else "",
            answer[1] if answer else "not run yet", origin[2] if origin else "",
        ]  # fmt: skip
        yield "| " + " | ".join(cells) + " |"


def write_results() -> Iterator[str]:
    """Yield a row a headline: the cells of a study's tables that it points at."""
    yield "| study | data | n | result | command | commit |"
    yield "|---|---|---|---|---|---|"
    for page in sorted(HERE.glob("*/README.md")):
        text, name = page.read_text(), page.parent.name
        command = re.search(r"^Run: `.*?(bash \S+|make \w+)`", text, re.M)
        for data, metric, block, row, column in HEADLINE.findall(text):
            part = text.partition(f"<!-- {block} -->")[2].partition(f"<!-- /{block} -->")[0]
            found = list(read_rows(part, row, column))
            if part.strip() and not found:
                sys.exit(f"{page}: no row {row!r} with a column {column!r} between {block} marks")
            origin = ORIGIN.search(part)
            cells = [
                f"[{name}](experiments/{name}/README.md)", data,
                found[0][1] or count(part) or count(text) if found else "",
                f"{metric} {' · '.join(value for value, _ in found)}" if found else "not run yet",
                f"`{command[1]}`" if command else "", origin[2] if origin else "",
            ]  # fmt: skip
            yield "| " + " | ".join(cells) + " |"


def read_rows(part: str, row: str, column: str) -> Iterator[tuple[str, str]]:
    """Yield of each table row that fits what stands in a column, and how many it counts."""
    heads: list[str] = []
    before: list[str] = []
    for line in part.splitlines():
        cells = [cell.strip() for cell in line.replace("**", "").strip("|").split("|")]
        if line.startswith("|--"):
            heads = before
        elif line.startswith("|") and column in heads and re.match(row, cells[0]):
            named = f"{heads[1]}: {cells[1]}; {heads[0]}; {cells[0]}"
            yield cells[heads.index(column)], count(named)
        before = cells


def count(text: str) -> str:
    """Return the first number of patients that a text tells, else of images."""
    if both := re.match(r"n images \(patients\): (\d+) \((\d+)\)", text):
        return f"{both[1]} images, {both[2]} patients"
    found = COUNT.findall(text)
    return next((words for words in found if "patients" in words), (found or [""])[0])


if __name__ == "__main__":
    fill_ledgers()
