"""Pages from templates: self-contained HTML, and the same tables as Markdown."""

import base64
import re
import struct
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from medvision.evaluation.report.table import Grid


def render_page(template: str, **content: Any) -> str:
    """Fill a template of `evaluation`, or `package/file`; every text of the user is escaped."""
    pages = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_read_template)
    )
    css = Markup(_read_template("report.css"))
    return pages.get_template(template).render(css=css, **content)


def _read_template(name: str) -> str:
    package, _, file = name.rpartition("/")
    place = resources.files(package or "medvision.evaluation")
    return (place / file).read_text(encoding="utf-8")


def embed_figure(path: Path) -> dict[str, Any]:
    """Return what an `img` needs to show a PNG without its file: data, width, height."""
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])  # of the header every PNG starts with
    return {"data": base64.b64encode(data).decode(), "width": width, "height": height}


def write_grid(grid: Grid) -> str:
    """Write a table in GitHub's Markdown."""
    rows = [grid.head, ["---"] * len(grid.head), *grid.rows]
    return "".join(f"| {' | '.join(map(escape, row))} |\n" for row in rows)


def escape(cell: Any) -> str:
    """Make any text one cell that means itself."""
    text = " ".join(str(cell).split())
    text = re.sub(r"([\\|*`\[~])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"\b_|_\b", r"\\_", text)  # inside a word it means itself


def write_list(sentences: Iterable[str]) -> str:
    """Write sentences as a Markdown list."""
    return "".join(f"- {escape(sentence)}\n" for sentence in sentences)
