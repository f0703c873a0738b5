"""Pages from templates: self-contained HTML, and Markdown."""

import base64
import struct
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from medvision.evaluation.report.table import Table, escape


@dataclass(frozen=True)
class Section:
    """A table that only runs of one task have.

    Attributes:
        id: its anchor.
        title: in the table of contents; "" = not listed there.
        heading: above it.
        table: with its notes.
        label: of the table alone, for who cannot see it.
    """

    id: str
    title: str
    heading: str
    table: Table
    label: str


def render_page(template: str, **content: Any) -> str:
    """Fill a template: HTML escapes every text, Markdown what its filter `md` is given."""
    return _pages().get_template(template).render(**content)


@cache
def _pages() -> Environment:
    pages = Environment(
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        loader=FunctionLoader(read_template),
        keep_trailing_newline=True,
    )
    pages.globals["css"] = Markup(read_template("report.css"))
    pages.filters["md"] = escape
    return pages


def read_template(name: str) -> str:
    """Return the text of a file in `templates/`."""
    folder = resources.files("medvision.evaluation.report") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def embed_figure(path: Path) -> dict[str, Any]:
    """Return what an `img` needs to show a PNG without its file: data, width, height."""
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])  # of the header every PNG starts with
    return {"data": base64.b64encode(data).decode(), "width": width, "height": height}
